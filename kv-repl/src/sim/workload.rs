//! Clients that read and write a few keys, each with one operation under way, and note what they see. Every other client has a
//! session, reads and writes mostly at One, and lets its session say what a write replaces.
//!
//! What a sloppy table has acknowledged with the help of fallbacks may be missed until all is healed, and not after that.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::VersionVector;
use kv_core::context::CausalContext;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload, Rule};

use super::clients::{Clients, UnderWay, all_up, choose_key, is_late};
use super::options::Options;
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::{History, ReadBegun, RequestBegun, SessionLedger, WriteIndex};
use crate::quorum::Consistency;
use crate::request::{Get, Put, WriteError, Written};
use crate::seen::Floor;
use crate::session::state::{SessionState, Subject, Ticket};

/// All clients of a run.
pub(super) struct Workload {
    keys: Vec<(RecordKey, Rule)>,
    clients: Vec<Client>,
    /// How many hold each key.
    replicas: usize,
    /// Whether others keep what replicas have missed, and what they were told to have kept.
    sloppy: bool,
    by_fallbacks: Vec<ByFallbacks>,
    /// As in [`Options`].
    spell_ms: u64,
    next_value: u64,
    pub(super) history: History,
    pub(super) sessions: SessionLedger,
    pub(super) operations: u64,
    pub(super) failures: u64,
}

struct Client {
    session: Option<SessionState>,
    busy: UnderWay<Doing>,
    /// What it last saw of each key.
    contexts: Vec<Option<CausalContext>>,
    /// A write whose outcome it does not know, and may try again.
    unsure: Option<(WriteIndex, Put)>,
}

pub(super) enum Doing {
    Reading { key: usize, checked: Option<ReadBegun>, session: Option<InSession> },
    Writing { key: usize, write: WriteIndex, put: Put, session: Option<InSession> },
}

/// A write that counted fallbacks.
struct ByFallbacks {
    write: WriteIndex,
    rule: Rule,
    written: Written,
    /// How many disks had been lost before.
    wipes: u64,
}

/// A request of a session.
pub(super) struct InSession {
    ticket: Ticket,
    begun: RequestBegun,
    /// Whether a write has to come after what the session was shown.
    follows: bool,
}

impl Workload {
    pub(super) fn new(options: &Options, tables: &[Arc<TableSchema>]) -> Self {
        let keys = tables.iter().flat_map(|table| {
            (0..options.keys).map(|key| {
                let key = RecordKey::new(table.id, &Key::from(format!("key {key}"))).expect("a short key");
                (key, table.options.rule)
            })
        });
        let keys: Vec<_> = keys.collect();
        // Room for a key or two, or for all.
        let session = |client: usize| match client % 4 {
            1 if options.sessions => Some(SessionState::with_room(options.keys)),
            3 if options.sessions => Some(SessionState::with_room(1 + client % 2)),
            _ => None,
        };
        let client =
            |client| Client { session: session(client), busy: None, contexts: vec![None; keys.len()], unsure: None };
        let clients = (0..options.clients).map(client).collect();
        let replicas = tables.iter().map(|table| table.options.replicas).max().unwrap_or(1);
        Self {
            keys,
            clients,
            replicas,
            sloppy: tables.iter().any(|table| table.options.is_sloppy()),
            by_fallbacks: Vec::new(),
            spell_ms: options.spell_ms,
            next_value: 0,
            history: History::default(),
            sessions: SessionLedger::default(),
            operations: 0,
            failures: 0,
        }
    }

    pub(super) fn keys(&self) -> &[(RecordKey, Rule)] {
        &self.keys
    }

    /// How many writes counted fallbacks.
    pub(super) fn by_fallbacks(&self) -> u64 {
        self.by_fallbacks.len() as u64
    }

    /// From now on reads at quorum must see what counted fallbacks. Not what a disk has gone for twice since: once with the replica
    /// that held it, and once with the fallback.
    pub(super) fn expect_what_fallbacks_kept(&mut self, world: &World) {
        for ByFallbacks { write, rule, written, wipes } in self.by_fallbacks.drain(..) {
            if world.wipes() <= wipes + 1 {
                self.history.write_acknowledged(write, world.now_us(), rule, &written);
            }
        }
    }

    /// At which level to read, how new the answer must be, and the request of the client's session, if it has one.
    fn begin_read(
        &mut self,
        client: usize,
        key: usize,
        consistency: Consistency,
    ) -> (Consistency, Option<Floor>, Option<InSession>) {
        let (record_key, rule) = &self.keys[key];
        let Some(session) = &mut self.clients[client].session else { return (consistency, None, None) };
        let subject = Subject { key: record_key, rule: *rule, replicas: self.replicas, sloppy: self.sloppy };
        let (ticket, floor) = session.read(subject, consistency);
        let begun = self.sessions.begins(client as u64, record_key);
        (ticket.consistency, Some(floor), Some(InSession { ticket, begun, follows: true }))
    }

    fn begin_write(&mut self, world: &mut World, client: usize, key: usize, node: NodeId) -> (u64, Doing) {
        let (record_key, rule) = self.keys[key].clone();
        let in_session = self.clients[client].session.is_some();
        let from_client = if in_session { 1 } else { 8 };
        let context = self.clients[client].contexts[key].clone().filter(|_| world.random.u32(0..10) < from_client);
        let values_of_ten = if is_late(world, self.spell_ms) { 2 } else { 8 };
        let value = (world.random.u32(0..10) < values_of_ten).then(|| {
            self.next_value += 1;
            Bytes::from(format!("value {} of client {client}", self.next_value))
        });
        let operation = OperationId(world.random.u128(..));
        let consistency = match world.random.u32(0..12) {
            0 => Consistency::All,
            1 => Consistency::EachQuorum,
            2..6 if in_session => Consistency::One,
            _ => Consistency::Quorum,
        };
        let follows = rule == Rule::LastWriteWins || context.is_none();
        let strict = self.sloppy && world.random.u32(0..10) == 0;
        let (consistency, strict, context, session) = match &mut self.clients[client].session {
            None => (consistency, strict, context, None),
            Some(session) => {
                let subject = Subject { key: &record_key, rule, replicas: self.replicas, sloppy: self.sloppy };
                let (ticket, context) = session.write(subject, consistency, context);
                // A session that had to forget the key cannot say what the write replaces.
                let follows = follows && !session.has_forgotten();
                let begun = self.sessions.begins(client as u64, &record_key);
                (ticket.consistency, ticket.strict, context, Some(InSession { ticket, begun, follows }))
            }
        };
        let seen = match (&context, &value) {
            (Some(context), _) => Some(context.open(&record_key).expect("a context the cluster gave")),
            (None, Some(_)) => Some(VersionVector::new()),
            (None, None) => None,
        };
        let write = self.history.write_begins(&record_key, value.clone(), operation, seen);
        let put = Put {
            key: record_key,
            payload: value.map_or(Payload::Tombstone, Payload::Value),
            context,
            ttl: None,
            operation,
            consistency,
            strict,
        };
        let request = world.put(node, put.clone());
        (request, Doing::Writing { key, write, put, session })
    }

    fn abandon(&mut self, client: usize, asked: Option<InSession>) {
        if let (Some(asked), Some(session)) = (asked, &mut self.clients[client].session) {
            session.abandon(&asked.ticket);
        }
    }
}

impl Clients for Workload {
    type Doing = Doing;

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn under_way(&mut self, client: usize) -> &mut UnderWay<Doing> {
        &mut self.clients[client].busy
    }

    fn begin(&mut self, world: &mut World, client: usize) -> UnderWay<Doing> {
        let up = all_up(world);
        if up.is_empty() {
            return None;
        }
        self.operations += 1;
        // A client mostly knows which nodes are up; now and then it finds out the hard way.
        let nodes = if world.random.u32(0..20) == 0 { world.nodes() } else { up };
        let node = nodes[world.random.usize(..nodes.len())];
        let key = choose_key(world, self.keys.len(), self.spell_ms);
        if let Some((write, put)) = self.clients[client].unsure.take()
            && world.random.bool()
        {
            self.history.write_retried(write);
            let request = world.put(node, put.clone());
            let key = self.keys.iter().position(|(key, _)| *key == put.key).expect("a key of the workload");
            return Some((request, Doing::Writing { key, write, put, session: None }));
        }
        if world.random.u32(0..10) < 4 {
            let consistency = match world.random.u32(0..16) {
                10.. if self.clients[client].session.is_some() => Consistency::One,
                0 => Consistency::One,
                1 => Consistency::All,
                2 => Consistency::EachQuorum,
                3 => Consistency::Two,
                4 => Consistency::LocalOne,
                5 => Consistency::LocalQuorum,
                _ => Consistency::Quorum,
            };
            let (consistency, floor, session) = self.begin_read(client, key, consistency);
            let get = Get { key: self.keys[key].0.clone(), consistency, floor };
            // Fewer than a quorum promise nothing about what others have acknowledged.
            let checked = consistency
                .is_quorum_of(self.replicas)
                .then(|| self.history.read_begins(&self.keys[key].0, world.now_us()));
            let request = world.get(node, get);
            return Some((request, Doing::Reading { key, checked, session }));
        }
        Some(self.begin_write(world, client, key, node))
    }

    fn finished(&mut self, world: &World, client: usize, doing: Doing, answer: &Answer) {
        match (doing, answer) {
            (Doing::Reading { key, checked, session }, Answer::Read(Ok(read))) => {
                if let Some(checked) = checked {
                    forget(world, &mut self.history, &checked);
                    self.history.read_ends(&checked, self.keys[key].1, read);
                }
                if let (Some(asked), Some(session)) = (session, &mut self.clients[client].session) {
                    let record_key = &self.keys[key].0;
                    let dots = world.forgotten(record_key, SessionLedger::shown(&asked.begun));
                    self.sessions.forget(record_key, &dots, world.settled(record_key));
                    self.sessions.read(&asked.begun, self.keys[key].1, read);
                    session.saw(&asked.ticket, read);
                    carry_over(session, world);
                }
                self.clients[client].contexts[key] = Some(read.context().clone());
            }
            (Doing::Writing { key, write, put, session }, Answer::Written(Ok(written))) => {
                let (record_key, rule) = &self.keys[key];
                // What fewer than a quorum have acknowledged is known to nobody but the session.
                if written.fallbacks > 0 {
                    assert!(!put.strict, "replicas alone count for a strict write");
                    let (rule, written) = (*rule, written.clone());
                    self.by_fallbacks.push(ByFallbacks { write, rule, written, wipes: world.wipes() });
                } else if put.consistency.is_quorum_of(self.replicas) {
                    self.history.write_acknowledged(write, world.now_us(), *rule, written);
                }
                if let (Some(asked), Some(session)) = (session, &mut self.clients[client].session) {
                    let is_tombstone = put.payload == Payload::Tombstone;
                    self.sessions.written(&asked.begun, *rule, asked.follows, is_tombstone, written);
                    session.wrote(&asked.ticket, is_tombstone, record_key, written);
                    carry_over(session, world);
                }
                if world.trace_hash().is_multiple_of(2) {
                    self.clients[client].contexts[key] = Some(written.context.clone());
                }
            }
            (Doing::Writing { write, put, session, .. }, answer) => {
                self.failures += 1;
                self.abandon(client, session);
                if matches!(answer, Answer::Gone | Answer::Written(Err(WriteError::Ambiguous { .. }))) {
                    self.clients[client].unsure = Some((write, put));
                }
            }
            (Doing::Reading { session, .. }, _) => {
                self.failures += 1;
                self.abandon(client, session);
            }
        }
    }
}

/// Tells a history what replicas may have forgotten of what a read must see.
pub(super) fn forget(world: &World, history: &mut History, begun: &ReadBegun) {
    let dots = world.forgotten(begun.key(), begun.seen());
    history.forget(begun.key(), &dots, world.settled(begun.key()));
}

/// Now and then a client goes on with what its token says.
fn carry_over(session: &mut SessionState, world: &World) {
    if world.trace_hash().is_multiple_of(3) {
        *session = session.carried_over();
    }
}
