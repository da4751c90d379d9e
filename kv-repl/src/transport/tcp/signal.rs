//! How other threads get the loop's attention, with as few system calls as possible.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use mio::{Registry, Token, Waker};

/// Raised by any thread; interrupts the loop's wait.
pub(super) struct Signal {
    waker: Waker,
    /// Raised since the loop last looked. Only whoever raises it first pays for a system call.
    raised: AtomicBool,
    /// The node asked for a turn.
    turn: AtomicBool,
    /// The loop must end.
    stop: AtomicBool,
    loop_thread: OnceLock<ThreadId>,
}

impl Signal {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(registry, token)?,
            raised: AtomicBool::new(false),
            turn: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            loop_thread: OnceLock::new(),
        })
    }

    /// Makes the calling thread the loop's.
    pub(super) fn adopt_thread(&self) {
        let adopted = self.loop_thread.set(std::thread::current().id());
        assert!(adopted.is_ok(), "a signal belongs to one loop");
    }

    pub(super) fn is_loop_thread(&self) -> bool {
        self.loop_thread.get() == Some(&std::thread::current().id())
    }

    /// Lets the loop look at what has changed. On the loop's own thread it does so anyway.
    pub(super) fn raise(&self) {
        if !self.is_loop_thread() && !self.raised.swap(true, Ordering::AcqRel) {
            // It fails only when the loop's poll is gone, and then nobody waits.
            let _ = self.waker.wake();
        }
    }

    /// Asks for a turn of the node.
    pub(super) fn ask_turn(&self) {
        self.turn.store(true, Ordering::Release);
        self.raise();
    }

    /// Tells the loop to end.
    pub(super) fn ask_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.raise();
    }

    /// The loop looks: from here on a raise interrupts its next wait.
    pub(super) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_turn_asked(&self) -> bool {
        self.turn.load(Ordering::Acquire)
    }

    /// Whether a turn was asked for since the last call.
    pub(super) fn take_turn(&self) -> bool {
        self.turn.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stop_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
