//! Values of data types as clients use them: what changes to ask for, and which checker is told what came of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::context::CausalContext;
use kv_core::crdt::{Crdt, DotStore, Field, Kind, Update};
use kv_core::key::RecordKey;

use crate::check::{
    AddIndex, ChangeIndex, CounterHistory, CounterReadBegun, ExtremeHistory, ExtremeReadBegun, MapHistory, SetHistory,
    SetReadBegun, Tally,
};
use crate::request::{Read, Written};

/// A value, and what is known of it.
pub(super) struct Value {
    pub(super) key: RecordKey,
    pub(super) kind: Kind,
    history: History,
}

enum History {
    Counter(CounterHistory),
    /// Of all that can be told as a set.
    Set(SetHistory),
    Map(MapHistory),
    Extreme(ExtremeHistory),
}

/// A change in the history of its value.
#[derive(Clone)]
pub(super) enum Index {
    Add(AddIndex),
    Change(ChangeIndex),
    Offer(i64),
    /// A removal from a counter; whether it named what its client had seen.
    Removal {
        blind: bool,
    },
}

/// A read that is checked.
pub(super) enum Begun {
    Counter(CounterReadBegun),
    Set(SetReadBegun),
    Extreme(ExtremeReadBegun),
}

/// What a client last read of a value: the context, and the number of a counter.
pub(super) type Seen = (CausalContext, i128);

const ELEMENTS: u32 = 4;
const FIELDS: u32 = 2;

impl Value {
    pub(super) fn new(key: RecordKey, kind: Kind) -> Self {
        let history = match kind {
            Kind::Counter => History::Counter(CounterHistory::default()),
            Kind::LwwMap => History::Map(MapHistory::default()),
            Kind::MaxRegister | Kind::MinRegister => History::Extreme(ExtremeHistory::new(kind)),
            Kind::Set | Kind::Map | Kind::EnableWinsFlag | Kind::DisableWinsFlag | Kind::MvRegister => {
                History::Set(SetHistory::default())
            }
        };
        Self { key, kind, history }
    }

    pub(super) const fn tally(&self) -> &Tally {
        match &self.history {
            History::Counter(history) => history.tally(),
            History::Set(history) => history.tally(),
            History::Map(history) => history.tally(),
            History::Extreme(history) => history.tally(),
        }
    }

    /// A change, noted in the history. A value takes only so many that can be told apart.
    pub(super) fn choose(&mut self, random: &mut fastrand::Rng, seen: Option<&Seen>) -> Option<(Index, Update)> {
        let dots =
            |seen: Option<&Seen>| seen.map(|(context, _)| context.open(&self.key).expect("a context of this key"));
        match &mut self.history {
            History::Counter(history) => {
                if random.u32(0..40) == 0 {
                    history.removal_begins(seen.map(|(_, value)| *value));
                    return Some((Index::Removal { blind: seen.is_none() }, Update::Clear));
                }
                history.add_begins().map(|(index, amount)| (Index::Add(index), Update::Add(amount)))
            }
            History::Set(history) => {
                let (index, update) = choose_part(history, self.kind, random, dots(seen));
                Some((Index::Change(index), update))
            }
            History::Map(history) => {
                let key = Bytes::from(format!("key {}", random.u32(0..ELEMENTS)));
                if random.u32(0..10) < 6 {
                    let value = Bytes::from(format!("value {}", random.u64(..)));
                    let index = history.put_begins(key.clone(), value.clone());
                    return Some((Index::Change(index), Update::Put { key, value }));
                }
                let key = (random.u32(0..10) > 0).then_some(key);
                let index = history.removal_begins(key.clone(), dots(seen));
                Some((Index::Change(index), key.map_or(Update::Clear, Update::Remove)))
            }
            History::Extreme(history) => {
                let number = random.i64(-1_000_000..1_000_000);
                history.offer_begins(number);
                Some((Index::Offer(number), Update::Offer(number)))
            }
        }
    }

    /// A client asks for a change again, because it does not know what became of it.
    pub(super) fn retried(&mut self, index: &Index) {
        match (&mut self.history, index) {
            (History::Counter(history), Index::Removal { blind: true }) => history.blind_removal_retried(),
            (History::Set(history), Index::Change(index)) => history.retried(*index),
            (History::Map(history), Index::Change(index)) => history.retried(*index),
            _ => {}
        }
    }

    /// A change was refused, with an error that says that nothing was written.
    pub(super) fn abandoned(&mut self, index: &Index) {
        match (&mut self.history, index) {
            (History::Counter(history), Index::Removal { blind: true }) => history.blind_removal_ends(),
            (History::Set(history), Index::Change(index)) => history.abandoned(*index),
            (History::Map(history), Index::Change(index)) => history.abandoned(*index),
            _ => {}
        }
    }

    pub(super) fn acknowledged(&mut self, now_us: u64, index: &Index, written: &Written) {
        let told = || written.context.open(&self.key).expect("a context of this key");
        match (&mut self.history, index) {
            (History::Counter(history), Index::Add(index)) => history.add_acknowledged(*index),
            (History::Counter(history), Index::Removal { blind: true }) => history.blind_removal_ends(),
            (History::Set(history), Index::Change(index)) => {
                history.acknowledged_at(*index, now_us, written.dot, told());
            }
            (History::Map(history), Index::Change(index)) => {
                history.acknowledged_at(*index, now_us, written, told());
            }
            (History::Extreme(history), Index::Offer(number)) => history.acknowledged(*number),
            _ => {}
        }
    }

    pub(super) fn read_begins(&self, now_us: u64) -> Begun {
        match &self.history {
            History::Counter(history) => Begun::Counter(history.read_begins()),
            History::Set(history) => Begun::Set(history.read_begins(now_us)),
            History::Map(history) => Begun::Set(history.read_begins(now_us)),
            History::Extreme(history) => Begun::Extreme(history.read_begins()),
        }
    }

    pub(super) fn read_ends(&mut self, begun: &Begun, read: &Read) {
        let seen = read.record().map(|record| record.context().clone()).unwrap_or_default();
        let of_type = "a table of this type";
        match (&mut self.history, begun) {
            (History::Counter(history), Begun::Counter(begun)) => {
                history.read_ends(begun, read.counter().expect(of_type));
            }
            (History::Set(history), Begun::Set(begun)) => history.read_ends(begun, &parts(self.kind, read), &seen),
            (History::Map(history), Begun::Set(begun)) => {
                let entries = read.entries().expect(of_type).into_iter();
                let entries: BTreeMap<_, _> = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
                history.read_ends(begun, &entries, &seen);
            }
            (History::Extreme(history), Begun::Extreme(begun)) => {
                history.read_ends(begun, read.number().expect(of_type));
            }
            _ => unreachable!("a read is checked by the history that it began with"),
        }
    }
}

/// A change of what can be told as a set.
fn choose_part(
    history: &mut SetHistory,
    kind: Kind,
    random: &mut fastrand::Rng,
    seen: Option<VersionVector>,
) -> (ChangeIndex, Update) {
    match kind {
        Kind::EnableWinsFlag | Kind::DisableWinsFlag => {
            let wins = random.bool();
            let part = winner(kind);
            let update = Update::Switch(wins == (kind == Kind::EnableWinsFlag));
            let index =
                if wins { history.insert_begins(part) } else { history.removal_begins(Some([part].into()), seen) };
            (index, update)
        }
        Kind::MvRegister => {
            let value = Bytes::from(format!("value {}", random.u64(..)));
            (history.write_begins(value.clone(), seen), Update::Write(value))
        }
        Kind::Map => {
            let name = Bytes::from(format!("field {}", random.u32(0..FIELDS)));
            let field = Field { kind: Kind::Set, name };
            let element = Bytes::from(format!("element {}", random.u32(0..ELEMENTS)));
            let part = part_of(&field, &element);
            let inside = |update| Update::In(field.clone(), Box::new(update));
            match random.u32(0..20) {
                0..=9 => (history.insert_begins(part), inside(Update::Insert(element))),
                10..=16 => (history.removal_begins(Some([part].into()), seen), inside(Update::Remove(element))),
                17 => (history.removal_begins(None, seen), Update::Clear),
                _ => {
                    let all = (0..ELEMENTS).map(|number| part_of(&field, format!("element {number}").as_bytes()));
                    (history.removal_begins(Some(all.collect()), seen), Update::RemoveField(field))
                }
            }
        }
        _ => {
            let element = Bytes::from(format!("element {}", random.u32(0..ELEMENTS)));
            if random.u32(0..10) < 5 {
                return (history.insert_begins(element.clone()), Update::Insert(element));
            }
            let element = (random.u32(0..10) > 0).then_some(element);
            let removed = element.clone().map(|element| [element].into());
            (history.removal_begins(removed, seen), element.map_or(Update::Clear, Update::Remove))
        }
    }
}

/// What is read, as a set.
fn parts(kind: Kind, read: &Read) -> BTreeSet<Bytes> {
    let of_type = "a table of this type";
    match kind {
        Kind::EnableWinsFlag | Kind::DisableWinsFlag => {
            let is_written = read.record().and_then(|record| record.crdt()).is_some_and(DotStore::is_live);
            let wins = read.flag().expect(of_type) == (kind == Kind::EnableWinsFlag);
            (is_written && wins).then(|| winner(kind)).into_iter().collect()
        }
        Kind::MvRegister => read.register().expect(of_type).into_iter().cloned().collect(),
        Kind::Map => {
            let elements = |(field, value): (&Field, &Crdt)| match value {
                Crdt::Set(set) => set.iter().map(|element| part_of(field, element)).collect::<Vec<_>>(),
                other => panic!("nobody put a {:?} there", other.kind()),
            };
            read.fields().expect(of_type).into_iter().flat_map(elements).collect()
        }
        _ => read.set().expect(of_type).into_iter().cloned().collect(),
    }
}

/// What wins in a flag.
const fn winner(kind: Kind) -> Bytes {
    match kind {
        Kind::EnableWinsFlag => Bytes::from_static(b"on"),
        _ => Bytes::from_static(b"off"),
    }
}

fn part_of(field: &Field, element: &[u8]) -> Bytes {
    [&field.name[..], b"/", element].concat().into()
}
