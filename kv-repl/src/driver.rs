//! Where the node meets threads and clocks: an inbox that anybody may fill, and turns that one thread at a time runs.
//!
//! The thread belongs to the node, or to a transport that has an event loop of its own (see [`Drive`]). Whoever fills the
//! inbox wakes it, once for all that arrives until its next turn.

mod clock;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::time::{Millis, Now};
use kv_core::{NodeId, Store};

use self::clock::Clock;
use crate::admission::Limits;
use crate::by_number::ByNumber;
use crate::events::{Events, Listeners, NodeEvent, listener};
use crate::inbox::{Arrived, Inbox};
use crate::liveness::LivenessChange;
use crate::machine::{Outcome, Request};
use crate::node_core::NodeCore;
use crate::stats::{OutcomeKind, RequestKind, RequestStats, Stats};
use crate::status::Status;
use crate::trace;
use crate::transport::{Drive, Inbound, Lane, PeerInfo, Transport, Turn};
use crate::worker::{Input, Outside, Worker};

/// How long a stopping node waits for its last sync before it stops without.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How often whoever stops a node whose turns he runs himself looks whether that sync has ended.
const STOP_STEP: Duration = Duration::from_millis(1);

/// A node's inbox and loop.
pub(crate) struct Driver {
    node: NodeId,
    transport: Arc<dyn Transport>,
    clock: Clock,
    inbox: Mutex<Arrivals>,
    /// Somebody has been woken, or will look into the inbox anyway.
    awake: AtomicBool,
    wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    running: Mutex<Running>,
    turning: Mutex<Turning>,
    stop: Mutex<Stop>,
    stopped: Condvar,
}

/// What waits for the next turn.
struct Arrivals {
    inbox: Inbox<Client>,
    looks: Vec<Look>,
    listeners: Vec<SyncSender<NodeEvent>>,
}

/// A request and who waits for its outcome.
type Asked = crate::inbox::Asked<Client>;

/// Somebody who waits for an outcome.
struct Client {
    reply: oneshot::Sender<Outcome>,
    kind: RequestKind,
    asked_at: Duration,
}

/// Something that is shown the node between two turns.
type Look = Box<dyn FnOnce(&Running, Now) + Send>;

/// What only the thread that runs the turn touches.
struct Running {
    worker: Worker,
    clients: ByNumber<Client>,
    next_client: u64,
    listeners: Listeners,
    requests: RequestStats,
    /// The last write of the life is under way; stop when it is durable, or then.
    finishing: Option<Instant>,
}

/// Which threads run turns.
#[derive(Copy, Clone, Default, Debug)]
struct Turning {
    /// The one that is within a turn.
    now: Option<ThreadId>,
    /// The one that ran the last turn.
    last: Option<ThreadId>,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Stop {
    No,
    /// Finish what is committed, note that nothing is forgotten, then stop.
    Clean,
    /// Stop at once.
    Abrupt,
    Done,
}

impl Driver {
    /// Puts a worker behind an inbox and lets the transport see it.
    pub(crate) fn start(
        worker: Worker,
        limits: Limits,
        store: &dyn Store,
        transport: Arc<dyn Transport>,
    ) -> std::io::Result<Arc<Self>> {
        let driver = Arc::new(Self {
            node: worker.core().shared.me.node,
            transport,
            clock: Clock::new(),
            inbox: Mutex::new(Arrivals { inbox: Inbox::new(limits), looks: Vec::new(), listeners: Vec::new() }),
            awake: AtomicBool::new(true),
            wake: OnceLock::new(),
            running: Mutex::new(Running {
                worker,
                clients: ByNumber::new(),
                next_client: 0,
                listeners: Listeners::default(),
                requests: RequestStats::default(),
                finishing: None,
            }),
            turning: Mutex::default(),
            stop: Mutex::new(Stop::No),
            stopped: Condvar::new(),
        });
        let weak = Arc::downgrade(&driver);
        store.on_durable(Arc::new(move || {
            if let Some(driver) = weak.upgrade() {
                driver.wake();
            }
        }));
        let inbound: Arc<dyn Inbound> = Arc::clone(&driver) as Arc<dyn Inbound>;
        if driver.transport.attach(inbound) == Drive::Node {
            driver.start_thread()?;
        }
        Ok(driver)
    }

    #[expect(clippy::disallowed_methods, reason = "the driver is where threads come in")]
    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let driver = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("kv-{}", self.node)).spawn(move || {
            loop {
                match driver.turn() {
                    Turn::Wait(Some(span)) => std::thread::park_timeout(span),
                    Turn::Wait(None) => std::thread::park(),
                    Turn::Stopped => return,
                }
            }
        })?;
        let thread = thread.thread().clone();
        self.on_wake(Arc::new(move || thread.unpark()));
        Ok(())
    }

    /// Hands in a request. The receiver hears nothing if the node stops first, and at once when too many wait already.
    pub(crate) fn request(&self, request: Request, patience: Duration) -> oneshot::Receiver<Outcome> {
        let (asked, receiver) = self.asked(request, patience);
        let mut refused = None;
        self.arrive(|arrivals| refused = arrivals.inbox.request(asked).err());
        if let Some((asked, retry_after)) = refused {
            self.refuse(asked, retry_after);
        }
        receiver
    }

    /// Hands in requests that belong together. Each has an outcome of its own.
    pub(crate) fn batch(&self, requests: Vec<(Request, Duration)>) -> Vec<oneshot::Receiver<Outcome>> {
        let asked = requests.into_iter().map(|(request, patience)| self.asked(request, patience));
        let (asked, receivers): (Vec<Asked>, _) = asked.unzip();
        let mut refused = None;
        self.arrive(|arrivals| refused = arrivals.inbox.batch(asked).err());
        if let Some((asked, retry_after)) = refused {
            asked.into_iter().for_each(|asked| self.refuse(asked, retry_after));
        }
        receivers
    }

    /// Tells whoever finds no room. He may have gone already.
    fn refuse(&self, Asked { request, reply: client, .. }: Asked, retry_after: Millis) {
        trace::turned_away(self.node, &request);
        let _ = client.reply.send(request.overloaded(retry_after));
    }

    fn asked(&self, request: Request, patience: Duration) -> (Asked, oneshot::Receiver<Outcome>) {
        let (reply, receiver) = oneshot::channel();
        let asked_at = self.clock.elapsed();
        let deadline = Millis::from(asked_at).saturating_add(patience.into());
        let reply = Client { reply, kind: RequestKind::of(&request), asked_at };
        (Asked { request, deadline, reply }, receiver)
    }

    /// Looks at the machines between two turns. `None` when the node has stopped.
    pub(crate) fn look<T: Send + 'static>(&self, look: impl FnOnce(&NodeCore, Now) -> T + Send + 'static) -> Option<T> {
        self.inspect(move |running, now| look(running.worker.core(), now))
    }

    fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Running, Now) -> T + Send + 'static) -> Option<T> {
        let (reply, receiver) = oneshot::channel();
        let look: Look = Box::new(move |running, now| {
            // Whoever asked may have gone; then nobody needs the answer.
            let _ = reply.send(look(running, now));
        });
        self.arrive(|arrivals| arrivals.looks.push(look));
        receiver.recv().ok()
    }

    /// What the node says about itself. `None` when it has stopped.
    pub(crate) fn status(&self) -> Option<Status> {
        let mut status = self.look(NodeCore::status)?;
        lock(&self.inbox).inbox.report(&mut status.load);
        Some(status)
    }

    /// What the node has counted. `None` when it has stopped.
    pub(crate) fn stats(&self) -> Option<Stats> {
        let of = |running: &Running, now| Stats { requests: running.requests.clone(), ..running.worker.stats(now) };
        let mut stats = self.inspect(of)?;
        let arrivals = lock(&self.inbox);
        arrivals.inbox.report(&mut stats.status.load);
        stats.requests.turned_away(arrivals.inbox.turned_away());
        Some(stats)
    }

    /// The events from the next turn on.
    pub(crate) fn events(&self) -> Events {
        let (sender, events) = listener();
        self.arrive(|arrivals| arrivals.listeners.push(sender));
        events
    }

    fn arrive(&self, add: impl FnOnce(&mut Arrivals)) {
        {
            let mut arrivals = lock(&self.inbox);
            // The last turn empties the inbox after it has set this, so nobody waits for a node that has stopped.
            if *lock(&self.stop) == Stop::Done {
                return;
            }
            add(&mut arrivals);
        }
        self.wake();
    }

    fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    /// Stops the loop and waits until it has. A clean stop notes durably that nothing was forgotten.
    ///
    /// # Panics
    /// When it is called from within a turn, by a waker that runs its task at once: it would wait for itself.
    pub(crate) fn stop(&self, clean: bool) {
        let (thread, turning) = (Some(std::thread::current().id()), *lock(&self.turning));
        assert!(turning.now != thread, "a node cannot be stopped from within its own turn");
        {
            let mut stop = lock(&self.stop);
            if matches!(*stop, Stop::No | Stop::Clean) {
                *stop = if clean { Stop::Clean } else { Stop::Abrupt };
            }
        }
        if turning.last == thread {
            // Nobody else runs turns. What they send stays where it is; the last ones only wait for the disk.
            while let Turn::Wait(longest) = Inbound::turn(self) {
                Clock::sleep(longest.unwrap_or(STOP_STEP).min(STOP_STEP));
            }
        }
        self.awake.store(false, Ordering::Release);
        self.wake();
        let mut stop = lock(&self.stop);
        while *stop != Stop::Done {
            stop = self.stopped.wait(stop).unwrap_or_else(PoisonError::into_inner);
        }
        drop(stop);
        self.transport.detach();
    }

    /// Whether the loop ends with this turn.
    fn stops_now(&self, running: &mut Running) -> bool {
        let order = *lock(&self.stop);
        let stops = match order {
            Stop::No => false,
            Stop::Done | Stop::Abrupt => true,
            Stop::Clean => match running.finishing {
                None => {
                    running.finishing = Some(Clock::instant() + STOP_PATIENCE);
                    running.worker.finish().is_err() || running.worker.is_settled()
                }
                Some(until) => running.worker.is_settled() || Clock::instant() >= until,
            },
        };
        if stops {
            running.clients.clear();
            running.listeners = Listeners::default();
            *lock(&self.stop) = Stop::Done;
            // Whoever came too late for the last turn hears that the node has stopped.
            let mut arrivals = lock(&self.inbox);
            arrivals.inbox.clear();
            arrivals.looks.clear();
            arrivals.listeners.clear();
            drop(arrivals);
            self.stopped.notify_all();
        }
        stops
    }
}

impl Inbound for Driver {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        self.arrive(|arrivals| arrivals.inbox.frame(from, lane, frame));
    }

    fn turn(&self) -> Turn {
        let mut running = lock(&self.running);
        let running = &mut *running;
        let thread = Some(std::thread::current().id());
        *lock(&self.turning) = Turning { now: thread, last: thread };
        let turn = self.turn_once(running);
        lock(&self.turning).now = None;
        turn
    }

    fn on_wake(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        // A node is attached once; the first one to register runs its turns.
        let wake = self.wake.get_or_init(|| wake);
        wake();
    }
}

impl Running {
    /// Notes who waits, under a number.
    fn wait(&mut self, Asked { request, deadline, reply }: Asked) -> (u64, Millis, Request) {
        self.next_client += 1;
        trace::asked(self.worker.core().shared.me.node, self.next_client, &request);
        self.clients.insert(self.next_client, reply);
        (self.next_client, deadline, request)
    }
}

impl Driver {
    fn turn_once(&self, running: &mut Running) -> Turn {
        if self.stops_now(running) {
            return Turn::Stopped;
        }
        // From here on whoever arrives wakes the loop again.
        self.awake.store(false, Ordering::Release);
        let (arrived, is_all, looks, listeners) = {
            let mut arrivals = lock(&self.inbox);
            let Arrivals { inbox, looks, listeners } = &mut *arrivals;
            (inbox.take(), inbox.is_empty(), std::mem::take(looks), std::mem::take(listeners))
        };
        let now = self.clock.now();
        looks.into_iter().for_each(|look| look(running, now));
        listeners.into_iter().for_each(|listener| running.listeners.add(listener));
        let mut inputs = Vec::with_capacity(arrived.len());
        for arrived in arrived {
            inputs.push(match arrived {
                Arrived::Frame { from, lane, frame } => Input::Frame { from, lane, frame },
                Arrived::Request(asked) => {
                    let (client, deadline, request) = running.wait(asked);
                    Input::Request { client, deadline, request }
                }
                Arrived::Batch(asked) => {
                    running.requests.batches.record(asked.len() as u64);
                    Input::Batch(asked.into_iter().map(|asked| running.wait(asked)).collect())
                }
            });
        }
        let mut outside = Surroundings {
            node: self.node,
            transport: &*self.transport,
            clock: &self.clock,
            clients: &mut running.clients,
            listeners: &mut running.listeners,
            requests: &mut running.requests,
        };
        running.worker.turn(now, inputs.into_iter(), &mut outside);
        if !is_all {
            return Turn::Wait(Some(Duration::ZERO));
        }
        if running.finishing.is_some() {
            return Turn::Wait(Some(Duration::from_millis(1)));
        }
        let wait = running.worker.next_deadline().map(|at| at.saturating_sub(now.monotonic).as_duration());
        Turn::Wait(wait)
    }
}

struct Surroundings<'a> {
    node: NodeId,
    transport: &'a dyn Transport,
    clock: &'a Clock,
    clients: &'a mut ByNumber<Client>,
    listeners: &'a mut Listeners,
    requests: &'a mut RequestStats,
}

impl Outside for Surroundings<'_> {
    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    fn send(&mut self, to: NodeId, lane: Lane, frame: Bytes) -> bool {
        self.transport.try_send(to, lane, frame).is_ok()
    }

    fn frame_bytes_max(&self, to: NodeId) -> usize {
        self.transport.max_frame_bytes(to)
    }

    fn reply(&mut self, client: u64, outcome: Outcome) {
        if let Some(Client { reply, kind, asked_at }) = self.clients.remove(client) {
            let (came_to, took) = (OutcomeKind::of(&outcome), self.clock.elapsed().saturating_sub(asked_at));
            self.requests.answered(kind, came_to, took);
            trace::answered(self.node, client, kind, &outcome, took);
            // Whoever asked may have gone; the outcome stands all the same.
            let _ = reply.send(outcome);
        }
    }

    fn changed(&mut self, change: LivenessChange) {
        self.listeners.tell(NodeEvent::Liveness(change));
    }

    fn peers_changed(&mut self, peers: &[PeerInfo]) {
        self.transport.peers_changed(peers);
    }
}

/// A thread that panicked while it held a lock has left values that are whole: every lock here guards one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
