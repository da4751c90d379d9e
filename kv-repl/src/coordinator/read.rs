//! Coordinates reads.
//!
//! 1. Ask as many replicas as are required, this node first; after a pause ask all that have not answered.
//! 2. When as many as required have answered and their records are equal, answer.
//! 3. When they differ, join them, write the join to those that lack it, and answer once as many replicas as required hold
//!    it durably. So a later read never sees less (lesson 09).
//! 4. At the deadline, give up.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::retry::{Agenda, Patience};
use super::{placed, reachable, required};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request};
use crate::message::{Message, Refusal};
use crate::request::{Get, Read, ReadError};

/// The machine of reads.
#[derive(Debug)]
pub(crate) struct Reads {
    retry_after: Millis,
    under_way: BTreeMap<u64, UnderWay>,
    agenda: Agenda,
    next_tag: u64,
}

#[derive(Debug)]
struct UnderWay {
    origin: Origin,
    get: Get,
    epoch: u64,
    /// This node first if it is one, then the others in turn.
    replicas: Vec<NodeId>,
    required: usize,
    stage: Stage,
    patience: Patience,
}

#[derive(Debug)]
enum Stage {
    /// What has been answered so far.
    Asking { answers: BTreeMap<NodeId, Option<Bytes>> },
    /// The join, who holds it durably, and who has been told.
    Repairing { joined: Record, bytes: Bytes, holders: BTreeSet<NodeId>, told: BTreeSet<NodeId> },
}

impl Reads {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            under_way: BTreeMap::new(),
            agenda: Agenda::new(),
            // Writes and reads are told apart by the top bit of their tags, because both send writes.
            next_tag: 1 << 63 | boot.first_tag(),
        }
    }

    /// How many reads wait for their answer.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether a tag was given by this machine, and not by that of writes.
    pub(crate) const fn owns(tag: u64) -> bool {
        tag >> 63 == 1
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        get: Get,
        out: &mut Vec<Action>,
    ) -> Result<(), ReadError> {
        let (_, replicas) = placed(env, &get.key).ok_or(ReadError::UnknownTable)?;
        let required = required(env, get.consistency, replicas);
        let reachable = reachable(env, replicas);
        if reachable < required {
            return Err(ReadError::Unavailable { reachable, required });
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let mut read = UnderWay {
            origin,
            epoch: env.catalog.map_or(0, |catalog| catalog.founding().epoch),
            replicas: in_turn(env, replicas, tag),
            get,
            required,
            stage: Stage::Asking { answers: BTreeMap::new() },
            patience: Patience::new(env.now.monotonic, self.retry_after, deadline),
        };
        let first = read.replicas.clone();
        read.ask(tag, first.into_iter().take(required), out);
        self.agenda.add(read.patience.at, tag);
        self.under_way.insert(tag, read);
        Ok(())
    }

    fn answered(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        tag: u64,
        record: Option<Bytes>,
        out: &mut Vec<Action>,
    ) {
        let Some(read) = self.under_way.get_mut(&tag) else { return };
        let Stage::Asking { answers } = &mut read.stage else { return };
        if !read.replicas.contains(&from) {
            return;
        }
        answers.insert(from, record);
        if answers.len() < read.required {
            return;
        }
        let answers = std::mem::take(answers);
        match join(&answers) {
            Err(why) => {
                out.push(reply(read.origin, Err(ReadError::Corrupt(why))));
                self.finish(tag);
            }
            Ok(None) => self.answer(env, tag, None, out),
            Ok(Some(joined)) => {
                let bytes = joined.to_bytes();
                let holders: BTreeSet<NodeId> =
                    answers.iter().filter(|(_, held)| held.as_ref() == Some(&bytes)).map(|(node, _)| *node).collect();
                out.push(Action::Notify(Notice::Observed(joined.birth_max())));
                // What is missing in a cache was evicted, and is not brought back (lesson 20).
                let mends = !is_cache(env, &read.get) || sabotaged!(RepairCaches);
                if holders.len() >= read.required || !mends || sabotaged!(AnswerBeforeRepair) {
                    self.answer(env, tag, Some(joined), out);
                    return;
                }
                let stale = answers.keys().copied().filter(|node| !holders.contains(node));
                let told: BTreeSet<NodeId> = stale.collect();
                let stage = Stage::Repairing { joined, bytes, holders, told };
                read.stage = stage;
                read.repair(tag, out);
            }
        }
    }

    fn repaired(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(read) = self.under_way.get_mut(&tag) else { return };
        let Stage::Repairing { joined, holders, told, .. } = &mut read.stage else { return };
        if told.contains(&from) {
            holders.insert(from);
            if holders.len() >= read.required {
                let joined = joined.clone();
                self.answer(env, tag, Some(joined), out);
            }
        }
    }

    /// Asks the other replicas now, rather than after the pause.
    fn unreachable(&mut self, peer: NodeId, out: &mut Vec<Action>) {
        for (tag, read) in &mut self.under_way {
            if read.waits_for(peer) {
                let others: Vec<NodeId> = read.replicas[read.required..].to_vec();
                read.ask(*tag, others.into_iter(), out);
            }
        }
    }

    fn answer(&mut self, env: &Environment<'_>, tag: u64, record: Option<Record>, out: &mut Vec<Action>) {
        if let Some(read) = self.finish(tag) {
            let mut answer = Read::new(&read.get.key, record, env.now.wall);
            if is_cache(env, &read.get) && answer.values().is_empty() {
                // A node that has started answers with the time of its start, which no later write needs to top.
                answer = Read::new(&read.get.key, None, env.now.wall);
            }
            if let Some((table, _)) = placed(env, &read.get.key) {
                answer = answer.under(table.options.rule);
            }
            out.push(reply(read.origin, Ok(answer)));
        }
    }

    fn finish(&mut self, tag: u64) -> Option<UnderWay> {
        let read = self.under_way.remove(&tag)?;
        self.agenda.remove(read.patience.at, tag);
        Some(read)
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        while let Some(tag) = self.agenda.pop(env.now.monotonic) {
            let read = self.under_way.get_mut(&tag).expect("the agenda lists reads under way");
            if env.now.monotonic >= read.patience.deadline {
                let answered = match &read.stage {
                    Stage::Asking { answers } => answers.len(),
                    Stage::Repairing { holders, .. } => holders.len(),
                };
                out.push(reply(read.origin, Err(ReadError::Timeout { answered, required: read.required })));
                self.under_way.remove(&tag);
                continue;
            }
            let silent: Vec<NodeId> = match &mut read.stage {
                Stage::Asking { answers } => {
                    read.replicas.iter().copied().filter(|node| !answers.contains_key(node)).collect()
                }
                Stage::Repairing { told, .. } => {
                    // Any replica can make up the number.
                    told.extend(read.replicas.iter().copied());
                    Vec::new()
                }
            };
            read.ask(tag, silent.into_iter(), out);
            read.repair(tag, out);
            read.patience.again(env.now.monotonic);
            self.agenda.add(read.patience.at, tag);
        }
    }
}

impl UnderWay {
    /// Whether the answer of a replica that was asked first is still missing.
    fn waits_for(&self, node: NodeId) -> bool {
        match &self.stage {
            Stage::Asking { answers } => self.replicas[..self.required].contains(&node) && !answers.contains_key(&node),
            Stage::Repairing { .. } => false,
        }
    }

    fn ask(&mut self, tag: u64, nodes: impl Iterator<Item = NodeId>, out: &mut Vec<Action>) {
        out.extend(nodes.map(|to| Action::Send {
            to,
            message: Message::Read { tag, epoch: self.epoch, key: self.get.key.clone() },
            release: Release::Now,
        }));
    }

    /// Writes the join to everybody who has been chosen and does not hold it.
    fn repair(&self, tag: u64, out: &mut Vec<Action>) {
        if let Stage::Repairing { bytes, holders, told, .. } = &self.stage {
            out.extend(told.difference(holders).map(|to| Action::Send {
                to: *to,
                message: Message::Write { tag, epoch: self.epoch, key: self.get.key.clone(), record: bytes.clone() },
                release: Release::Now,
            }));
        }
    }
}

fn is_cache(env: &Environment<'_>, get: &Get) -> bool {
    placed(env, &get.key).is_some_and(|(table, _)| !table.options.is_replicated_durably())
}

/// This node first, then the others from a place that moves with each request, so that the load is spread; those that
/// are doubted after the rest, and those that cannot be reached last.
fn in_turn(env: &Environment<'_>, replicas: &[NodeId], tag: u64) -> Vec<NodeId> {
    let mut others: Vec<NodeId> = replicas.iter().copied().filter(|node| *node != env.me.node).collect();
    if !others.is_empty() {
        let turn = usize::try_from(tag % others.len() as u64).expect("less than a length");
        others.rotate_left(turn);
    }
    others.sort_by_key(|node| (!env.peers.is_reachable(*node), env.peers.liveness(*node)));
    let me = replicas.contains(&env.me.node).then_some(env.me.node);
    me.into_iter().chain(others).collect()
}

/// The join of all answers, or why there is none.
fn join(answers: &BTreeMap<NodeId, Option<Bytes>>) -> Result<Option<Record>, String> {
    let mut joined: Option<(Record, &Bytes)> = None;
    for bytes in answers.values().flatten() {
        joined = Some(match joined {
            Some((record, last)) if last == bytes => (record, last),
            before => {
                let record = Record::decode(bytes).map_err(|error| error.to_string())?;
                match before {
                    None => (record, bytes),
                    Some((other, _)) => (other.join(&record).map_err(|mismatch| mismatch.to_string())?, bytes),
                }
            }
        });
    }
    Ok(joined.map(|(record, _)| record))
}

impl Machine for Reads {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Get(get) } => {
                if let Err(error) = self.begin(env, origin, deadline, get, out) {
                    out.push(reply(origin, Err(error)));
                }
            }
            Event::Message { from, message: Message::ReadReply { tag, outcome } } => match outcome {
                Ok(record) => self.answered(env, from, tag, record, out),
                Err(Refusal::Damaged) => {
                    // It will not get better; let the others answer now rather than after the pause.
                    if let Some(read) = self.under_way.get_mut(&tag) {
                        let others: Vec<NodeId> =
                            read.replicas.iter().copied().skip(read.required).filter(|node| *node != from).collect();
                        read.ask(tag, others.into_iter(), out);
                    }
                }
                // Any other refusal is no answer: the replica is asked again when the reason may have gone.
                Err(_) => {}
            },
            Event::Message { from, message: Message::WriteReply { tag, refused: None } } => {
                self.repaired(env, from, tag, out);
            }
            Event::Unreachable(peer) => self.unreachable(peer, out),
            Event::Deadline => self.due(env, out),
            Event::Message { .. } | Event::Request { .. } | Event::Introduction { .. } => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}

const fn reply(origin: Origin, outcome: Result<Read, ReadError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Get(outcome), release: Release::Now }
}
