//! One client: a thread that keeps a window of requests under way, writes down what was acknowledged, and reads it back.
//!
//! Each key belongs to one client, and a client has one request per key under way at most. So it knows what a read has to
//! answer, and a key that is written again is written with the context of the write before.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use kv_core::record::OperationId;
use kv_repl::NodeId;
use kv_repl::client::Pending;
use kv_repl::request::{Read, ReadError, WriteError, Written};
use thiserror::Error;

use crate::coordinators::Coordinators;
use crate::latency::{Kind, Latencies};
use crate::ledger::{Ledger, Verdict};
use crate::phase::{Phase, Progress};
use crate::window::Window;
use crate::workload::Write;

/// Requests that one client has under way at most.
pub const WINDOW: usize = 64;

/// Bytes of values that one client has under way at most, unless a single one is larger.
const BYTES_UNDER_WAY_MAX: usize = 4 << 20;

/// After how many writes a client reads one of its keys.
const PUTS_PER_GET: u32 = 3;

/// How long one attempt may take. Shorter than the default, because an attempt at a dead node answers only then.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a request is tried in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause before a request is tried a third time, and by how much each further one is longer.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSES_MAX: u32 = 25;

/// How many unexpected answers are described.
const FINDINGS_MAX: usize = 5;

/// What one client has to tell.
#[derive(Default)]
pub struct Findings {
    /// Requests by phase.
    pub latencies: Latencies,
    /// Writes acknowledged.
    pub writes: u64,
    /// Those of them that replaced an earlier value of their key.
    pub overwrites: u64,
    /// Attempts that had to be repeated.
    pub retries: u64,
    /// Reads that found nothing under an acknowledged key.
    pub lost: u64,
    /// Reads that found another value than the last acknowledged.
    pub wrong: u64,
    /// Reads that found a copy of a doubtful write beside the last value, see [`Verdict::RightWithCompanion`].
    pub companions: u64,
    /// Who coordinated the reads that were answered after the dead node had come back.
    pub late_reads: Vec<(NodeId, u64)>,
    /// Some of the unexpected answers.
    pub unexpected: Vec<String>,
}

impl Findings {
    /// What two clients found together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.latencies.add(&other.latencies);
        self.writes += other.writes;
        self.overwrites += other.overwrites;
        self.retries += other.retries;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.companions += other.companions;
        self.late_reads.extend(other.late_reads);
        self.unexpected.extend(other.unexpected);
        self
    }
}

/// A request that did not succeed although it was tried again and again.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A write that can never succeed, or did not in time.
    #[error("key {key:?} could not be written after {attempts} attempts: {error}")]
    Write {
        /// The key.
        key: Bytes,
        /// How often it was tried.
        attempts: usize,
        /// What the last attempt came to.
        error: WriteError,
    },
    /// A read that can never succeed, or did not in time.
    #[error("key {key:?} could not be read after {attempts} attempts: {error}")]
    Read {
        /// The key.
        key: Bytes,
        /// How often it was tried.
        attempts: usize,
        /// What the last attempt came to.
        error: ReadError,
    },
}

/// A client with the keys it has written.
pub struct Client<'a> {
    coordinators: &'a Coordinators,
    progress: &'a Progress,
    ledger: Ledger,
    window: Window<Call, Ticket>,
    bytes_under_way: usize,
    /// Whose turn it is to coordinate a read.
    turn: usize,
    random: Rng,
    findings: Findings,
}

/// A request on its way.
enum Call {
    Put(Pending<Result<Written, WriteError>>),
    Get(Pending<Result<Read, ReadError>>),
}

enum Answer {
    Put(Result<Written, WriteError>),
    Get(Result<Read, ReadError>),
}

impl Future for Call {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Self::Put(put) => Pin::new(put).poll(context).map(Answer::Put),
            Self::Get(get) => Pin::new(get).poll(context).map(Answer::Get),
        }
    }
}

/// What a request is for, through all its attempts.
struct Ticket {
    key: usize,
    began: Instant,
    phase: Phase,
    attempts: usize,
    /// Of a read: who coordinates it.
    node: NodeId,
    put: Option<PutTicket>,
}

struct PutTicket {
    value: Bytes,
    /// One name for all attempts, so that two of them that succeed are known as one write.
    operation: Option<OperationId>,
    had_doubtful_attempt: bool,
}

impl<'a> Client<'a> {
    /// A client that has written nothing. `number` tells it from the others.
    #[must_use]
    pub fn new(coordinators: &'a Coordinators, progress: &'a Progress, number: usize, seed: u64) -> Self {
        let late_reads = coordinators.nodes().iter().map(|node| (*node, 0)).collect();
        Self {
            coordinators,
            progress,
            ledger: Ledger::default(),
            window: Window::new(WINDOW),
            bytes_under_way: 0,
            turn: number,
            random: Rng::with_seed(seed ^ number as u64),
            findings: Findings { late_reads, ..Findings::default() },
        }
    }

    /// How many keys it has written.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.ledger.len()
    }

    /// The keys it has written.
    pub fn acknowledged_keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ledger.len()).map(|key| &self.ledger.key(key)[..])
    }

    /// Writes what comes until nothing more can come, and reads some of it in between.
    ///
    /// # Errors
    /// [`ClientError`]; requests under way are abandoned.
    pub fn load(&mut self, writes: &Receiver<Write>) -> Result<(), ClientError> {
        loop {
            let write = match writes.try_recv() {
                Ok(write) => write,
                // Answers are not kept waiting for the next write.
                Err(TryRecvError::Empty) if !self.window.is_empty() => {
                    self.finish_one()?;
                    continue;
                }
                Err(TryRecvError::Empty) => match writes.recv() {
                    Ok(write) => write,
                    Err(_) => return Ok(()),
                },
                Err(TryRecvError::Disconnected) => return self.finish_all(),
            };
            self.put(&write)?;
            if self.random.u32(..PUTS_PER_GET) == 0 {
                let key = self.random.usize(..self.ledger.len());
                if !self.ledger.is_busy(key) {
                    self.get(key)?;
                }
            }
        }
    }

    /// Reads every key it has written, through all nodes in turn.
    ///
    /// # Errors
    /// [`ClientError`]; requests under way are abandoned.
    pub fn read_back(&mut self) -> Result<(), ClientError> {
        for key in 0..self.ledger.len() {
            self.get(key)?;
        }
        self.finish_all()
    }

    /// What it has to tell.
    #[must_use]
    pub fn into_findings(self) -> Findings {
        self.findings
    }

    fn put(&mut self, write: &Write) -> Result<(), ClientError> {
        let key = self.ledger.number_of(&write.key);
        while self.ledger.is_busy(key) || !self.has_room(write.value.len()) {
            self.finish_one()?;
        }
        self.ledger.set_busy(key, true);
        self.bytes_under_way += write.value.len();
        let put = PutTicket { value: write.value.clone(), operation: None, had_doubtful_attempt: false };
        self.start(self.ticket(key, Some(put)));
        Ok(())
    }

    fn get(&mut self, key: usize) -> Result<(), ClientError> {
        while !self.has_room(0) {
            self.finish_one()?;
        }
        self.ledger.set_busy(key, true);
        self.turn += 1;
        self.start(self.ticket(key, None));
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> bool {
        !self.window.is_full() && (self.bytes_under_way == 0 || self.bytes_under_way + bytes <= BYTES_UNDER_WAY_MAX)
    }

    fn ticket(&self, key: usize, put: Option<PutTicket>) -> Ticket {
        let node = self.coordinators.nodes()[0];
        Ticket { key, began: Instant::now(), phase: self.progress.phase(), attempts: 0, node, put }
    }

    /// Starts an attempt.
    fn start(&mut self, mut ticket: Ticket) {
        let key = self.ledger.key(ticket.key).clone();
        let call = if let Some(put) = &mut ticket.put {
            let (_, table) = self.coordinators.for_write(&key, ticket.attempts);
            let mut request = table.put(key, put.value.to_vec()).deadline(ATTEMPT_PATIENCE);
            if let Some(context) = self.ledger.context(ticket.key) {
                request = request.context(context);
            }
            match put.operation {
                Some(operation) => request = request.operation(operation),
                None => put.operation = Some(request.operation_id()),
            }
            Call::Put(request.into_future())
        } else {
            let (node, table) = self.coordinators.for_read(self.turn + ticket.attempts);
            ticket.node = node;
            Call::Get(table.get(key).deadline(ATTEMPT_PATIENCE).into_future())
        };
        ticket.attempts += 1;
        self.window.start(call, ticket);
    }

    fn finish_all(&mut self) -> Result<(), ClientError> {
        while !self.window.is_empty() {
            self.finish_one()?;
        }
        Ok(())
    }

    /// Waits for one attempt to end; starts the next one when it failed.
    fn finish_one(&mut self) -> Result<(), ClientError> {
        let (answer, ticket) = self.window.finish().expect("something is under way");
        match answer {
            Answer::Put(Ok(written)) => self.acknowledged(ticket, written),
            Answer::Put(Err(error)) => self.put_failed(ticket, error)?,
            Answer::Get(Ok(read)) => self.answered(&ticket, &read),
            Answer::Get(Err(error)) => self.get_failed(ticket, error)?,
        }
        Ok(())
    }

    fn acknowledged(&mut self, ticket: Ticket, written: Written) {
        self.ended(&ticket, Kind::Put);
        let Ticket { key, phase, put: Some(put), .. } = ticket else { unreachable!("a put answers a put") };
        self.bytes_under_way -= put.value.len();
        self.findings.writes += 1;
        self.findings.overwrites += u64::from(self.ledger.context(key).is_some());
        self.ledger.acknowledge(key, &put.value, written, put.had_doubtful_attempt);
        self.progress.acknowledge(phase);
    }

    fn answered(&mut self, ticket: &Ticket, read: &Read) {
        self.ended(ticket, Kind::Get);
        if ticket.phase >= Phase::After {
            let late_reads = self.findings.late_reads.iter_mut().find(|(node, _)| *node == ticket.node);
            late_reads.expect("a member of the cluster").1 += 1;
        }
        let verdict = self.ledger.judge(ticket.key, read);
        match verdict {
            Verdict::Right => return,
            Verdict::RightWithCompanion => self.findings.companions += 1,
            Verdict::Lost => self.findings.lost += 1,
            Verdict::Wrong => self.findings.wrong += 1,
        }
        if verdict != Verdict::RightWithCompanion && self.findings.unexpected.len() < FINDINGS_MAX {
            let (key, node, phase) = (self.ledger.key(ticket.key), ticket.node, ticket.phase);
            let values = read.values();
            self.findings.unexpected.push(format!("{key:?} read through {node}, {phase}: {verdict:?}, {values:?}"));
        }
    }

    fn ended(&mut self, ticket: &Ticket, kind: Kind) {
        self.findings.latencies.record(self.progress.phase(), kind, ticket.began.elapsed());
        self.ledger.set_busy(ticket.key, false);
    }

    fn put_failed(&mut self, mut ticket: Ticket, error: WriteError) -> Result<(), ClientError> {
        let put = ticket.put.as_mut().expect("a put answers a put");
        let may_work_later = match error {
            WriteError::Ambiguous { .. } | WriteError::Stopped => {
                put.had_doubtful_attempt = true;
                true
            }
            WriteError::Unavailable { .. }
            | WriteError::DeadlinePassed
            | WriteError::ClockDrift(_)
            | WriteError::NotServing(_)
            | WriteError::Overloaded { .. }
            | WriteError::Store(_) => true,
            _ => false,
        };
        if !may_work_later || ticket.began.elapsed() > PATIENCE {
            let key = self.ledger.key(ticket.key).clone();
            return Err(ClientError::Write { key, attempts: ticket.attempts, error });
        }
        self.try_again(ticket);
        Ok(())
    }

    fn get_failed(&mut self, ticket: Ticket, error: ReadError) -> Result<(), ClientError> {
        let may_work_later = matches!(
            error,
            ReadError::Unavailable { .. }
                | ReadError::Timeout { .. }
                | ReadError::NotServing(_)
                | ReadError::Overloaded { .. }
                | ReadError::Stopped
        );
        if !may_work_later || ticket.began.elapsed() > PATIENCE {
            let key = self.ledger.key(ticket.key).clone();
            return Err(ClientError::Read { key, attempts: ticket.attempts, error });
        }
        self.try_again(ticket);
        Ok(())
    }

    /// The first time at once, because another node may well answer; later with growing pauses.
    fn try_again(&mut self, ticket: Ticket) {
        self.findings.retries += 1;
        let pauses = u32::try_from(ticket.attempts - 1).unwrap_or(PAUSES_MAX).min(PAUSES_MAX);
        if pauses > 0 {
            std::thread::sleep(PAUSE * pauses);
        }
        self.start(ticket);
    }
}
