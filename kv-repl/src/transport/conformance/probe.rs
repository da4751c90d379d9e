//! Nodes that look closely at what they are given, and the network that they make up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::NodeId;

use super::Hosts;
use super::sample::{SAMPLE_BYTES_MIN, Sample};
use crate::transport::{Drive, Inbound, Lane, PeerInfo, SendError, Transport, Turn};

/// How long something may take that must happen. Only a broken transport waits this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How long calls may take that must not wait.
pub(super) const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// Everybody that a check has opened.
pub(super) struct Stage<'a> {
    hosts: &'a dyn Hosts,
    numbers: Arc<AtomicU64>,
    /// What was wrong with anything that was delivered to anybody.
    wrong: Arc<Mutex<Vec<String>>>,
    delivered: Arc<Mutex<BTreeSet<u64>>>,
}

/// A node that the suite plays.
pub(super) struct Probe {
    pub(super) id: NodeId,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) address: String,
    pub(super) drive: Option<Drive>,
    pub(super) state: Arc<State>,
    inbound: Weak<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// What a probe has seen, and what its turns do.
pub(super) struct State {
    id: NodeId,
    arrived: Mutex<Vec<Sample>>,
    /// Numbers of everything that was delivered here.
    pub(super) seen: Mutex<BTreeSet<u64>>,
    pub(super) frames: AtomicUsize,
    pub(super) turns: AtomicUsize,
    /// What turns answer.
    pub(super) answer: Mutex<Turn>,
    held: Mutex<bool>,
    released: Condvar,
    stopping: AtomicBool,
    transport: OnceLock<Weak<dyn Transport>>,
    runner: OnceLock<Thread>,
    pub(super) wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    numbers: Arc<AtomicU64>,
    wrong: Arc<Mutex<Vec<String>>>,
    delivered: Arc<Mutex<BTreeSet<u64>>>,
}

/// What the transport is given. The suite keeps none itself, to see whether the transport lets go of it.
struct Inbox {
    state: Arc<State>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(hosts: &'a dyn Hosts) -> Self {
        Self { hosts, numbers: Arc::default(), wrong: Arc::default(), delivered: Arc::default() }
    }

    /// A node that is not there yet: it has a transport, and nobody has attached to it.
    pub(super) fn open(&self, id: u64) -> Probe {
        let id = NodeId(id);
        let (transport, address) = self.hosts.open(id);
        let state = State {
            id,
            arrived: Mutex::default(),
            seen: Mutex::default(),
            frames: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            answer: Mutex::new(Turn::Wait(None)),
            held: Mutex::new(false),
            released: Condvar::new(),
            stopping: AtomicBool::new(false),
            transport: OnceLock::new(),
            runner: OnceLock::new(),
            wake: OnceLock::new(),
            numbers: Arc::clone(&self.numbers),
            wrong: Arc::clone(&self.wrong),
            delivered: Arc::clone(&self.delivered),
        };
        // Set once, here.
        let _ = state.transport.set(Arc::downgrade(&transport));
        Probe { id, transport, address, drive: None, state: Arc::new(state), inbound: Weak::new(), thread: None }
    }

    /// A node that is attached.
    pub(super) fn start(&self, id: u64) -> Probe {
        let mut probe = self.open(id);
        probe.attach();
        probe
    }

    /// Nodes that are attached and were told of each other.
    pub(super) fn started<const N: usize>(&self, ids: [u64; N]) -> [Probe; N] {
        let probes = ids.map(|id| self.start(id));
        for probe in &probes {
            probe.told_of(&probes.iter().filter(|other| other.id != probe.id).collect::<Vec<_>>());
        }
        probes
    }

    /// What the check came to: an error of its own, or whatever was wrong with any frame.
    pub(super) fn outcome(&self, of_check: Result<(), String>) -> Result<(), String> {
        match lock(&self.wrong).first() {
            Some(wrong) => Err(wrong.clone()),
            None => of_check,
        }
    }

    /// Sends until something arrives: frames may be lost, but not all of them.
    pub(super) fn reaches(&self, from: &Probe, to: &Probe) -> Result<(), String> {
        self.reaches_with(from, to, Lane::Request, SAMPLE_BYTES_MIN)
    }

    pub(super) fn reaches_with(&self, from: &Probe, to: &Probe, lane: Lane, bytes: usize) -> Result<(), String> {
        let mut sent = BTreeSet::new();
        let mut last = Ok(());
        let arrived = within(PATIENCE, || {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            sent.insert(number);
            last = from.send_sample(number, to.id, lane, bytes, false);
            // A large frame takes its time, and sending it again at once would only fill queues.
            let until = now() + Duration::from_millis(20 + bytes as u64 / 50_000);
            while now() < until {
                if !lock(&to.state.seen).is_disjoint(&sent) {
                    return true;
                }
                pause();
            }
            false
        });
        if arrived {
            return Ok(());
        }
        let (from, to) = (from.id, to.id);
        Err(format!(
            "none of {} frames of {bytes} bytes from {from} to {to} arrived; the last one: {last:?}",
            sent.len()
        ))
    }
}

impl Probe {
    /// Becomes a node, as a host's node does when it starts.
    pub(super) fn attach(&mut self) {
        let inbox = Arc::new(Inbox { state: Arc::clone(&self.state) });
        self.inbound = Arc::downgrade(&inbox);
        let drive = self.transport.attach(Arc::clone(&inbox) as Arc<dyn Inbound>);
        self.drive = Some(drive);
        if drive == Drive::Node {
            let state = Arc::clone(&self.state);
            let thread = std::thread::spawn(move || {
                while !state.stopping.load(Ordering::Acquire) {
                    state.turn();
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            });
            // Set once: a probe is attached once.
            let _ = self.state.runner.set(thread.thread().clone());
            self.thread = Some(thread);
        }
    }

    /// These are the peers from now on.
    pub(super) fn told_of(&self, peers: &[&Self]) {
        let infos: Vec<PeerInfo> =
            peers.iter().map(|peer| PeerInfo { node: peer.id, address: peer.address.clone() }).collect();
        self.transport.peers_changed(&infos);
    }

    /// Sends a frame, and does not care what becomes of it.
    pub(super) fn send(&self, to: NodeId, lane: Lane, bytes: usize) -> Result<(), SendError> {
        let number = self.state.numbers.fetch_add(1, Ordering::Relaxed);
        self.send_sample(number, to, lane, bytes, false)
    }

    pub(super) fn ask(&self, to: NodeId) -> Result<(), SendError> {
        let number = self.state.numbers.fetch_add(1, Ordering::Relaxed);
        self.send_sample(number, to, Lane::Request, SAMPLE_BYTES_MIN, true)
    }

    fn send_sample(
        &self,
        number: u64,
        to: NodeId,
        lane: Lane,
        bytes: usize,
        wants_answer: bool,
    ) -> Result<(), SendError> {
        let sample = Sample { number, from: self.id, to, lane, wants_answer, bytes };
        self.transport.try_send(to, lane, sample.encode())
    }

    /// Turns of this node do not end from now on, until [`Probe::release`].
    pub(super) fn hold(&self) {
        *lock(&self.state.held) = true;
    }

    pub(super) fn release(&self) {
        *lock(&self.state.held) = false;
        self.state.released.notify_all();
    }

    pub(super) fn frames(&self) -> usize {
        self.state.frames.load(Ordering::Acquire)
    }

    pub(super) fn turns(&self) -> usize {
        self.state.turns.load(Ordering::Acquire)
    }

    /// Stops, as a node does.
    pub(super) fn detach(&mut self) {
        self.release();
        self.transport.detach();
        self.join();
    }

    fn join(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of a turn has been reported by its own thread.
            let _ = thread.join();
        }
    }

    /// Whether the transport still holds on to the node.
    pub(super) fn is_held_on_to(&self) -> bool {
        self.inbound.strong_count() > 0
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.release();
        if self.drive.is_some() && !self.state.stopping.load(Ordering::Acquire) {
            self.transport.detach();
        }
        self.join();
    }
}

impl State {
    fn turn(&self) -> Turn {
        self.turns.fetch_add(1, Ordering::AcqRel);
        let mut held = lock(&self.held);
        while *held {
            held = self.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        drop(held);
        let arrived = std::mem::take(&mut *lock(&self.arrived));
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            for sample in arrived.into_iter().filter(|sample| sample.wants_answer) {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let answer = Sample { number, from: self.id, to: sample.from, wants_answer: false, ..sample };
                // Whoever asked asks again.
                let _ = transport.try_send(sample.from, sample.lane, answer.encode());
            }
        }
        *lock(&self.answer)
    }

    fn note(&self, what: String) {
        lock(&self.wrong).push(what);
    }
}

impl Inbound for Inbox {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        let state = &self.state;
        match Sample::check(state.id, from, lane, &frame) {
            Err(what) => state.note(what),
            Ok(sample) => {
                if !lock(&state.delivered).insert(sample.number) {
                    state.note(format!("frame {} was delivered twice", sample.number));
                }
                lock(&state.seen).insert(sample.number);
                lock(&state.arrived).push(sample);
            }
        }
        state.frames.fetch_add(1, Ordering::AcqRel);
        if let Some(runner) = state.runner.get() {
            runner.unpark();
        }
    }

    fn turn(&self) -> Turn {
        self.state.turn()
    }

    fn on_wake(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        if self.state.wake.set(wake).is_err() {
            self.state.note("a node was given two wakers".to_owned());
        }
    }
}

/// Tries until it is so.
pub(super) fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = now() + patience;
    loop {
        if is_so() {
            return true;
        }
        if now() >= until {
            return false;
        }
        pause();
    }
}

/// Runs calls that must not wait on a thread of their own, so that the suite survives one that does.
pub(super) fn at_once(what: &str, calls: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::spawn(calls);
    if !within(CALL_PATIENCE, || thread.is_finished()) {
        return Err(format!("{what} does not return for {} s: try_send never blocks", CALL_PATIENCE.as_secs()));
    }
    thread.join().map_err(|_| format!("{what} panicked"))
}

pub(super) fn now() -> Instant {
    Instant::now()
}

pub(super) fn pause() {
    std::thread::sleep(PAUSE);
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
