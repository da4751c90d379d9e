//! Below which births this replica has promised to mint nothing, and below which it has dropped what nobody needs.
//!
//! Each place has three stamps, which only rise, and each of which is at most the one before:
//!
//! - *promised*: this node mints nothing at or below it, and had nothing of that age under way or kept for others when it promised.
//! - *settled*: every replica has promised it, and after that all of them came to hold the same of what was born at or below
//!   it. So what is that old and is not here is gone, whoever brings it.
//! - *purged*: tombstones and expired versions born at or below it go. It is an earlier settled one, such that whatever a delete of
//!   that age has replaced was born at or below the present one, however wrong clocks were.
//!
//! A place has one note in the store. It is written in every batch in which records go, so that no crash leaves a replica that lacks
//! them and does not know why. With it is kept how far this node had counted in records that went: a key that comes again is counted on from there
//! (rule P5).
//!
//! `docs/decisions/0011-*.md` has the argument.

use std::collections::BTreeMap;

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_core::record::{Arrival, Record};
use kv_core::store::{Batch, Corrupt, Operation, Space, StoreError, View};
use kv_core::version::{Actor, VersionVector};
use kv_ring::PartitionId;

use crate::catalog::Catalog;
use crate::comparison::{Level, Place};

/// Where notes lie: the prefix, then table and partition in big-endian.
const KEY_PREFIX: &[u8] = b"floor/";
const FORMAT: u8 = 1;

/// The floor of one place at this node.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub(crate) struct Floor {
    pub(crate) promised: Stamp,
    pub(crate) level: Level,
    /// Everything that was to go below it has gone.
    pub(crate) swept: Stamp,
    /// The highest counter of this node in any record that went as a whole.
    pub(crate) counter_max: u64,
}

impl Floor {
    /// The higher of each.
    fn join(self, other: Self) -> Self {
        Self {
            promised: self.promised.max(other.promised),
            level: self.level.join(other.level),
            swept: self.swept.max(other.swept),
            counter_max: self.counter_max.max(other.counter_max),
        }
    }

    /// Whether records may be there that are to go.
    pub(crate) fn is_unswept(&self) -> bool {
        self.swept < self.level.purged
    }

    /// Adds what makes it durable.
    pub(crate) fn save(&self, place: Place, batch: &mut Batch) {
        let mut value = vec![FORMAT];
        for stamp in [self.promised, self.level.settled, self.level.purged, self.swept] {
            value.extend_from_slice(&stamp.0.to_le_bytes());
        }
        put_varint(&mut value, self.counter_max);
        let key = [KEY_PREFIX, &place.table.0.to_be_bytes(), &place.partition.0.to_be_bytes()].concat();
        batch.put(Space::META, &key, &value);
    }

    /// What a writer of a key counts as seen besides what it has: the dots of `actor` that records which went may have had. A
    /// later dot lies above them, so that no context of that time covers it.
    pub(crate) fn counted(&self, actor: Actor, held: &VersionVector) -> VersionVector {
        let after = held.counter_max(actor);
        if after >= self.counter_max || sabotaged!(CountAnew) {
            return VersionVector::new();
        }
        VersionVector::run(actor, after + 1, self.counter_max)
    }
}

/// A note in the store, if `key` is one of these.
pub(crate) fn read_floor(key: &[u8], value: &[u8]) -> Result<Option<(Place, Floor)>, DecodeError> {
    let Some(place) = key.strip_prefix(KEY_PREFIX) else { return Ok(None) };
    let mut reader = Reader::new(place);
    let table = TableId(u32::from_be_bytes(reader.array()?));
    let partition = PartitionId(u32::from_be_bytes(reader.array()?));
    reader.finish()?;
    let mut reader = Reader::new(value);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of a floor"));
    }
    let [promised, settled, purged, swept] = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?].map(Stamp);
    let counter_max = reader.varint()?;
    reader.finish()?;
    if promised < settled || settled < purged || purged < swept {
        return Err(DecodeError { offset: 0, what: "a floor above its promise" });
    }
    let floor = Floor { promised, level: Level { settled, purged }, swept, counter_max };
    Ok(Some((Place { table, partition }, floor)))
}

/// The floors of all places that have one.
#[derive(Clone, Default, Debug)]
pub(crate) struct Floors {
    floors: BTreeMap<Place, Floor>,
    /// Whether anything is ever purged in this cluster, as far as this node's settings say.
    pub(crate) enabled: bool,
}

impl Floors {
    pub(crate) fn restore(notes: impl IntoIterator<Item = (Place, Floor)>, enabled: bool) -> Self {
        Self { floors: notes.into_iter().collect(), enabled }
    }

    /// The store did not take a batch: the floors that it would have raised are where the store has them. What was decided with a
    /// note is not done, and a note that seems to be there is not written again.
    pub(crate) fn store_failed(&mut self, refused: &Batch, view: &dyn View) -> Result<(), StoreError> {
        let damaged = |error: DecodeError| StoreError::Corrupt(Corrupt::new(error.to_string()));
        for operation in refused {
            let Operation::Put { space: Space::META, key, value } = operation else { continue };
            let Some((place, _)) = read_floor(key, value).map_err(damaged)?.filter(|_| !sabotaged!(KeepRefusedFloors))
            else {
                continue;
            };
            let mut stored = Ok(None);
            view.get(Space::META, key, &mut |value| stored = read_floor(key, value))?;
            match stored.map_err(damaged)? {
                Some((_, floor)) => self.floors.insert(place, floor),
                None => self.floors.remove(&place),
            };
        }
        Ok(())
    }

    /// Raises the floor of a place.
    pub(crate) fn raise(&mut self, place: Place, floor: Floor) {
        let known = self.floors.entry(place).or_default();
        *known = known.join(floor);
    }

    pub(crate) fn of(&self, place: Place) -> Floor {
        self.floors.get(&place).copied().unwrap_or_default()
    }

    /// The floor of the place that a key lies in.
    pub(crate) fn of_key(&self, catalog: Option<&Catalog>, key: &RecordKey) -> Floor {
        if self.floors.is_empty() {
            return Floor::default();
        }
        let table = catalog.and_then(|catalog| catalog.table(key.table()));
        table.map_or_else(Floor::default, |table| {
            self.of(Place { table: table.id, partition: table.layout.partition_of(key.token()) })
        })
    }

    /// Everywhere that has one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, Floor)> + '_ {
        self.floors.iter().map(|(place, floor)| (*place, *floor))
    }
}

/// What a record becomes with one that arrives.
pub(crate) enum Arrived {
    /// This, which may be nothing.
    Joined(Option<Record>),
    /// What it is: all that arrives was dropped here.
    Known,
    /// What it is: a value arrives that everybody knew to be gone.
    Obsolete,
    /// The two cannot be of one key.
    Unfit,
}

/// Joins a record that arrives to what is held of the key, in a place where everything born at or below `settled` was known.
pub(crate) fn arrive(held: Option<&Record>, sent: &Record, settled: Stamp) -> Arrived {
    let settled = if sabotaged!(TakeBelowFloor) { Stamp::ZERO } else { settled };
    let part = match sent.arriving(held, settled) {
        Arrival::AsSent => None,
        Arrival::Part(part) => Some(part),
        Arrival::Known => return Arrived::Known,
        Arrival::Obsolete => return Arrived::Obsolete,
    };
    let sent = part.as_ref().unwrap_or(sent);
    match held.map_or_else(|| Ok(sent.clone()), |held| held.join(sent)) {
        Ok(joined) => Arrived::Joined((!joined.is_spent()).then_some(joined)),
        Err(_) => Arrived::Unfit,
    }
}

/// Reads bytes as a note: what can be read is written again as it was.
pub(crate) fn read_anything(key: &[u8], value: &[u8]) {
    if let Ok(Some((place, floor))) = read_floor(key, value) {
        let mut batch = Batch::new();
        floor.save(place, &mut batch);
        let mut again = Batch::new();
        again.put(Space::META, key, value);
        assert_eq!(batch, again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::NodeId;
    use kv_core::version::{Dot, Incarnation};
    use proptest::prelude::*;

    const PLACE: Place = Place { table: TableId(7), partition: PartitionId(300) };

    fn floor() -> Floor {
        let level = Level { settled: Stamp(3 << 16), purged: Stamp(2 << 16) };
        Floor { promised: Stamp(4 << 16), level, swept: Stamp(1 << 16), counter_max: 300 }
    }

    #[test]
    fn the_examples_in_the_documentation_are_true() {
        let document = include_str!("../../docs/protocol.md");
        let mut batch = Batch::new();
        floor().save(PLACE, &mut batch);
        let Some(Operation::Put { key, value, .. }) = batch.iter().next() else { panic!("a note is put") };
        for (name, bytes) in [("floor-key", key), ("floor", value)] {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("stored {name}: {}", hex.join(" "));
            assert!(document.lines().any(|documented| documented == line), "no such line: {line}");
        }
        assert_eq!(read_floor(key, value), Ok(Some((PLACE, floor()))));
        assert_eq!(read_floor(b"imported/", b""), Ok(None), "other things a node remembers");
    }

    #[test]
    fn a_floor_above_its_promise_is_damage() {
        let mut batch = Batch::new();
        Floor { promised: Stamp(1), ..floor() }.save(PLACE, &mut batch);
        let Some(Operation::Put { key, value, .. }) = batch.iter().next() else { panic!("a note is put") };
        assert!(read_floor(key, value).is_err());
    }

    #[test]
    fn floors_only_rise() {
        let mut floors = Floors::restore([(PLACE, floor())], true);
        floors.raise(PLACE, Floor { promised: Stamp(5 << 16), ..Floor::default() });
        assert_eq!(floors.of(PLACE), Floor { promised: Stamp(5 << 16), ..floor() });
    }

    #[test]
    fn a_key_that_comes_again_is_counted_on_from_where_it_was() {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(2), epoch: 1 };
        let counted = floor().counted(actor, &VersionVector::of(Dot { actor, counter: 4 }));
        assert_eq!((counted.spans()[0].first, counted.spans()[0].last), (5, 300));
        assert!(floor().counted(actor, &VersionVector::of(Dot { actor, counter: 300 })).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(key: Vec<u8>, value: Vec<u8>) {
            read_anything(&[KEY_PREFIX, &key].concat(), &value);
            read_anything(&[KEY_PREFIX, &[0; 8]].concat(), &[&[FORMAT][..], &value].concat());
        }
    }
}
