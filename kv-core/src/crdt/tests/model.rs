//! What the data types mean, told from whole histories: each event with the set of events that were visible where it happened.
//! No dots, no contexts, no joins.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::crdt::{Crdt, DotStore, Field, Kind, Update};
use crate::hlc::Stamp;
use crate::version::Dot;

/// One update, when it happened, and what was visible there.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) dot: Dot,
    pub(super) birth: Stamp,
    pub(super) update: Update,
    pub(super) visible: BTreeSet<usize>,
}

pub(super) struct History {
    pub(super) kind: Kind,
    pub(super) events: Vec<Event>,
}

/// What a reader sees.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) enum Reading {
    Number(i128),
    Elements(BTreeSet<Bytes>),
    Entries(BTreeMap<Bytes, Bytes>),
    Flag(bool),
    Extreme(Option<i64>),
    Values(BTreeSet<Bytes>),
    Fields(BTreeMap<Field, Reading>),
}

/// What a data type reads as.
pub(super) fn reading(value: &Crdt) -> Reading {
    match value {
        Crdt::Counter(counter) => Reading::Number(counter.value()),
        Crdt::Set(set) => Reading::Elements(set.iter().cloned().collect()),
        Crdt::LwwMap(map) => {
            assert!(map.iter().all(|(key, value)| map.get(key) == Some(value)));
            Reading::Entries(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        Crdt::Map(map) => Reading::Fields(map.iter().map(|(field, value)| (field.clone(), reading(value))).collect()),
        Crdt::EnableWinsFlag(flag) => Reading::Flag(flag.is_enabled()),
        Crdt::DisableWinsFlag(flag) => Reading::Flag(flag.is_enabled()),
        Crdt::MaxRegister(register) => Reading::Extreme(register.value().copied()),
        Crdt::MinRegister(register) => Reading::Extreme(register.value().copied()),
        Crdt::MvRegister(register) => Reading::Values(register.values().into_iter().cloned().collect()),
    }
}

impl History {
    /// What the events of `known` come to.
    pub(super) fn reading(&self, known: &BTreeSet<usize>) -> Reading {
        let events = known.iter().map(|index| (*index, self.events[*index].update.clone())).collect();
        self.read(self.kind, &events).unwrap_or_else(|| reading(&Crdt::empty(self.kind)))
    }

    /// What the events come to for a value of `kind`, or nothing when no live part is left.
    fn read(&self, kind: Kind, events: &BTreeMap<usize, Update>) -> Option<Reading> {
        match kind {
            Kind::Counter => {
                let live = self.live(events, |update| matches!(update, Update::Add(_)), |_, later| removes(later));
                let counted = live.iter().map(|(_, update)| match update {
                    Update::Add(amount) => i128::from(*amount),
                    _ => 0,
                });
                (!live.is_empty()).then(|| Reading::Number(counted.sum()))
            }
            Kind::Set => {
                let gone = |earlier: &Update, later: &Update| match (earlier, later) {
                    (Update::Insert(a), Update::Remove(b)) => a == b,
                    _ => *later == Update::Clear,
                };
                let live = self.live(events, |update| matches!(update, Update::Insert(_)), gone);
                let elements: BTreeSet<Bytes> = live
                    .into_iter()
                    .filter_map(|(_, update)| match update {
                        Update::Insert(element) => Some(element),
                        _ => None,
                    })
                    .collect();
                (!elements.is_empty()).then_some(Reading::Elements(elements))
            }
            Kind::LwwMap => {
                let gone = |earlier: &Update, later: &Update| match (earlier, later) {
                    (Update::Put { key: a, .. }, Update::Put { key: b, .. } | Update::Remove(b)) => a == b,
                    _ => *later == Update::Clear,
                };
                let live = self.live(events, |update| matches!(update, Update::Put { .. }), gone);
                let mut latest: BTreeMap<Bytes, ((Stamp, Dot), Bytes)> = BTreeMap::new();
                for (index, update) in live {
                    let Update::Put { key, value } = update else { continue };
                    let order = (self.events[index].birth, self.events[index].dot);
                    if latest.get(&key).is_none_or(|(held, _)| *held < order) {
                        latest.insert(key, (order, value));
                    }
                }
                let entries: BTreeMap<_, _> = latest.into_iter().map(|(key, (_, value))| (key, value)).collect();
                (!entries.is_empty()).then_some(Reading::Entries(entries))
            }
            Kind::Map => {
                let fields: BTreeSet<&Field> = events
                    .values()
                    .filter_map(|update| match update {
                        Update::In(field, _) => Some(field),
                        _ => None,
                    })
                    .collect();
                let under = |field: &Field| -> BTreeMap<usize, Update> {
                    let of_field = events.iter().filter_map(|(index, update)| match update {
                        Update::In(of, update) if of == field => Some((*index, (**update).clone())),
                        Update::RemoveField(of) if of == field => Some((*index, Update::Clear)),
                        Update::Clear => Some((*index, Update::Clear)),
                        _ => None,
                    });
                    of_field.collect()
                };
                let read = fields
                    .into_iter()
                    .filter_map(|field| self.read(field.kind, &under(field)).map(|reading| (field.clone(), reading)));
                let fields: BTreeMap<_, _> = read.collect();
                (!fields.is_empty()).then_some(Reading::Fields(fields))
            }
            Kind::EnableWinsFlag | Kind::DisableWinsFlag => {
                let live = self.live(events, |update| matches!(update, Update::Switch(_)), |_, _| true);
                let on = |(_, update): &(usize, Update)| *update == Update::Switch(true);
                let wins = if kind == Kind::EnableWinsFlag { live.iter().any(on) } else { live.iter().all(on) };
                (!live.is_empty()).then_some(Reading::Flag(wins))
            }
            Kind::MaxRegister | Kind::MinRegister => {
                let extreme = self.extreme(kind, events);
                extreme.map(|number| Reading::Extreme(Some(number)))
            }
            Kind::MvRegister => {
                let live = self.live(events, |update| matches!(update, Update::Write(_)), |_, _| true);
                let values: BTreeSet<Bytes> = live
                    .into_iter()
                    .filter_map(|(_, update)| match update {
                        Update::Write(value) => Some(value),
                        _ => None,
                    })
                    .collect();
                (!values.is_empty()).then_some(Reading::Values(values))
            }
        }
    }

    /// The events that are `parts`, without those that a later event saw and takes away.
    fn live(
        &self,
        events: &BTreeMap<usize, Update>,
        parts: impl Fn(&Update) -> bool,
        takes: impl Fn(&Update, &Update) -> bool,
    ) -> Vec<(usize, Update)> {
        let taken = |index: &usize, update: &Update| {
            events.iter().any(|(other, later)| self.events[*other].visible.contains(index) && takes(update, later))
        };
        let live = events.iter().filter(|(index, update)| parts(update) && !taken(index, update));
        live.map(|(index, update)| (*index, update.clone())).collect()
    }

    /// The greatest, or least, of the offers that counted: those that topped what was visible where they were made.
    fn extreme(&self, kind: Kind, events: &BTreeMap<usize, Update>) -> Option<i64> {
        let tops = |a: i64, b: i64| if kind == Kind::MaxRegister { a > b } else { a < b };
        let mut counted: BTreeMap<usize, Update> = BTreeMap::new();
        let mut best: Option<i64> = None;
        for (index, update) in events {
            if let Update::Offer(number) = update {
                let visible = &self.events[*index].visible;
                let before = counted.iter().filter(|(other, _)| visible.contains(other));
                let before = before.map(|(other, update)| (*other, update.clone())).collect();
                if self.standing(&before).iter().any(|held| !tops(*number, *held)) {
                    continue;
                }
            }
            counted.insert(*index, update.clone());
        }
        for number in self.standing(&counted) {
            best = Some(best.map_or(number, |best| if tops(number, best) { number } else { best }));
        }
        best
    }

    fn standing(&self, counted: &BTreeMap<usize, Update>) -> Vec<i64> {
        let live = self.live(counted, |update| matches!(update, Update::Offer(_)), |_, _| true);
        let numbers = live.into_iter().filter_map(|(_, update)| match update {
            Update::Offer(number) => Some(number),
            _ => None,
        });
        numbers.collect()
    }
}

fn removes(update: &Update) -> bool {
    *update == Update::Clear
}

#[test]
fn an_empty_value_is_not_live() {
    for kind in Kind::ALL {
        assert!(!Crdt::empty(kind).is_live() && Crdt::empty(kind).is_bottom());
    }
}
