//! Frames over TCP, on one event loop per node.
//!
//! # The loop
//! Packets and wake-ups are what a replicated put costs, so a node has one thread that does everything in rounds: wait for
//! sockets; read a bounded share from each; hand the frames to the node ([`Inbound::deliver`]); run the node's turn
//! ([`Inbound::turn`]), which answers through [`Transport::try_send`]; then write each peer's frames **with one write**.
//! Frames sent by the turn cost a copy into the peer's buffer and no system call; from other threads the first of a
//! round also wakes the loop.
//!
//! # Connections
//! Each node dials each of its peers and sends its own frames on that connection only; what a peer sends comes in on the one
//! that the peer made. One connection for both directions would save the acknowledgement packets that find no data to
//! ride on, but then frames for a node would go to whoever connects and *claims* to be that node; here they go to the
//! address that the host gave, and only after the other end has answered with that node's name. It also needs no rule for
//! two nodes that dial each other at once. The price is that a node must be told a peer's address before it can answer
//! it, so introductions have to carry one.
//!
//! A peer is dialed as soon as it is known and again, after a jittered wait that doubles up to a limit, whenever its
//! connection ends; a peer that dials us is dialed back at once, even over an older connection, which may be all that is left
//! of its former life. Frames wait while a connection is being made; after a
//! failed attempt they are dropped, and refused with [`SendError::Unreachable`] until one succeeds. What was taken for a
//! write when a connection breaks is dropped too: a frame arrives at most once.
//!
//! # Strangers
//! Whoever connects is a stranger until its preamble names a node that this one was told of
//! ([`Transport::peers_changed`]). A stranger gets 4 KiB for its preamble and for each frame, 64 KiB altogether, and
//! [`TcpOptions::greeting_timeout`]: enough to introduce a node that nobody here has heard of. Of more than 64 strangers, or
//! more than 32 from one address (of IPv6: one /64), the oldest is closed. From a known node a frame may be 16 MiB long; its
//! length is checked before memory is taken for it, and memory grows only with what has arrived. Whatever is wrong closes the
//! connection and is counted in [`TcpStats`].
//!
//! There is no authentication: anybody who reaches the port can claim to be any node. Keep it inside a trusted network.
//!
//! # Limits
//! A peer that vanishes without a word (power, cable) is noticed when its queue has not moved for
//! [`TcpOptions::stall_timeout`], when the operating system gives up, or when it comes back and dials; the deadlines of
//! requests do not wait for that.

mod backoff;
mod connection;
mod decoder;
mod event_loop;
mod frame;
mod guests;
mod hosted;
mod links;
mod options;
mod outbound;
mod resolve;
mod shared;
mod signal;
mod stats;
mod timers;

pub use hosted::TcpLoop;
pub use options::TcpOptions;
pub use stats::TcpStats;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use kv_core::NodeId;
use mio::Poll;

use self::event_loop::{EventLoop, WAKER};
use self::frame::FRAME_BYTES_MAX;
use self::hosted::Hosted;
use self::outbound::Outbound;
use self::shared::Shared;
use self::signal::Signal;
use self::stats::Counters;
use super::{Drive, Inbound, Lane, PeerInfo, SendError, Transport};

/// The TCP transport of one node. See the [module](self) for how it works.
///
/// It answers [`Transport::attach`] with [`Drive::Transport`]: the node's turns run on its loop, which has a thread unless the
/// transport was bound with [`TcpTransport::bind_hosted`]. Dropping it detaches it.
pub struct TcpTransport {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Hands the node to the thread that waits for it; taken by the first attach.
    handover: Mutex<Option<Sender<Arc<dyn Inbound>>>>,
    runner: Runner,
}

/// Who runs the loop.
enum Runner {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Host(Arc<Hosted>),
}

impl TcpTransport {
    /// Listens for the peers of `node` on `address`. With port 0 the system chooses one; see
    /// [`TcpTransport::local_addr`]. Connections wait in the system's queue until the node is attached.
    ///
    /// # Errors
    /// When the address cannot be resolved or bound, or the system has no thread or descriptor to spare.
    pub fn bind(node: NodeId, address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_with(node, address, TcpOptions::default())
    }

    /// [`TcpTransport::bind`] with other settings.
    ///
    /// # Errors
    /// The same.
    pub fn bind_with(node: NodeId, address: impl ToSocketAddrs, options: TcpOptions) -> io::Result<Self> {
        let Bound { shared, local_addr, event_loop } = Bound::new(node, address, options)?;
        let (handover, attached) = mpsc::channel::<Arc<dyn Inbound>>();
        let signal = Arc::clone(&shared.signal);
        let thread = std::thread::Builder::new().name(format!("kv-tcp-{node}")).spawn(move || {
            signal.adopt_thread();
            // An error means that the transport was dropped without ever having had a node.
            if let Ok(inbound) = attached.recv() {
                event_loop.run(&*inbound);
            }
        })?;
        let runner = Runner::Thread(Mutex::new(Some(thread)));
        Ok(Self { shared, local_addr, handover: Mutex::new(Some(handover)), runner })
    }

    /// [`TcpTransport::bind_with`], without a thread: the host runs the loop. See [`TcpLoop`].
    ///
    /// # Errors
    /// The same.
    pub fn bind_hosted(node: NodeId, address: impl ToSocketAddrs, options: TcpOptions) -> io::Result<(Self, TcpLoop)> {
        let Bound { shared, local_addr, event_loop } = Bound::new(node, address, options)?;
        let (handover, attached) = mpsc::channel();
        let hosted = TcpLoop::new(Arc::clone(&shared), event_loop, attached)?;
        let runner = Runner::Host(hosted.hosted());
        Ok((Self { shared, local_addr, handover: Mutex::new(Some(handover)), runner }, hosted))
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> TcpStats {
        self.shared.counters.read()
    }
}

impl Transport for TcpTransport {
    fn try_send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        self.shared.outbound.push(to, lane, &frame)?;
        self.shared.signal.raise();
        Ok(())
    }

    fn max_frame_bytes(&self, _to: NodeId) -> usize {
        FRAME_BYTES_MAX
    }

    /// As the trait says. An address is `host:port`; a host that is a name is looked up at each attempt to connect, on a
    /// thread of its own.
    fn peers_changed(&self, peers: &[PeerInfo]) {
        self.shared.outbound.set_peers(peers);
        self.shared.signal.raise();
    }

    /// As the trait says.
    ///
    /// # Panics
    /// When it is called twice, or after [`Transport::detach`]: a transport serves one life of one node.
    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let handover = lock(&self.handover).take().expect("a transport is attached once");
        let signal = Arc::clone(&self.shared.signal);
        node.on_wake(Arc::new(move || signal.ask_turn()));
        // The thread is gone only if it was told to stop meanwhile, and then the node will be too.
        let _ = handover.send(node);
        Drive::Transport
    }

    /// As the trait says: on return the loop has ended, its sockets are closed and the port is free. Called from a turn, it returns
    /// at once and the loop ends after the turn.
    fn detach(&self) {
        self.shared.signal.ask_stop();
        drop(lock(&self.handover).take());
        let is_loop_thread = self.shared.signal.is_loop_thread();
        match &self.runner {
            Runner::Host(hosted) => hosted.end(is_loop_thread),
            Runner::Thread(_) if is_loop_thread => {}
            Runner::Thread(thread) => {
                let thread = lock(thread).take();
                if let Some(thread) = thread {
                    // A panic of the node's turn has been reported by its own thread.
                    let _ = thread.join();
                }
            }
        }
    }
}

/// A loop that listens, and runs nowhere yet.
struct Bound {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    event_loop: EventLoop,
}

impl Bound {
    fn new(node: NodeId, address: impl ToSocketAddrs, options: TcpOptions) -> io::Result<Self> {
        // On Unix the standard library sets SO_REUSEADDR, so that a node can restart on its port while connections of
        // its former life are still in TIME_WAIT.
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            node,
            outbound: Outbound::new(options.queue_bytes_max),
            options,
            signal: Arc::new(Signal::new(poll.registry(), WAKER)?),
            counters: Counters::default(),
        });
        let event_loop = EventLoop::new(poll, mio::net::TcpListener::from_std(listener), Arc::clone(&shared))?;
        Ok(Self { shared, local_addr, event_loop })
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport")
            .field("node", &self.shared.node)
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
