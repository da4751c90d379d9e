//! Coordinates the writes of keys that this node holds.
//!
//! 1. Mint the write: read the record here, give it a dot and a stamp, store the change.
//! 2. Send the change to every other replica at once; none waits for the sync here.
//! 3. Each replica, this one included, acknowledges when the change is durable at it.
//! 4. Answer when as many replicas have acknowledged as were asked for; at the deadline, answer that it is ambiguous.
//! 5. Ask those who have not acknowledged again, with growing pauses, until the deadline. A change may arrive any number of
//!    times.
//! 6. Say of a replica that cannot be reached, refuses, or has not acknowledged by the first retry, that it has missed the
//!    change; and if it acknowledges after all, that as well. Nothing here waits for what becomes of that.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::record::{OperationId, Payload};
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use super::retry::{Agenda, Patience};
use super::{placed, reachable, required};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request, Stripe};
use crate::message::Message;
use crate::mint::Minter;
use crate::request::{Put, WriteError, Written};

/// The machine of writes.
#[derive(Debug)]
pub(crate) struct Writes {
    minter: Minter,
    retry_after: Millis,
    under_way: BTreeMap<u64, UnderWay>,
    agenda: Agenda,
    next_tag: u64,
}

#[derive(Debug)]
struct UnderWay {
    origin: Origin,
    operation: OperationId,
    key: RecordKey,
    change: Bytes,
    epoch: u64,
    /// Replicas that have not acknowledged.
    missing: BTreeSet<NodeId>,
    /// Those among them that were said to have missed it.
    missed: BTreeSet<NodeId>,
    acknowledged: usize,
    required: usize,
    /// The answer, until it is given.
    written: Option<Written>,
    patience: Patience,
}

impl Writes {
    pub(crate) fn new(settings: &Settings, boot: Boot, minter: Minter) -> Self {
        Self {
            minter,
            retry_after: settings.retry_after,
            under_way: BTreeMap::new(),
            agenda: Agenda::new(),
            next_tag: boot.first_tag(),
        }
    }

    /// How many writes wait for their answer or for stragglers.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(crate) const fn minter(&mut self) -> &mut Minter {
        &mut self.minter
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        put: &Put,
        out: &mut Vec<Action>,
    ) -> Result<(), WriteError> {
        let (table, replicas) = placed(env, &put.key).ok_or(WriteError::UnknownTable)?;
        assert!(replicas.contains(&env.me.node), "a write is coordinated by a replica of its key");
        let required = required(env, put.consistency, replicas);
        let reachable = reachable(env, replicas);
        if reachable < required {
            return Err(WriteError::Unavailable { reachable, required });
        }
        if env.now.monotonic >= deadline {
            return Err(WriteError::DeadlinePassed);
        }
        let minted = match (&put.payload, put.ttl, table.options.ttl) {
            (Payload::Value(_), None, ttl @ Some(_)) => {
                self.minter.mint(env, table.options.rule, &Put { ttl, ..put.clone() })?
            }
            _ => self.minter.mint(env, table.options.rule, put)?,
        };
        if !minted.meta.is_empty() {
            out.push(Action::Store { stripe: Stripe::META, batch: minted.meta });
        }
        if let Some(epoch) = minted.epoch {
            out.push(Action::Notify(Notice::ActorEpoch(epoch)));
        }
        let stripe = Stripe::of(put.key.token());
        if let Some(record) = &minted.record {
            let mut batch = Batch::new();
            batch.put(Space::DATA, put.key.as_bytes(), record);
            out.push(Action::Store { stripe, batch });
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        out.push(Action::Send {
            to: env.me.node,
            message: Message::WriteReply { tag, refused: None },
            release: Release::Durable(stripe),
        });
        let mut write = UnderWay {
            origin,
            operation: put.operation,
            key: put.key.clone(),
            change: minted.change,
            epoch: env.catalog.map_or(0, |catalog| catalog.founding().epoch),
            missing: replicas.iter().copied().collect(),
            missed: BTreeSet::new(),
            acknowledged: 0,
            required,
            written: Some(minted.written),
            patience: Patience::new(env.now.monotonic, self.retry_after, deadline),
        };
        write.send(env.me.node, tag, out);
        let away = replicas.iter().copied().filter(|node| !env.peers.is_reachable(*node));
        write.miss(env.me.node, away, out);
        self.agenda.add(write.patience.at, tag);
        self.under_way.insert(tag, write);
        Ok(())
    }

    fn acknowledged(&mut self, from: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(write) = self.under_way.get_mut(&tag) else { return };
        if !write.missing.remove(&from) && !sabotaged!(CountAcksTwice) {
            return;
        }
        if write.missed.remove(&from) {
            let (key, change) = (write.key.clone(), write.change.clone());
            out.push(Action::Notify(Notice::Caught { target: from, key, change }));
        }
        write.acknowledged += 1;
        if write.acknowledged >= write.required
            && let Some(mut written) = write.written.take()
        {
            written.acknowledged = write.acknowledged;
            out.push(reply(write.origin, Ok(written)));
        }
        if write.missing.is_empty() {
            self.agenda.remove(write.patience.at, tag);
            self.under_way.remove(&tag);
        }
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        while let Some(tag) = self.agenda.pop(env.now.monotonic) {
            let write = self.under_way.get_mut(&tag).expect("the agenda lists writes under way");
            let silent: Vec<NodeId> = write.missing.iter().copied().collect();
            write.miss(env.me.node, silent.into_iter(), out);
            // Stragglers of an answered write are asked again only while they can be reached.
            let hopeless = write.written.is_none() && !write.missing.iter().any(|node| env.peers.is_reachable(*node));
            if env.now.monotonic >= write.patience.deadline || hopeless {
                if write.written.is_some() {
                    let (operation, required) = (write.operation, write.required);
                    let error = WriteError::Ambiguous { operation, acknowledged: write.acknowledged, required };
                    out.push(reply(write.origin, Err(error)));
                }
                self.under_way.remove(&tag);
                continue;
            }
            write.send(env.me.node, tag, out);
            write.patience.again(env.now.monotonic);
            self.agenda.add(write.patience.at, tag);
        }
    }
}

impl UnderWay {
    /// Says that these have missed the change, unless it was said before.
    fn miss(&mut self, me: NodeId, nodes: impl Iterator<Item = NodeId>, out: &mut Vec<Action>) {
        for target in nodes.filter(|node| *node != me && self.missing.contains(node)) {
            if !sabotaged!(NeverHint) && self.missed.insert(target) {
                let (key, change) = (self.key.clone(), self.change.clone());
                out.push(Action::Notify(Notice::Missed { target, key, change }));
            }
        }
    }

    /// Sends the change to the peers that have not acknowledged it. It may leave before it is durable here, but not before
    /// the mark of the clock and the epoch of the actor are.
    fn send(&self, me: NodeId, tag: u64, out: &mut Vec<Action>) {
        out.extend(self.missing.iter().filter(|node| **node != me).map(|to| Action::Send {
            to: *to,
            message: Message::Write { tag, epoch: self.epoch, key: self.key.clone(), record: self.change.clone() },
            release: Release::Durable(Stripe::META),
        }));
    }
}

impl Machine for Writes {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Put(put) } => {
                if let Err(error) = self.begin(env, origin, deadline, &put, out) {
                    out.push(reply(origin, Err(error)));
                }
            }
            Event::Message { from, message: Message::WriteReply { tag, refused: None } } => {
                self.acknowledged(from, tag, out);
            }
            // The replica is asked again all the same: the reason may have gone.
            Event::Message { from, message: Message::WriteReply { tag, refused: Some(_) } } => {
                if let Some(write) = self.under_way.get_mut(&tag) {
                    write.miss(env.me.node, std::iter::once(from), out);
                }
            }
            Event::Deadline => self.due(env, out),
            Event::Message { .. } | Event::Request { .. } | Event::Introduction { .. } | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}

const fn reply(origin: Origin, outcome: Result<Written, WriteError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Put(outcome), release: Release::Now }
}
