//! The whole of an open database at one moment, held still: what a checkpoint copies and what a verification reads.

use std::sync::Arc;

use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::flush::remove_log;
use crate::manifest::catalog::Catalog;
use crate::version::Version;

/// Tables and segments of the log that make up one position. Their files stay as long as it lives (rule E5), whatever is
/// flushed, compacted or dropped meanwhile.
pub(crate) struct Pin<'a> {
    engine: &'a Engine,
    pub(crate) catalog: Catalog,
    /// Its trees are those of `catalog`.
    pub(crate) version: Arc<Version>,
    /// Ascending, from the first one that `catalog` names.
    pub(crate) segments: Vec<u64>,
    /// How much of the last segment belongs to the position.
    pub(crate) tail_bytes: u64,
    /// The position in the log as a whole.
    pub(crate) position: u64,
    /// Number of the last operation.
    pub(crate) last_sequence: u64,
}

impl<'a> Pin<'a> {
    /// Pins this moment.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub(crate) fn take(engine: &'a Engine) -> Result<Self, Error> {
        // Edits change catalog and trees under the first lock, writers and seals the rest under the second.
        let manifest = lock(&engine.manifest);
        let mut log = lock(&engine.log);
        engine.health.check()?;
        let catalog = manifest.catalog().clone();
        let segments = log.segments.iter().copied().filter(|&number| number >= catalog.log_segment).collect();
        log.pinned.push(catalog.log_segment);
        Ok(Self {
            engine,
            version: Arc::clone(&engine.version()),
            segments,
            tail_bytes: log.writer.position() - log.writer.start(),
            position: log.writer.position(),
            last_sequence: log.next_sequence - 1,
            catalog,
        })
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        {
            let mut log = lock(&self.engine.log);
            let at = log.pinned.iter().position(|&segment| segment == self.catalog.log_segment);
            log.pinned.swap_remove(at.expect("a pin is taken once and given back once"));
        }
        if !self.engine.health.is_poisoned() {
            remove_log(self.engine, self.engine.catalog().log_segment);
        }
    }
}
