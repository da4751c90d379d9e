//! Guarantees that span the requests of one client (rule P17).
//!
//! A [`Session`] remembers which versions its requests have seen and written, key by key. Through it, whatever the levels and
//! whichever nodes are asked:
//!
//! - *read your writes*: a read sees every write of the session that was acknowledged before it began;
//! - *monotonic reads*: a read sees all that an earlier read of the session saw;
//! - *writes follow reads*: a write comes after all that the session had seen. It replaces it, unless its client says itself what
//!   it replaces; in a last-write-wins table it is stamped above it; in a table of a data type it is made by a replica that has seen
//!   all of it, unless it comes to the same in any order.
//!
//! So reads at `One` are enough where a client only has to see what it has seen. A replica that is behind does not answer
//! for the others: further ones are asked, and if none is new enough by the deadline the read fails with
//! [`BehindSession`](crate::request::ReadError::BehindSession). All of that is for each key by itself; nothing is promised
//! across keys. Cache tables have no part in sessions, whose requests there are as those without one: what was seen may be gone.
//!
//! Source: Terry and others, "Session guarantees for weakly consistent replicated data" (PDIS 1994).

pub(crate) mod state;
mod token;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub use state::KEYS_MAX;
pub use token::{InvalidToken, TOKEN_BYTES_MAX};

use state::{SessionState, Ticket};

/// What one client has seen and written. A clone is the same session; give it to each request with `.session(&session)`.
///
/// Requests that are under way at the same time know nothing of each other; each of them begins with what was seen when
/// it began. At most [`KEYS_MAX`] keys are remembered. When more are used, those forgotten are read at a quorum, whatever
/// level is asked for, and see no less than before.
#[derive(Clone, Default)]
pub struct Session {
    state: Arc<Mutex<SessionState>>,
}

impl Session {
    /// A session that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with a session that was carried over as a token, in this process or another one. A token belongs to the cluster
    /// that it speaks of; in another one, reads of its keys are never new enough.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn resume(token: &[u8]) -> Result<Self, InvalidToken> {
        let state = SessionState::decode(token)?;
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// What was seen so far, as at most [`TOKEN_BYTES_MAX`] bytes.
    #[must_use]
    pub fn token(&self) -> Bytes {
        self.state().encode()
    }

    /// Of how many keys it knows what was seen.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.state().entries.len()
    }

    /// Whether it had to forget keys, and reads those it does not know at a quorum.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.state().has_forgotten()
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        // Nothing panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `begin` take a ticket, to be told later what became of the request.
    pub(crate) fn begin<T>(&self, begin: impl FnOnce(&mut SessionState) -> (Ticket, T)) -> (UnderWay, T) {
        let (ticket, more) = begin(&mut self.state());
        (UnderWay { session: self.clone(), ticket: Some(ticket) }, more)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("keys", &self.keys()).field("has_forgotten", &self.has_forgotten()).finish()
    }
}

/// A request of a session. Dropping it tells the session that nothing came of it.
pub(crate) struct UnderWay {
    session: Session,
    ticket: Option<Ticket>,
}

impl UnderWay {
    pub(crate) fn ticket(&self) -> &Ticket {
        self.ticket.as_ref().expect("a request that has not ended")
    }

    pub(crate) fn end(mut self, end: impl FnOnce(&mut SessionState, &Ticket)) {
        if let Some(ticket) = self.ticket.take() {
            end(&mut self.session.state(), &ticket);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session.state().abandon(&ticket);
        }
    }
}
