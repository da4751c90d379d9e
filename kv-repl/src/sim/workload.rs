//! Clients that read and write a few keys, each with one operation under way, and note what they see.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::context::CausalContext;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload, Rule};

use super::options::Options;
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::{History, ReadBegun, WriteIndex};
use crate::quorum::Consistency;
use crate::request::{Get, Put, WriteError};

/// All clients of a run.
pub(super) struct Workload {
    keys: Vec<(RecordKey, Rule)>,
    clients: Vec<Client>,
    next_value: u64,
    pub(super) history: History,
    pub(super) operations: u64,
    pub(super) failures: u64,
}

struct Client {
    busy: Option<(u64, Doing)>,
    /// What it last saw of each key.
    contexts: Vec<Option<CausalContext>>,
    /// A write whose outcome it does not know, and may try again.
    unsure: Option<(WriteIndex, Put)>,
}

enum Doing {
    Reading { key: usize, checked: Option<ReadBegun> },
    Writing { key: usize, write: WriteIndex, put: Put },
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
        let client = || Client { busy: None, contexts: vec![None; keys.len()], unsure: None };
        let clients = (0..options.clients).map(|_| client()).collect();
        Self { keys, clients, next_value: 0, history: History::default(), operations: 0, failures: 0 }
    }

    pub(super) fn keys(&self) -> &[(RecordKey, Rule)] {
        &self.keys
    }

    /// Lets a client look for the outcome of its operation, or begin another one.
    pub(super) fn attend(&mut self, world: &mut World, client: usize) {
        match self.clients[client].busy.take() {
            Some((request, doing)) => match world.take(request) {
                Answer::Pending => self.clients[client].busy = Some((request, doing)),
                answer => self.finished(world, client, doing, &answer),
            },
            None => self.begin(world, client),
        }
    }

    /// Notes outcomes without beginning anything. Returns whether somebody still waits.
    pub(super) fn drain(&mut self, world: &mut World) -> bool {
        for client in 0..self.clients.len() {
            if self.clients[client].busy.is_some() {
                self.attend(world, client);
            }
        }
        self.clients.iter().any(|client| client.busy.is_some())
    }

    fn begin(&mut self, world: &mut World, client: usize) {
        // A client mostly knows which nodes are up; now and then it finds out the hard way.
        let nodes = world.nodes();
        let up: Vec<_> = nodes.iter().copied().filter(|node| world.is_up(*node)).collect();
        if up.is_empty() {
            return;
        }
        self.operations += 1;
        let nodes = if world.random.u32(0..20) == 0 { nodes } else { up };
        let node = nodes[world.random.usize(..nodes.len())];
        let key = world.random.usize(..self.keys.len());
        if let Some((write, put)) = self.clients[client].unsure.take()
            && world.random.bool()
        {
            self.history.write_retried(write);
            let request = world.put(node, put.clone());
            let key = self.keys.iter().position(|(key, _)| *key == put.key).expect("a key of the workload");
            self.clients[client].busy = Some((request, Doing::Writing { key, write, put }));
            return;
        }
        if world.random.u32(0..10) < 4 {
            let consistency = match world.random.u32(0..10) {
                0 => Consistency::One,
                1 => Consistency::All,
                _ => Consistency::Quorum,
            };
            let get = Get { key: self.keys[key].0.clone(), consistency };
            // A single replica promises nothing about what others have acknowledged.
            let checked =
                (consistency != Consistency::One).then(|| self.history.read_begins(&self.keys[key].0, world.now_us()));
            let request = world.get(node, get);
            self.clients[client].busy = Some((request, Doing::Reading { key, checked }));
            return;
        }
        self.begin_write(world, client, key, node);
    }

    fn begin_write(&mut self, world: &mut World, client: usize, key: usize, node: kv_core::NodeId) {
        let (record_key, _) = self.keys[key].clone();
        let context = self.clients[client].contexts[key].clone().filter(|_| world.random.u32(0..10) < 8);
        let value = (world.random.u32(0..10) < 8).then(|| {
            self.next_value += 1;
            Bytes::from(format!("value {} of client {client}", self.next_value))
        });
        let operation = OperationId(world.random.u128(..));
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
            consistency: if world.random.u32(0..10) == 0 { Consistency::All } else { Consistency::Quorum },
        };
        let request = world.put(node, put.clone());
        self.clients[client].busy = Some((request, Doing::Writing { key, write, put }));
    }

    fn finished(&mut self, world: &World, client: usize, doing: Doing, answer: &Answer) {
        match (doing, answer) {
            (Doing::Reading { key, checked }, Answer::Read(Ok(read))) => {
                if let Some(checked) = checked {
                    self.history.read_ends(&checked, self.keys[key].1, read);
                }
                self.clients[client].contexts[key] = Some(read.context().clone());
            }
            (Doing::Writing { key, write, .. }, Answer::Written(Ok(written))) => {
                self.history.write_acknowledged(write, world.now_us(), self.keys[key].1, written);
                if world.trace_hash().is_multiple_of(2) {
                    self.clients[client].contexts[key] = Some(written.context.clone());
                }
            }
            (Doing::Writing { write, put, .. }, answer) => {
                self.failures += 1;
                if matches!(answer, Answer::Gone | Answer::Written(Err(WriteError::Ambiguous { .. }))) {
                    self.clients[client].unsure = Some((write, put));
                }
            }
            (Doing::Reading { .. }, _) => self.failures += 1,
        }
    }
}
