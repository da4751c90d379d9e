//! Clients that change values of data types, each with one operation under way.

use std::sync::Arc;

use kv_core::NodeId;
use kv_core::crdt::Kind;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Rule};

use super::clients::{Clients, UnderWay, any_up};
use super::options::Options;
use super::values::{Begun, Index, Seen, Value};
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::Tally;
use crate::quorum::Consistency;
use crate::request::{Attempt, Get, Modify, Read, WriteError};

/// The tables of those that count, and that put things into sets and take them out.
pub(super) const COUNTERS_AND_SETS: [(&str, Kind); 2] = [("counters", Kind::Counter), ("sets", Kind::Set)];
/// The tables of the others.
pub(super) const OTHERS: [(&str, Kind); 7] = [
    ("flags", Kind::EnableWinsFlag),
    ("locks", Kind::DisableWinsFlag),
    ("notes", Kind::MvRegister),
    ("peaks", Kind::MaxRegister),
    ("lows", Kind::MinRegister),
    ("profiles", Kind::LwwMap),
    ("documents", Kind::Map),
];

/// All of these clients of a run that use the same tables.
pub(super) struct DataTypes {
    values: Vec<Value>,
    clients: Vec<Client>,
    pub(super) operations: u64,
    pub(super) failures: u64,
}

struct Client {
    busy: UnderWay<Doing>,
    /// What it last read of each value.
    seen: Vec<Option<Seen>>,
    /// A change whose outcome it does not know, and may ask for again.
    unsure: Option<(usize, Index, Box<Modify>)>,
}

pub(super) enum Doing {
    Reading { key: usize, checked: Option<Begun> },
    Changing { key: usize, index: Index, modify: Box<Modify> },
}

impl DataTypes {
    /// With so many values in each table; as many clients as a third of the others, at least two.
    pub(super) fn new(options: &Options, tables: &[Arc<TableSchema>], each: usize) -> Self {
        let values = tables.iter().flat_map(|table| {
            let Rule::Crdt(kind) = table.options.rule else { panic!("{} is no table of a data type", table.name) };
            (0..each).map(move |key| {
                let key = RecordKey::new(table.id, &Key::from(format!("value {key}"))).expect("a short key");
                Value::new(key, kind)
            })
        });
        let values: Vec<_> = values.collect();
        let client = || Client { busy: None, seen: vec![None; values.len()], unsure: None };
        let clients = (0..(options.clients / 3).max(2)).map(|_| client()).collect();
        Self { values, clients, operations: 0, failures: 0 }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.values.iter().map(|value| &value.key)
    }

    /// What was checked, key by key.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (&RecordKey, &Tally)> {
        self.values.iter().map(|value| (&value.key, value.tally()))
    }

    /// How many quorum reads of each type were checked.
    pub(super) fn reads(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.values.iter().map(|value| (value.kind, value.tally().reads))
    }

    /// Reads every value at all replicas through `read`, when everything is healed.
    pub(super) fn converge(&mut self, world: &mut World, mut read: impl FnMut(&mut World, &RecordKey) -> Option<Read>) {
        for value in &mut self.values {
            let begun = value.read_begins(world.now_us());
            if let Some(read) = read(world, &value.key) {
                value.read_ends(&begun, &read);
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
            self.values[key].retried(&index);
            let modify = Modify { attempt: Attempt::Again { asked: None }, ..*modify }.into();
            return Some(change(world, node, (key, index, modify)));
        }
        let key = world.random.usize(..self.values.len());
        if world.random.u32(0..10) < 4 {
            let consistency = match world.random.u32(0..10) {
                0 => Consistency::One,
                1 => Consistency::All,
                _ => Consistency::Quorum,
            };
            let checked = (consistency != Consistency::One).then(|| self.values[key].read_begins(world.now_us()));
            let request = world.get(node, Get { key: self.values[key].key.clone(), consistency, floor: None });
            return Some((request, Doing::Reading { key, checked }));
        }
        let seen = self.clients[client].seen[key].clone().filter(|_| world.random.u32(0..10) < 8);
        let (index, update) = self.values[key].choose(&mut world.random, seen.as_ref())?;
        let modify = Modify {
            key: self.values[key].key.clone(),
            context: seen.filter(|_| update.replaces()).map(|(context, _)| context),
            update,
            after: None,
            operation: OperationId(world.random.u128(..)),
            attempt: Attempt::First,
            consistency: Consistency::Quorum,
            strict: false,
        };
        Some(change(world, node, (key, index, modify.into())))
    }

    fn finished(&mut self, world: &World, client: usize, doing: Doing, answer: &Answer) {
        match (doing, answer) {
            (Doing::Reading { key, checked }, Answer::Read(Ok(read))) => {
                if let Some(checked) = checked {
                    self.values[key].read_ends(&checked, read);
                }
                self.clients[client].seen[key] = Some((read.context().clone(), read.counter().unwrap_or(0)));
            }
            (Doing::Reading { .. }, _) => self.failures += 1,
            (Doing::Changing { key, index, .. }, Answer::Written(Ok(written))) => {
                self.values[key].acknowledged(world.now_us(), &index, written);
            }
            (Doing::Changing { key, index, modify }, answer) => {
                self.failures += 1;
                let open = match answer {
                    Answer::Written(Err(error)) => matches!(error, WriteError::Ambiguous { .. } | WriteError::Stopped),
                    _ => true,
                };
                if open || matches!(modify.attempt, Attempt::Again { .. }) {
                    self.clients[client].unsure = Some((key, index, modify));
                } else {
                    self.values[key].abandoned(&index);
                }
            }
        }
    }
}

fn change(world: &mut World, node: NodeId, (key, index, modify): (usize, Index, Box<Modify>)) -> (u64, Doing) {
    let request = world.modify(node, (*modify).clone());
    (request, Doing::Changing { key, index, modify })
}
