//! The loop of a node, without a thread: one turn at a time.
//!
//! 1. Release what has become durable since the last turn.
//! 2. Let the machines decide on everything that has arrived.
//! 3. Commit all they store as one atomic batch, and ask for its sync.
//! 4. Let out what may leave; hold back the rest until the store's last write to its keys is durable. What the node says
//!    to itself goes back to 2.
//! 5. Give the transport one frame per peer and lane.
//!
//! So group commit, the order of writes, and "no answer outruns durability" (rule P3) come from the same few lines, and
//! the turn goes on while the disk syncs.

mod outbox;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::store::{Batch, CommitError, Sequence, StoreError};
use kv_core::time::{Millis, Now};
use kv_core::version::Incarnation;
use kv_core::{NodeId, Store};
use thiserror::Error;

use self::outbox::Outbox;
use crate::config::Settings;
use crate::identity::{Identity, IdentityError};
use crate::liveness::LivenessChange;
use crate::machine::{Outcome, Release, Request, Stripe};
use crate::message::Message;
use crate::node_core::NodeCore;
use crate::remembered::RestoreError;
use crate::stats::{RequestStats, Stats, Turns};
use crate::status::Standing;
use crate::trace;
use crate::transport::{Lane, PeerInfo};
use crate::turn::{Output, Turn};
use crate::wire::OVERHEAD_BYTES_MAX;

/// What came in since the last turn.
#[derive(Debug)]
pub(crate) enum Input {
    Frame {
        from: NodeId,
        lane: Lane,
        frame: Bytes,
    },
    Request {
        client: u64,
        deadline: Millis,
        request: Request,
    },
    /// Requests that came together, each with an outcome of its own.
    Batch(Vec<(u64, Millis, Request)>),
}

impl Input {
    /// How many requests or frames it is.
    const fn count(&self) -> u64 {
        match self {
            Self::Frame { .. } | Self::Request { .. } => 1,
            Self::Batch(requests) => requests.len() as u64,
        }
    }
}

/// Where a turn's results go.
pub(crate) trait Outside {
    /// How long the host has run, as finely as it can tell. Only for measuring: nothing is decided by it.
    fn elapsed(&self) -> Duration;
    /// Takes a frame, or says that it cannot.
    fn send(&mut self, to: NodeId, lane: Lane, frame: Bytes) -> bool;
    /// The largest frame for `to`.
    fn frame_bytes_max(&self, to: NodeId) -> usize;
    /// Answers a client.
    fn reply(&mut self, client: u64, outcome: Outcome);
    /// The node has changed its mind about a peer.
    fn changed(&mut self, change: LivenessChange);
    /// These are the peers from now on.
    fn peers_changed(&mut self, peers: &[PeerInfo]);
}

/// Why a node cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`RestoreError`].
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The store did not take the new life's identity.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] crate::config::InvalidConfig),
    /// The host's randomness failed.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
    /// No store or no transport was given.
    #[error("a node needs a {0}")]
    Missing(&'static str),
}

/// Who a node is when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) node: NodeId,
    /// For the storage, should it be new.
    pub(crate) incarnation: Incarnation,
    pub(crate) nonce: u64,
    pub(crate) seeds: Vec<PeerInfo>,
}

/// A node's machines and its store.
pub(crate) struct Worker {
    core: NodeCore,
    store: Arc<dyn Store>,
    /// The last commit that wrote to each stripe.
    last_write: Vec<Sequence>,
    /// The last commit.
    committed: Sequence,
    durable: Sequence,
    /// What leaves when the store is durable up to the number.
    held: BTreeMap<Sequence, Vec<Output>>,
    /// About how many bytes that is.
    held_bytes: usize,
    turns: Turns,
    scratch: Scratch,
    /// The life has noted that it forgets nothing: it decides nothing more.
    finished: bool,
}

/// Room for so many outputs is kept from one turn to the next.
const OUTPUTS_KEPT: usize = 4096;

/// Memory that each turn uses anew, and leaves empty.
#[derive(Default)]
struct Scratch {
    outbox: Outbox,
    to_self: VecDeque<Message>,
    outputs: Vec<Output>,
}

impl Worker {
    /// Begins a life.
    pub(crate) fn start(settings: Settings, birth: &Birth, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let mut batch = Batch::new();
        let forgot = Identity::forgot(&*store)?;
        let me = Identity::begin(birth.node, birth.incarnation, birth.nonce, &*store, &mut batch)?;
        let me = if sabotaged!(KeepActorAfterCrash) { Identity { epoch: 1, ..me } } else { me };
        let mut core = NodeCore::restore(settings, me, &birth.seeds, &*store, &mut batch)?;
        if forgot {
            core.forgot(&mut batch);
        }
        let committed = store.commit(&batch)?;
        store.request_sync(committed);
        let mut last_write = vec![Sequence::default(); Stripe::COUNT];
        // Nothing an earlier life wrote is known to be durable before this is: replies wait for it.
        last_write.fill(committed);
        Ok(Self {
            core,
            store,
            last_write,
            committed,
            durable: Sequence::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            turns: Turns::default(),
            scratch: Scratch::default(),
            finished: false,
        })
    }

    /// One turn.
    pub(crate) fn turn(&mut self, now: Now, inputs: impl Iterator<Item = Input>, outside: &mut dyn Outside) {
        if self.finished && !sabotaged!(GoOnAfterTheEnd) {
            // What a decision wrote now would come after the note that nothing was forgotten.
            if let Ok(durable) = self.store.durable_sequence() {
                self.durable = durable;
            }
            return;
        }
        let (began, mut taken) = (outside.elapsed(), 0);
        let _turn = trace::turn(self.core.shared.me.node);
        let Scratch { mut outbox, mut to_self, mut outputs } = std::mem::take(&mut self.scratch);
        self.release(&mut to_self, &mut outbox, outside);
        let mut inputs = Some(inputs);
        loop {
            self.core.hold(self.held_bytes);
            let store = Arc::clone(&self.store);
            let mut turn = Turn::new(&*store, outputs);
            for message in to_self.drain(..) {
                self.core.message(now, &mut turn, self.core.shared.me.node, message);
            }
            for input in inputs.take().into_iter().flatten() {
                taken += input.count();
                match input {
                    Input::Frame { from, lane, frame } => self.core.frame(now, &mut turn, from, lane, &frame),
                    Input::Request { client, deadline, request } => {
                        self.core.request(now, &mut turn, client, deadline, request);
                    }
                    Input::Batch(requests) => self.core.batch(now, &mut turn, requests),
                }
            }
            if self.core.next_deadline().is_some_and(|at| at <= now.monotonic) {
                self.core.deadline(now, &mut turn);
            }
            let (batch, touched, decided) = turn.finish();
            outputs = decided;
            let is_stored = self.commit(now, &batch, &touched, outside);
            for output in outputs.drain(..) {
                let output = if is_stored { Some(output) } else { output.without_what_was_to_be_stored() };
                if let Some(output) = output {
                    self.let_out(output, &mut to_self, &mut outbox, outside);
                }
            }
            // A store that syncs at once may have done so within the commit.
            self.release(&mut to_self, &mut outbox, outside);
            if to_self.is_empty() {
                break;
            }
        }
        for change in self.core.shared.take_changes() {
            outside.changed(change);
        }
        if let Some(peers) = self.core.shared.take_changed_peers() {
            outside.peers_changed(&peers);
        }
        outbox.flush(&mut self.core.shared, outside);
        outputs.shrink_to(OUTPUTS_KEPT);
        to_self.shrink_to(OUTPUTS_KEPT);
        self.scratch = Scratch { outbox, to_self, outputs };
        let took = outside.elapsed().saturating_sub(began);
        trace::turned(self.core.shared.me.node, taken, took);
        self.turns.ended(taken, took);
    }

    /// Commits a turn's writes. When that fails, nothing may be seen of what the turn wanted to store.
    fn commit(&mut self, now: Now, batch: &Batch, touched: &[Stripe], outside: &dyn Outside) -> bool {
        if batch.is_empty() {
            return true;
        }
        if self.core.shared.standing == Standing::Halted {
            return false;
        }
        let began = outside.elapsed();
        let outcome = self.store.commit(batch);
        match &outcome {
            Ok(sequence) => self.turns.committed(batch, *sequence, began, outside.elapsed()),
            Err(error) => {
                trace::not_stored(self.core.shared.me.node, error);
                self.turns.refused();
            }
        }
        match outcome {
            Ok(sequence) => {
                self.committed = sequence;
                for stripe in touched {
                    self.last_write[usize::from(stripe.0)] = sequence;
                }
                self.store.request_sync(sequence);
                true
            }
            Err(CommitError::Poisoned(_) | CommitError::Store(StoreError::Poisoned(_))) => {
                self.halt();
                false
            }
            // What the node knows about itself was changed in memory already; without the store it cannot go on.
            Err(_) if touched.contains(&Stripe::META) => {
                self.halt();
                false
            }
            Err(_) => {
                if self.core.store_failed(now, batch, &*self.store).is_err() {
                    self.halt();
                }
                false
            }
        }
    }

    fn halt(&mut self) {
        self.core.halt();
        self.turns.halt();
        self.held.clear();
        self.held_bytes = 0;
    }

    /// Lets out what has become durable.
    fn release(&mut self, to_self: &mut VecDeque<Message>, outbox: &mut Outbox, outside: &mut dyn Outside) {
        match self.store.durable_sequence() {
            Ok(durable) => {
                assert!(durable >= self.durable, "what is durable stays durable");
                self.durable = durable;
                self.turns.durable(durable, || outside.elapsed());
            }
            Err(_) => return self.halt(),
        }
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= self.durable) {
            for output in entry.remove() {
                self.held_bytes -= output.bytes();
                self.emit(output, to_self, outbox, outside);
            }
        }
    }

    /// Up to which commit the store must be durable before something is let out.
    fn needs(&self, release: Release) -> Sequence {
        match release {
            Release::Now => Sequence::default(),
            Release::Durable(_) | Release::Settled if sabotaged!(ReplyBeforeDurable) => Sequence::default(),
            Release::Durable(stripe) => self.last_write[usize::from(stripe.0)],
            Release::Settled => self.committed,
        }
    }

    fn let_out(
        &mut self,
        output: Output,
        to_self: &mut VecDeque<Message>,
        outbox: &mut Outbox,
        outside: &mut dyn Outside,
    ) {
        let needs = match &output {
            Output::Send { release, .. } | Output::Reply { release, .. } => self.needs(*release),
            Output::Together { parts, .. } => {
                let needs = parts.iter().map(|(_, release)| self.needs(*release));
                if sabotaged!(LeaveWithTheFirst) { needs.min() } else { needs.max() }.unwrap_or_default()
            }
        };
        if needs <= self.durable {
            self.emit(output, to_self, outbox, outside);
        } else {
            self.held_bytes += output.bytes();
            self.held.entry(needs).or_default().push(output);
        }
    }

    fn emit(
        &mut self,
        output: Output,
        to_self: &mut VecDeque<Message>,
        outbox: &mut Outbox,
        outside: &mut dyn Outside,
    ) {
        match output {
            Output::Send { to, message, .. } if to == self.core.shared.me.node => to_self.push_back(message),
            Output::Send { to, message, .. } => outbox.add(to, message),
            Output::Together { to, parts } => {
                let message = Message::together(parts.into_iter().map(|(message, _)| message).collect());
                let output = Output::Send { to, message, release: Release::Now };
                self.emit(output, to_self, outbox, outside);
            }
            Output::Reply { client, outcome, .. } => outside.reply(client, outcome),
        }
    }

    /// What has been counted, but for the requests of clients: their host knows when they came.
    pub(crate) fn stats(&self, now: Now) -> Stats {
        let (beliefs, round_trips) = self.core.beliefs();
        Stats {
            status: self.core.status(now),
            requests: RequestStats::default(),
            traffic: self.core.shared.traffic.clone(),
            turns: self.turns.stats().clone(),
            round_trips,
            beliefs,
        }
    }

    /// When the next turn is due even if nothing arrives.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.core.next_deadline()
    }

    /// The machines.
    pub(crate) const fn core(&self) -> &NodeCore {
        &self.core
    }

    /// The machines, for a simulated host.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn core_mut(&mut self) -> &mut NodeCore {
        &mut self.core
    }

    /// Whether everything that was committed is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.committed <= self.durable
    }

    /// Notes that this life forgets nothing, as its last write; durable once [`Worker::is_settled`]. Turns do nothing from
    /// here on: a version that was minted after the note might be forgotten, and its dot minted again.
    pub(crate) fn finish(&mut self) -> Result<(), CommitError> {
        self.finished = true;
        let mut batch = Batch::new();
        self.core.finish(&mut batch);
        self.committed = self.store.commit(&batch)?;
        self.store.request_sync(self.committed);
        Ok(())
    }
}

// A frame must be able to carry one record of the largest size with its key.
const _: () = assert!(OVERHEAD_BYTES_MAX < 128);
