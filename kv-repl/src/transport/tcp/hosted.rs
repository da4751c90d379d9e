//! A loop without a thread of its own: its host runs it, beside whatever else waits for sockets on that thread.

use std::ops::ControlFlow::{self, Break};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::event_loop::EventLoop;
use super::shared::Shared;
use crate::transport::Inbound;

/// The loop of a [`TcpTransport`](super::TcpTransport) that was bound with
/// [`bind_hosted`](super::TcpTransport::bind_hosted): the node's turns run when the host calls [`TcpLoop::round`], on the host's
/// thread. A program that serves clients on an event loop of its own saves two hand-overs between threads for each request that
/// way.
///
/// All rounds run on one thread, that of the first. Wait for its descriptor ([`AsFd`](std::os::fd::AsFd), on Unix)
/// together with whatever else the thread waits for, no longer than [`TcpLoop::patience`], and then call
/// [`TcpLoop::round`] with no time to wait. Requests that are made on this thread between two rounds start with the next round
/// and cost no system call; so call a round after them, too. Their futures are woken within rounds. Whoever blocks this thread until a
/// request is answered ([`wait`](crate::client::Pending::wait)) waits for himself.
///
/// [`Node::stop`](crate::Node::stop), on this thread, runs the last turns itself; on another one it waits for the rounds that are
/// still to come.
pub struct TcpLoop {
    shared: Arc<Shared>,
    hosted: Arc<Hosted>,
    #[cfg(unix)]
    descriptor: std::os::fd::OwnedFd,
}

/// What the handle and the loop of a host share: the loop's inside, until the transport is detached.
pub(super) struct Hosted(Mutex<Option<Running>>);

struct Running {
    event_loop: EventLoop,
    attached: Receiver<Arc<dyn Inbound>>,
    inbound: Option<Arc<dyn Inbound>>,
}

impl TcpLoop {
    pub(super) fn new(
        shared: Arc<Shared>,
        event_loop: EventLoop,
        attached: Receiver<Arc<dyn Inbound>>,
    ) -> std::io::Result<Self> {
        #[cfg(unix)]
        let descriptor = std::os::fd::AsFd::as_fd(event_loop.registry()).try_clone_to_owned()?;
        let running = Running { event_loop, attached, inbound: None };
        Ok(Self {
            shared,
            hosted: Arc::new(Hosted(Mutex::new(Some(running)))),
            #[cfg(unix)]
            descriptor,
        })
    }

    pub(super) fn hosted(&self) -> Arc<Hosted> {
        Arc::clone(&self.hosted)
    }

    /// Waits for sockets, timers and requests of other threads, at most for `longest`; reads, runs the node's turn if there is
    /// reason for one, and writes. Breaks when the node or the transport has stopped, and ever after.
    ///
    /// # Panics
    /// When an earlier round ran on another thread, or from within a round.
    pub fn round(&mut self, longest: Duration) -> ControlFlow<()> {
        self.run(|running| running.round(longest))
    }

    /// A round that looks at no sockets, and so saves a system call: for a host whose descriptor did not become readable the last
    /// time he waited, and who has made requests since.
    ///
    /// # Panics
    /// As [`TcpLoop::round`].
    pub fn round_without_sockets(&mut self) -> ControlFlow<()> {
        self.run(Running::round_without_sockets)
    }

    fn run(&mut self, round: impl FnOnce(&mut Running) -> ControlFlow<()>) -> ControlFlow<()> {
        if !self.shared.signal.is_loop_thread() {
            self.shared.signal.adopt_thread();
        }
        let mut place = self.hosted.lock();
        let Some(running) = place.as_mut() else { return Break(()) };
        let round = round(running);
        if round.is_break() {
            *place = None;
        }
        round
    }

    /// How long the loop needs no round unless its descriptor becomes readable or a request was made; for ever, if nothing is said.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.hosted.lock().as_ref().map_or(Some(Duration::ZERO), |running| match running.inbound {
            Some(_) => running.event_loop.patience(),
            // Whoever attaches wakes nobody.
            None => Some(Duration::from_millis(1)),
        })
    }
}

/// Becomes readable when a round has something to do. (It is an epoll instance, or a kqueue.)
#[cfg(unix)]
impl std::os::fd::AsFd for TcpLoop {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for TcpLoop {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl std::fmt::Debug for TcpLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpLoop").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

impl Running {
    fn round(&mut self, longest: Duration) -> ControlFlow<()> {
        let inbound = match &self.inbound {
            Some(inbound) => inbound,
            None => match self.attached.recv_timeout(longest) {
                Ok(inbound) => self.inbound.insert(inbound),
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                // The transport was dropped without ever having had a node.
                Err(RecvTimeoutError::Disconnected) => return Break(()),
            },
        };
        self.event_loop.round(Some(longest), &**inbound)
    }

    fn round_without_sockets(&mut self) -> ControlFlow<()> {
        match &self.inbound {
            Some(inbound) => self.event_loop.round_without_sockets(&**inbound),
            None => self.round(Duration::ZERO),
        }
    }
}

impl Hosted {
    /// Closes the sockets, as soon as no round is under way; from within a round, after it.
    pub(super) fn end(&self, is_loop_thread: bool) {
        if !is_loop_thread {
            *self.lock() = None;
            return;
        }
        match self.0.try_lock() {
            Ok(mut place) => *place = None,
            Err(TryLockError::Poisoned(place)) => *place.into_inner() = None,
            // A round of this thread is under way, and breaks: it was told to stop.
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        // A panic of the node's turn has been reported by the thread that ran it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
