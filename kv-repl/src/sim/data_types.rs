//! Clients that count, and that put things into sets and take them out, each with one operation under way.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::crdt::{Kind, Update};
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Rule};

use super::clients::{Clients, UnderWay, any_up};
use super::options::Options;
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::{AddIndex, ChangeIndex, CounterHistory, CounterReadBegun, SetHistory, SetReadBegun, Tally};
use crate::quorum::Consistency;
use crate::request::{Attempt, Get, Modify, Read, WriteError, Written};

/// The tables they use.
pub(super) const TABLES: [(&str, Kind); 2] = [("counters", Kind::Counter), ("sets", Kind::Set)];

/// All of these clients of a run.
pub(super) struct DataTypes {
    keys: Vec<(RecordKey, Rule)>,
    histories: Vec<History>,
    clients: Vec<Client>,
    pub(super) operations: u64,
    pub(super) failures: u64,
}

enum History {
    Counter(CounterHistory),
    Set(SetHistory),
}

impl History {
    const fn tally(&self) -> &Tally {
        match self {
            Self::Counter(history) => history.tally(),
            Self::Set(history) => history.tally(),
        }
    }
}

#[derive(Clone)]
pub(super) enum Index {
    Add(AddIndex),
    Change(ChangeIndex),
    /// A removal from a counter; whether it named what its client had seen.
    Removal {
        blind: bool,
    },
}

pub(super) enum Begun {
    Counter(CounterReadBegun),
    Set(SetReadBegun),
}

struct Client {
    busy: UnderWay<Doing>,
    /// What it last read of each key: the context, and the value of a counter.
    seen: Vec<Option<(CausalContext, i128)>>,
    /// A change whose outcome it does not know, and may ask for again.
    unsure: Option<(usize, Index, Modify)>,
}

pub(super) enum Doing {
    Reading { key: usize, checked: Option<Begun> },
    Changing { key: usize, index: Index, modify: Modify },
}

const ELEMENTS: u32 = 4;

impl DataTypes {
    /// As many clients as a third of the others, at least two.
    pub(super) fn new(options: &Options, tables: &[Arc<TableSchema>]) -> Self {
        let each = options.keys.clamp(1, 2);
        let keys = tables.iter().flat_map(|table| {
            (0..each).map(|key| {
                let key = RecordKey::new(table.id, &Key::from(format!("value {key}"))).expect("a short key");
                (key, table.options.rule)
            })
        });
        let keys: Vec<_> = keys.collect();
        let history = |rule| match rule {
            Rule::Crdt(Kind::Counter) => History::Counter(CounterHistory::default()),
            _ => History::Set(SetHistory::default()),
        };
        let histories = keys.iter().map(|(_, rule)| history(*rule)).collect();
        let client = || Client { busy: None, seen: vec![None; keys.len()], unsure: None };
        let clients = (0..(options.clients / 3).max(2)).map(|_| client()).collect();
        Self { keys, histories, clients, operations: 0, failures: 0 }
    }

    pub(super) fn keys(&self) -> &[(RecordKey, Rule)] {
        &self.keys
    }

    /// What was checked, key by key.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (&RecordKey, &Tally)> {
        self.keys.iter().map(|(key, _)| key).zip(self.histories.iter().map(History::tally))
    }

    /// A change of a key, noted in its history.
    fn choose(
        &mut self,
        world: &mut World,
        key: usize,
        seen: Option<&(CausalContext, i128)>,
    ) -> Option<(Index, Update)> {
        match &mut self.histories[key] {
            History::Counter(history) => {
                if world.random.u32(0..40) == 0 {
                    history.removal_begins(seen.map(|(_, value)| *value));
                    return Some((Index::Removal { blind: seen.is_none() }, Update::Clear));
                }
                history.add_begins().map(|(index, amount)| (Index::Add(index), Update::Add(amount)))
            }
            History::Set(history) => {
                let element = Bytes::from(format!("element {}", world.random.u32(0..ELEMENTS)));
                if world.random.u32(0..10) < 5 {
                    let index = history.insert_begins(element.clone());
                    return Some((Index::Change(index), Update::Insert(element)));
                }
                let element = (world.random.u32(0..10) > 0).then_some(element);
                let record_key = &self.keys[key].0;
                let seen = seen.map(|(context, _)| context.open(record_key).expect("a context the cluster gave"));
                let index = history.removal_begins(element.clone(), seen);
                Some((Index::Change(index), element.map_or(Update::Clear, Update::Remove)))
            }
        }
    }

    fn read_begins(&self, world: &World, key: usize) -> Begun {
        match &self.histories[key] {
            History::Counter(history) => Begun::Counter(history.read_begins()),
            History::Set(history) => Begun::Set(history.read_begins(world.now_us())),
        }
    }

    fn read_ends(&mut self, key: usize, begun: &Begun, read: &Read) {
        match (&mut self.histories[key], begun) {
            (History::Counter(history), Begun::Counter(begun)) => {
                history.read_ends(begun, read.counter().expect("a table of counters"));
            }
            (History::Set(history), Begun::Set(begun)) => {
                let elements: BTreeSet<Bytes> = read.set().expect("a table of sets").into_iter().cloned().collect();
                let seen = read.record().map(|record| record.context().clone()).unwrap_or_default();
                history.read_ends(begun, &elements, &seen);
            }
            _ => unreachable!("a read is checked by the history that it began with"),
        }
    }

    fn acknowledged_change(&mut self, world: &World, key: usize, index: &Index, written: &Written) {
        match (&mut self.histories[key], index) {
            (History::Counter(history), Index::Add(index)) => history.add_acknowledged(*index),
            // A removal that was asked for twice may have been made twice, but not after the second was acknowledged; a
            // late first one is refused, because whoever passes it on has settled it.
            (History::Counter(history), Index::Removal { blind: true }) => history.blind_removal_ends(),
            (History::Set(history), Index::Change(index)) => {
                history.acknowledged_at(*index, world.now_us(), written.dot);
            }
            _ => {}
        }
    }

    /// Reads every value at all replicas through `read`, when everything is healed.
    pub(super) fn converge(&mut self, world: &mut World, mut read: impl FnMut(&mut World, &RecordKey) -> Option<Read>) {
        for key in 0..self.keys.len() {
            let begun = self.read_begins(world, key);
            if let Some(read) = read(world, &self.keys[key].0.clone()) {
                self.read_ends(key, &begun, &read);
            }
        }
    }
}

impl Clients for DataTypes {
    type Doing = Doing;

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn under_way(&mut self, client: usize) -> &mut UnderWay<Doing> {
        &mut self.clients[client].busy
    }

    fn begin(&mut self, world: &mut World, client: usize) -> UnderWay<Doing> {
        let node = any_up(world)?;
        self.operations += 1;
        if let Some((key, index, modify)) = self.clients[client].unsure.take()
            && world.random.u32(0..4) > 0
        {
            if let (History::Set(history), Index::Change(index)) = (&mut self.histories[key], &index) {
                history.retried(*index);
            }
            let modify = Modify { attempt: Attempt::Again { asked: None }, ..modify };
            return Some(change(world, node, (key, index, modify)));
        }
        let key = world.random.usize(..self.keys.len());
        if world.random.u32(0..10) < 4 {
            let consistency = match world.random.u32(0..10) {
                0 => Consistency::One,
                1 => Consistency::All,
                _ => Consistency::Quorum,
            };
            let checked = (consistency != Consistency::One).then(|| self.read_begins(world, key));
            let request = world.get(node, Get { key: self.keys[key].0.clone(), consistency, floor: None });
            return Some((request, Doing::Reading { key, checked }));
        }
        let seen = self.clients[client].seen[key].clone().filter(|_| world.random.u32(0..10) < 8);
        let (index, update) = self.choose(world, key, seen.as_ref())?;
        let modify = Modify {
            key: self.keys[key].0.clone(),
            context: seen.filter(|_| update.removes()).map(|(context, _)| context),
            update,
            operation: OperationId(world.random.u128(..)),
            attempt: Attempt::First,
            consistency: Consistency::Quorum,
        };
        Some(change(world, node, (key, index, modify)))
    }

    fn finished(&mut self, world: &World, client: usize, doing: Doing, answer: &Answer) {
        match (doing, answer) {
            (Doing::Reading { key, checked }, Answer::Read(Ok(read))) => {
                if let Some(checked) = checked {
                    self.read_ends(key, &checked, read);
                }
                self.clients[client].seen[key] = Some((read.context().clone(), read.counter().unwrap_or(0)));
            }
            (Doing::Reading { .. }, _) => self.failures += 1,
            (Doing::Changing { key, index, .. }, Answer::Written(Ok(written))) => {
                self.acknowledged_change(world, key, &index, written);
            }
            (Doing::Changing { key, index, modify }, answer) => {
                self.failures += 1;
                let again = matches!(modify.attempt, Attempt::Again { .. });
                if again || matches!(answer, Answer::Gone | Answer::Written(Err(WriteError::Ambiguous { .. }))) {
                    self.clients[client].unsure = Some((key, index, modify));
                } else if let (History::Counter(history), Index::Removal { blind: true }) =
                    (&mut self.histories[key], &index)
                {
                    history.blind_removal_ends();
                }
            }
        }
    }
}

fn change(world: &mut World, node: NodeId, (key, index, modify): (usize, Index, Modify)) -> (u64, Doing) {
    let request = world.modify(node, modify.clone());
    (request, Doing::Changing { key, index, modify })
}
