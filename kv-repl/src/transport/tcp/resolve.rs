//! Names into addresses, off the loop: a lookup may block for seconds.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use super::signal::Signal;

/// Identifies a lookup, so that the answer to one that no longer matters is not taken for another's.
pub(super) type LookupId = u64;

/// What a lookup found.
type Answer = (LookupId, Vec<SocketAddr>);

/// Runs lookups on short-lived threads and keeps their answers until the loop takes them. A thread outlives the loop by at
/// most the lookup it is in.
pub(super) struct Resolver {
    answers: Arc<Mutex<Vec<Answer>>>,
    signal: Arc<Signal>,
    lookups: LookupId,
}

impl Resolver {
    pub(super) fn new(signal: Arc<Signal>) -> Self {
        Self { answers: Arc::default(), signal, lookups: 0 }
    }

    /// Starts to look up `host:port`; `None` when the system has no thread to spare.
    pub(super) fn start(&mut self, address: &str) -> Option<LookupId> {
        self.lookups += 1;
        let id = self.lookups;
        let (address, answers, signal) = (address.to_owned(), Arc::clone(&self.answers), Arc::clone(&self.signal));
        let lookup = move || {
            let found = address.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((id, found));
            signal.raise();
        };
        std::thread::Builder::new().name("kv-resolve".into()).spawn(lookup).ok().map(|_| id)
    }

    /// The answers that have come; an empty one is a name that could not be resolved.
    pub(super) fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
