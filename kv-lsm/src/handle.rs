//! What every public handle holds: the engine stays open as long as one of them lives.

use std::ops::Deref;
use std::sync::Arc;

use crate::background::{self, Workers};
use crate::engine::Engine;
use crate::error::Error;
use crate::options::Background;

/// Shared by the database, its keyspaces, snapshots and iterators. The last one to go closes it: the threads end, and
/// everything written becomes durable, unless the database is poisoned, when nothing is written any more.
pub(crate) struct Handle {
    engine: Arc<Engine>,
    workers: Option<Workers>,
}

impl Handle {
    pub(crate) fn new(engine: Engine) -> Result<Arc<Self>, Error> {
        let engine = Arc::new(engine);
        let workers = match engine.config.background {
            Background::Threads => Some(Workers::start(&engine)?),
            Background::Manual => None,
        };
        Ok(Arc::new(Self { engine, workers }))
    }
}

impl Deref for Handle {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.workers.take());
        if !self.engine.health.is_poisoned() {
            // Whoever needs to know calls sync before; a failure here is found by the next recovery.
            let _ = background::sync_all(&self.engine);
            self.engine.purge();
        }
    }
}
