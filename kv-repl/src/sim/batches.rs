//! A client that hands in batches of reads and writes of the other clients' keys, one batch at a time.

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::key::RecordKey;
use kv_core::record::{OperationId, Payload, Rule};

use super::clients::{any_up, choose_key, is_late};
use super::workload::forget;
use super::world::{Answer, BatchPart, World};
use crate::check::{History, ReadBegun, WriteIndex};
use crate::quorum::Consistency;
use crate::request::{Get, Put};

/// The client.
pub(super) struct Batcher {
    keys: Vec<(RecordKey, Rule)>,
    /// As in [`Options`](super::Options).
    spell_ms: u64,
    busy: Vec<(u64, Part)>,
    next_value: u64,
    /// Batches that were handed in.
    pub(super) batches: u64,
    pub(super) operations: u64,
    pub(super) failures: u64,
}

/// One request of a batch.
enum Part {
    Reading { rule: Rule, begun: ReadBegun },
    Writing { rule: Rule, write: WriteIndex },
}

impl Batcher {
    pub(super) fn new(keys: &[(RecordKey, Rule)], spell_ms: u64) -> Self {
        Self { keys: keys.to_vec(), spell_ms, busy: Vec::new(), next_value: 0, batches: 0, operations: 0, failures: 0 }
    }

    /// Looks for outcomes; when all are there, hands in another batch.
    pub(super) fn attend(&mut self, world: &mut World, history: &mut History) {
        if !self.drain(world, history) {
            self.begin(world, history);
        }
    }

    /// Notes outcomes without beginning anything. Returns whether some are waited for.
    pub(super) fn drain(&mut self, world: &mut World, history: &mut History) -> bool {
        for (request, part) in std::mem::take(&mut self.busy) {
            match (part, world.take(request)) {
                (part, Answer::Pending) => self.busy.push((request, part)),
                (Part::Reading { rule, begun }, Answer::Read(Ok(read))) => {
                    forget(world, history, &begun);
                    history.read_ends(&begun, rule, &read);
                }
                (Part::Writing { rule, write }, Answer::Written(Ok(written))) => {
                    history.write_acknowledged(write, world.now_us(), rule, &written);
                }
                _ => self.failures += 1,
            }
        }
        !self.busy.is_empty()
    }

    fn begin(&mut self, world: &mut World, history: &mut History) {
        let Some(node) = any_up(world) else { return };
        let mut parts = Vec::new();
        let mut batch = Vec::new();
        for _ in 0..world.random.usize(2..=5) {
            let (key, rule) = self.keys[choose_key(world, self.keys.len(), self.spell_ms)].clone();
            if world.random.bool() || is_late(world, self.spell_ms) {
                parts.push(Part::Reading { rule, begun: history.read_begins(&key, world.now_us()) });
                batch.push(BatchPart::Get(Get { key, consistency: Consistency::Quorum, floor: None }));
                continue;
            }
            self.next_value += 1;
            let value = Bytes::from(format!("value {} of the client with batches", self.next_value));
            let operation = OperationId(world.random.u128(..));
            let seen = Some(VersionVector::new());
            parts.push(Part::Writing { rule, write: history.write_begins(&key, Some(value.clone()), operation, seen) });
            batch.push(BatchPart::Put(Put {
                key,
                payload: Payload::Value(value),
                context: None,
                ttl: None,
                operation,
                consistency: Consistency::Quorum,
                strict: false,
            }));
        }
        self.batches += 1;
        self.operations += parts.len() as u64;
        self.busy = world.batch(node, batch).into_iter().zip(parts).collect();
    }
}
