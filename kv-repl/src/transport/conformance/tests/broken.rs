//! Transports that break their promises, one each. They carry frames over the in-memory network, and run the node's turns
//! on a thread of their own behind a bounded queue, so that a node can be stuck.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kv_core::NodeId;

use super::super::Hosts;
use crate::config::FRAME_BYTES_MIN;
use crate::transport::{Drive, Inbound, Lane, MemoryNetwork, MemoryTransport, PeerInfo, SendError, Transport, Turn};

/// How many frames wait for a node.
const QUEUE_FRAMES: usize = 64;
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with a transport.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Fault {
    /// Some frames are delivered twice.
    Twice,
    /// A full queue is waited for.
    Waits,
    /// A node that is away is waited for.
    WaitsForTheAbsent,
    /// Long frames are cut.
    Cuts,
    /// A bit of long frames is flipped.
    FlipsABit,
    /// Now and then a frame is said to come from whoever sent the one before.
    MixesUpSenders,
    /// Every frame is delivered on one lane.
    OneLane,
    /// Frames over the limit are taken, and lost.
    TakesWhatIsTooLarge,
    /// Frames for nobody are taken, and lost.
    TakesWhatGoesNowhere,
    /// Whoever stops is still given frames.
    GoesOnAfterTheEnd,
    /// Nothing arrives.
    LosesAll,
    /// Turns come after frames and wake-ups, and never when time has passed.
    ForgetsTheTime,
    /// What threads send at the same time gets mixed up.
    SharesABuffer,
    /// A peer is looked for where it was at first.
    KeepsTheFirstAddress,
    /// What is sent during a turn is lost.
    LosesWhatTurnsSend,
    /// Frames are smaller than a node needs.
    OffersTooLittle,
}

/// A transport with a fault, or none.
pub(super) struct Flawed {
    inner: MemoryTransport,
    fault: Option<Fault>,
    running: Mutex<Option<JoinHandle<()>>>,
    gate: Mutex<Option<Arc<Gate>>>,
    /// The frame that is being sent.
    buffer: Mutex<Bytes>,
    /// Where each peer was at first, and where it is.
    addresses: Mutex<BTreeMap<NodeId, [String; 2]>>,
}

/// What the network delivers to: a bounded queue before the node's thread.
struct Gate {
    node: Arc<dyn Inbound>,
    fault: Option<Fault>,
    queue: SyncSender<Work>,
    stopped: AtomicBool,
    count: AtomicU64,
    before: Mutex<Option<NodeId>>,
}

enum Work {
    Frame(NodeId, Lane, Bytes),
    Wake,
}

impl Flawed {
    pub(super) fn hosts(network: MemoryNetwork, fault: Option<Fault>) -> impl Hosts {
        let lives = AtomicU64::new(0);
        move |node: NodeId| -> (Arc<dyn Transport>, String) {
            let flawed = Self {
                inner: network.transport(node),
                fault,
                running: Mutex::default(),
                gate: Mutex::default(),
                buffer: Mutex::default(),
                addresses: Mutex::default(),
            };
            (Arc::new(flawed), format!("in memory, life {}", lives.fetch_add(1, Ordering::Relaxed)))
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Whether this frame is lost by what is wrong with this transport.
    fn loses(&self, to: NodeId) -> bool {
        let is_in_turn = || {
            let running = self.running.lock().unwrap();
            running.as_ref().is_some_and(|running| running.thread().id() == std::thread::current().id())
        };
        let has_moved = || self.addresses.lock().unwrap().get(&to).is_some_and(|[first, now]| first != now);
        self.has(Fault::LosesAll)
            || self.has(Fault::LosesWhatTurnsSend) && is_in_turn()
            || self.has(Fault::KeepsTheFirstAddress) && has_moved()
    }
}

impl Transport for Flawed {
    fn try_send(&self, to: NodeId, lane: Lane, mut frame: Bytes) -> Result<(), SendError> {
        if self.loses(to) {
            return Ok(());
        }
        if self.has(Fault::SharesABuffer) {
            *self.buffer.lock().unwrap() = frame;
            std::thread::yield_now();
            frame = self.buffer.lock().unwrap().clone();
        }
        if frame.len() > FRAME_BYTES_MAX {
            return if self.has(Fault::TakesWhatIsTooLarge) { Ok(()) } else { Err(SendError::TooLarge) };
        }
        loop {
            match self.inner.try_send(to, lane, frame.clone()) {
                Err(SendError::Unreachable) if self.has(Fault::WaitsForTheAbsent) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(SendError::Unreachable) if self.has(Fault::TakesWhatGoesNowhere) => return Ok(()),
                outcome => return outcome,
            }
        }
    }

    fn max_frame_bytes(&self, _to: NodeId) -> usize {
        if self.has(Fault::OffersTooLittle) { FRAME_BYTES_MIN - 1 } else { FRAME_BYTES_MAX }
    }

    fn peers_changed(&self, peers: &[PeerInfo]) {
        self.inner.peers_changed(peers);
        let mut addresses = self.addresses.lock().unwrap();
        for PeerInfo { node, address } in peers {
            addresses.entry(*node).or_insert_with(|| [address.clone(), address.clone()])[1].clone_from(address);
        }
    }

    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let (queue, work) = sync_channel(QUEUE_FRAMES);
        let gate = Arc::new(Gate {
            node: Arc::clone(&node),
            fault: self.fault,
            queue: queue.clone(),
            stopped: AtomicBool::new(false),
            count: AtomicU64::new(0),
            before: Mutex::default(),
        });
        node.on_wake(Arc::new(move || {
            // A queue that is full is being worked on.
            let _ = queue.try_send(Work::Wake);
        }));
        let running = Arc::clone(&gate);
        let thread = std::thread::spawn(move || running.run(&work));
        *self.running.lock().unwrap() = Some(thread);
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        assert_eq!(self.inner.attach(gate), Drive::Node);
        Drive::Transport
    }

    fn detach(&self) {
        if self.has(Fault::GoesOnAfterTheEnd) {
            return;
        }
        self.inner.detach();
        if let Some(gate) = self.gate.lock().unwrap().take() {
            gate.stopped.store(true, Ordering::Release);
            let _ = gate.queue.try_send(Work::Wake);
        }
        // Not under the lock, which a turn that sends may want.
        let running = self.running.lock().unwrap().take();
        if let Some(thread) = running {
            let _ = thread.join();
        }
    }
}

impl Gate {
    fn run(&self, work: &Receiver<Work>) {
        let mut wait = None;
        loop {
            let next = match wait {
                Some(wait) if self.fault != Some(Fault::ForgetsTheTime) => work.recv_timeout(wait),
                _ => work.recv_timeout(Duration::from_secs(3600)),
            };
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            match next {
                Ok(Work::Frame(from, lane, frame)) => self.hand_in(from, lane, frame),
                Ok(Work::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            match self.node.turn() {
                Turn::Wait(longest) => wait = longest,
                Turn::Stopped => return,
            }
        }
    }

    /// Delivers a frame with what is wrong with this transport.
    fn hand_in(&self, from: NodeId, lane: Lane, frame: Bytes) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).replace(from);
        match self.fault {
            Some(Fault::Twice) if number % 10 == 9 => {
                self.node.deliver(from, lane, frame.clone());
                self.node.deliver(from, lane, frame);
            }
            Some(Fault::Cuts) if frame.len() > 32_000 => self.node.deliver(from, lane, frame.slice(..32_000)),
            Some(Fault::FlipsABit) if frame.len() > 32_000 => {
                let mut bytes = frame.to_vec();
                bytes[20_000] ^= 4;
                self.node.deliver(from, lane, bytes.into());
            }
            Some(Fault::MixesUpSenders) => self.node.deliver(before.unwrap_or(from), lane, frame),
            Some(Fault::OneLane) => self.node.deliver(from, Lane::Request, frame),
            _ => self.node.deliver(from, lane, frame),
        }
    }
}

impl Inbound for Gate {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        let mut work = Work::Frame(from, lane, frame);
        while let Err(TrySendError::Full(again)) = self.queue.try_send(work) {
            if self.fault != Some(Fault::Waits) || self.stopped.load(Ordering::Acquire) {
                // What does not fit is lost.
                return;
            }
            work = again;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn turn(&self) -> Turn {
        panic!("the in-memory network runs no turns")
    }

    fn on_wake(&self, _wake: Arc<dyn Fn() + Send + Sync>) {
        panic!("the in-memory network runs no turns")
    }
}
