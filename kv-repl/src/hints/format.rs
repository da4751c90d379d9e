//! Bytes of hints and of owed-repair marks in the store.
//!
//! ```text
//! hint key := target:u64be  record key                                    in the space of hints
//! hint     := format:u8 (1)  oldest birth:u64  record                     a change, or the join of several
//! mark key := "owed/"  target:u64be  table:u32be  partition:u32be         in the space of what a node keeps about itself
//! mark     := format:u8 (1)
//! ```
//!
//! The parts of keys are big-endian, because the store orders bytes: what is kept for one node is one range, in it what is
//! kept of one partition, and there is one hint for each record, however often it was written. The birth is that of the
//! oldest version that the hint would bring. A record of a replicated data type tells that of its latest change alone: the hint
//! has the oldest of those that were joined to it.

use std::ops::Bound;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader};
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_core::record::Record;
use kv_core::store::KeyRange;
use kv_ring::PartitionId;

use crate::comparison::Place;

const FORMAT: u8 = 1;
const TARGET_BYTES: usize = 8;
/// What a hint takes besides its record.
const HEADER_BYTES: usize = 1 + 8;

/// Where owed-repair marks lie.
pub(crate) const MARK_PREFIX: &[u8] = b"owed/";

/// What is kept for one node of one record.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct Hint {
    /// The birth of the oldest version in it; of a data type, of the oldest change.
    pub(super) oldest: Stamp,
    /// What the node has missed.
    pub(super) record: Bytes,
}

/// The key of the hint for `target` of a record.
pub(super) fn hint_key(target: NodeId, key: &RecordKey) -> Vec<u8> {
    [&target.0.to_be_bytes()[..], key.as_bytes()].concat()
}

/// For whom a hint is, and of which record.
pub(super) fn read_hint_key(bytes: &[u8]) -> Result<(NodeId, RecordKey), DecodeError> {
    let mut reader = Reader::new(bytes);
    let target = NodeId(u64::from_be_bytes(reader.array()?));
    Ok((target, RecordKey::from_bytes(Bytes::copy_from_slice(reader.rest()))?))
}

/// The node that a hint is for, if the rest of its key cannot be read.
pub(super) fn target_of(bytes: &[u8]) -> Option<NodeId> {
    bytes.first_chunk().map(|target| NodeId(u64::from_be_bytes(*target)))
}

/// The ends of what is kept for one node, after the given key of a hint if there is one.
#[derive(Debug)]
pub(super) struct Range {
    start: Bound<Vec<u8>>,
    end: Option<[u8; TARGET_BYTES]>,
}

impl Range {
    pub(super) fn of(target: NodeId, after: Option<&[u8]>) -> Self {
        let start = match after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(target.0.to_be_bytes().to_vec()),
        };
        Self { start, end: target.0.checked_add(1).map(u64::to_be_bytes) }
    }

    pub(super) fn as_keys(&self) -> KeyRange<'_> {
        let start = match &self.start {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        KeyRange { start, end: self.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..])) }
    }
}

impl Hint {
    /// A hint of one change, in a place of which every replica holds what was born at or below `settled`.
    pub(super) fn of(record: Bytes, change: &Record, settled: Stamp) -> Self {
        let births = change.versions().iter().map(|(_, version)| version.birth).filter(|birth| *birth > settled);
        Self { oldest: births.min().unwrap_or_else(|| change.birth_max()), record }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.record.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.oldest.0.to_le_bytes());
        out.extend_from_slice(&self.record);
        out
    }

    /// Reads what [`Hint::encode`] wrote. Whether the record in it is one is not looked at.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of hint"));
        }
        let oldest = Stamp(reader.u64()?);
        Ok(Self { oldest, record: Bytes::copy_from_slice(reader.rest()) })
    }
}

/// The key of the mark that says that `target` may lack something of a place.
pub(super) fn mark_key(target: NodeId, place: Place) -> Vec<u8> {
    let (table, partition) = (place.table.0.to_be_bytes(), place.partition.0.to_be_bytes());
    [MARK_PREFIX, &target.0.to_be_bytes()[..], &table, &partition].concat()
}

/// Whether a store holds a mark.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn is_marked(
    view: &dyn kv_core::View,
    target: NodeId,
    place: Place,
) -> Result<bool, kv_core::store::StoreError> {
    view.get(kv_core::store::Space::META, &mark_key(target, place), &mut |_| ())
}

/// Whether a store keeps all of a change to a record for `target`.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn keeps(
    view: &dyn kv_core::View,
    target: NodeId,
    key: &RecordKey,
    change: &Record,
) -> Result<bool, kv_core::store::StoreError> {
    let mut kept = None;
    view.get(kv_core::store::Space::HINTS, &hint_key(target, key), &mut |value| {
        kept = Hint::decode(value).and_then(|hint| Record::decode(&hint.record)).ok();
    })?;
    Ok(kept.is_some_and(|kept| kept.join(change).is_ok_and(|joined| joined == kept)))
}

/// The value of a mark.
pub(super) const fn mark() -> [u8; 1] {
    [FORMAT]
}

/// Reads a mark, or says that the key is of something else.
pub(crate) fn read_mark(key: &[u8], value: &[u8]) -> Result<Option<(NodeId, Place)>, DecodeError> {
    let Some(name) = key.strip_prefix(MARK_PREFIX) else { return Ok(None) };
    let mut reader = Reader::new(value);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of an owed-repair mark"));
    }
    let mut reader = Reader::new(name);
    let target = NodeId(u64::from_be_bytes(reader.array()?));
    let table = TableId(u32::from_be_bytes(reader.array()?));
    let partition = PartitionId(u32::from_be_bytes(reader.array()?));
    reader.finish()?;
    Ok(Some((target, Place { table, partition })))
}

/// Reads bytes as a hint and as a mark: what can be read is written again as it was.
pub(crate) fn read_anything(key: &[u8], value: &[u8]) {
    if let Ok((target, record)) = read_hint_key(key) {
        assert_eq!((hint_key(target, &record).as_slice(), target_of(key)), (key, Some(target)));
        assert!(Range::of(target, None).as_keys().contains(key), "it lies among those of its node");
    }
    if let Ok(hint) = Hint::decode(value) {
        assert_eq!(hint.encode(), value);
    }
    if let Ok(Some((target, place))) = read_mark(key, value) {
        assert_eq!(mark_key(target, place), key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::Expiry;
    use kv_core::key::Key;
    use kv_core::record::{Payload, Version};
    use kv_core::version::{Actor, Incarnation};
    use proptest::prelude::*;

    fn key() -> RecordKey {
        RecordKey::new(TableId(7), &Key::new("user", "mail")).expect("a short key")
    }

    fn change() -> Record {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(0x11), epoch: 1 };
        let version = Version { birth: Stamp(9), payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
        Record::last_write(actor, version)
    }

    #[test]
    fn the_examples_in_the_documentation_are_true() {
        let document = include_str!("../../../docs/protocol.md");
        let change = change();
        let place = Place { table: TableId(7), partition: PartitionId(300) };
        let written = [
            ("hint-key", hint_key(NodeId(3), &key())),
            ("hint", Hint::of(change.to_bytes(), &change, Stamp::ZERO).encode()),
            ("mark-key", mark_key(NodeId(3), place)),
            ("mark", mark().to_vec()),
        ];
        for (name, bytes) in &written {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("stored {name}: {}", hex.join(" "));
            assert!(document.lines().any(|documented| documented == line), "no such line: {line}");
        }
        assert_eq!(read_hint_key(&written[0].1), Ok((NodeId(3), key())));
        assert_eq!(Hint::decode(&written[1].1).expect("a hint").oldest, Stamp(9));
        assert_eq!(read_mark(&written[2].1, &written[3].1), Ok(Some((NodeId(3), place))));
        assert_eq!(read_mark(b"peer/12345678", b""), Ok(None), "other things a node remembers");
    }

    #[test]
    fn what_is_kept_for_one_node_is_one_range() {
        let others = [hint_key(NodeId(2), &key()), hint_key(NodeId(4), &key()), hint_key(NodeId(u64::MAX), &key())];
        let mine = hint_key(NodeId(3), &key());
        let all = Range::of(NodeId(3), None);
        assert!(all.as_keys().contains(&mine));
        assert!(others.iter().all(|other| !all.as_keys().contains(other)));
        assert!(!Range::of(NodeId(3), Some(&mine)).as_keys().contains(&mine), "after it");
        assert!(Range::of(NodeId(u64::MAX), None).as_keys().contains(&others[2]));
        assert_eq!(target_of(&mine), Some(NodeId(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(key: Vec<u8>, value: Vec<u8>) {
            crate::fuzzing::hint(&[&[u8::try_from(key.len()).unwrap_or(u8::MAX)], &key[..], &value[..]].concat());
        }
    }
}
