//! Hands the writes of a workload to the clients.

use std::sync::mpsc::SyncSender;

use kv_core::hash::token_of;
use thiserror::Error;

use crate::input_file::InputError;
use crate::workload::{Workload, Write};

/// Writes that wait for one client at most, so that what was handed out is soon under way.
pub const WRITES_AHEAD: usize = 16;

/// Why no more can be handed out.
#[derive(Debug, Error)]
pub enum FeedError {
    /// See [`InputError`].
    #[error(transparent)]
    Input(#[from] InputError),
    /// A client has ended before its time; it knows why.
    #[error("a client has ended early")]
    ClientGone,
}

/// A workload and those who carry it out. Dropping it tells them that nothing more comes.
pub struct Feeder<'a> {
    workload: Workload,
    clients: Vec<SyncSender<Write>>,
    on_progress: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Feeder<'a> {
    /// `on_progress` is told how much of the workload was handed out.
    #[must_use]
    pub fn new(workload: Workload, clients: Vec<SyncSender<Write>>, on_progress: impl FnMut(u64) + 'a) -> Self {
        Self { workload, clients, on_progress: Box::new(on_progress) }
    }

    /// Hands out one write, always to the same client for one key. `false` when there is none left.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn feed_one(&mut self) -> Result<bool, FeedError> {
        let Some(write) = self.workload.next().transpose()? else { return Ok(false) };
        let clients = self.clients.len() as u64;
        let client = usize::try_from(token_of(&write.key).0 % clients).expect("less than a length");
        self.clients[client].send(write).map_err(|_| FeedError::ClientGone)?;
        (self.on_progress)(self.workload.progress().0);
        Ok(true)
    }

    /// Hands out what comes before `thirds` thirds of the workload are through.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn feed_until(&mut self, thirds: u64) -> Result<(), FeedError> {
        while !self.has_fed(thirds) && self.feed_one()? {}
        Ok(())
    }

    /// Whether `thirds` thirds of the workload were handed out.
    #[must_use]
    pub fn has_fed(&self, thirds: u64) -> bool {
        let (done, total) = self.workload.progress();
        done * 3 >= total * thirds
    }
}
