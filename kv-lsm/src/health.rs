//! Whether the database may still write. Rule E6: after a failed sync of the log or the manifest what is on the disk is
//! unknown, so nothing is acknowledged or written any more, and what is not known to be durable is no longer read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

pub(crate) struct Health {
    /// Reads that meet anything newer fail. No limit while all is well.
    trusted_sequence: AtomicU64,
    reason: OnceLock<String>,
}

impl Health {
    pub(crate) const fn new() -> Self {
        Self { trusted_sequence: AtomicU64::new(u64::MAX), reason: OnceLock::new() }
    }

    /// Ends all writing. Only the first failure counts.
    pub(crate) fn poison(&self, durable_sequence: u64, error: &Error) {
        self.trusted_sequence.fetch_min(durable_sequence, Ordering::AcqRel);
        let _ = self.reason.set(error.to_string());
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.reason.get().is_some()
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// # Errors
    /// [`Error::Poisoned`] after a failure.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned { reason: reason.to_owned() }),
        }
    }

    pub(crate) fn trusted_sequence(&self) -> u64 {
        self.trusted_sequence.load(Ordering::Acquire)
    }
}
