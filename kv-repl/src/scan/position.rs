//! Where a scan has come to and where it ends, as a value and as the bytes of a cursor.
//!
//! ```text
//! cursor := format:u8 (1)  cluster:u64  table:varint  from:prefixed  until:prefixed (empty: the end of the table)  crc32:u32
//! ```
//!
//! `from` and `until` are ends of ranges of record keys as they lie in a store, the first one included and the second one not.
//! `cluster` is the two halves of the cluster's id combined by exclusive or.

use std::ops::Bound;

use bytes::Bytes;
use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::hash::Token;
use kv_core::key::{InvalidKey, Key, RecordKey, TableId};
use kv_core::limits::{PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX};
use kv_core::store::prefix_end;
use thiserror::Error;

use crate::identity::ClusterId;

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// A table and a token: the shortest end of a range.
const BOUND_BYTES_MIN: usize = 12;
/// Just above the longest key.
const BOUND_BYTES_MAX: usize = BOUND_BYTES_MIN + 2 + PARTITION_KEY_BYTES_MAX + SORT_KEY_BYTES_MAX + 1;

/// Bytes that no scan of this table can go on from.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum InvalidCursor {
    /// The bytes are not a cursor.
    #[error("not a cursor: {0}")]
    Malformed(DecodeError),
    /// The checksum does not match.
    #[error("the cursor was altered")]
    Altered,
    /// It is of another table, or of another cluster.
    #[error("the cursor is of another table")]
    OtherTable,
}

/// A range of record keys of one table: what of a scan is left.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Position {
    pub(crate) table: TableId,
    /// By which cluster it was handed out; nothing when the scan has just begun.
    pub(crate) cluster: Option<u64>,
    /// At least 12 bytes.
    pub(crate) from: Bytes,
    /// At least 12 bytes; the end of the table when there is none.
    pub(crate) until: Option<Bytes>,
}

/// Names a cluster in a cursor.
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
pub(crate) const fn cluster_name(cluster: ClusterId) -> u64 {
    cluster.0 as u64 ^ (cluster.0 >> 64) as u64
}

/// The least key above `key`.
pub(crate) fn just_after(key: &RecordKey) -> Bytes {
    [&key.as_bytes()[..], &[0]].concat().into()
}

/// The table and the token of an end of a range.
pub(crate) fn place_of(bound: &[u8]) -> Option<(TableId, Token)> {
    let (table, rest) = bound.split_first_chunk()?;
    let token = rest.first_chunk()?;
    Some((TableId(u32::from_be_bytes(*table)), Token(u64::from_be_bytes(*token))))
}

impl Position {
    /// All of a table.
    pub(crate) fn of_table(table: TableId) -> Self {
        let from = Bytes::copy_from_slice(&RecordKey::range_start(table, Token(0)));
        Self { table, cluster: None, from, until: None }
    }

    /// The sort keys of one partition key that lie between two bounds.
    pub(crate) fn of_sort_keys(
        table: TableId,
        partition_key: &Bytes,
        (from, until): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<Self, InvalidKey> {
        let key = |sort: &[u8]| {
            RecordKey::new(table, &Key { partition: partition_key.clone(), sort: Bytes::copy_from_slice(sort) })
        };
        let from = match from {
            Bound::Included(sort) => key(sort)?.as_bytes().clone(),
            Bound::Excluded(sort) => just_after(&key(sort)?),
            Bound::Unbounded => key(&[])?.as_bytes().clone(),
        };
        let until = match until {
            Bound::Included(sort) => just_after(&key(sort)?),
            Bound::Excluded(sort) => key(sort)?.as_bytes().clone(),
            Bound::Unbounded => prefix_end(key(&[])?.as_bytes()).expect("a key is not all ones").into(),
        };
        Ok(Self { table, cluster: None, from, until: Some(until) })
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.until.as_ref().is_some_and(|until| self.from >= *until)
    }

    /// As a cursor of this cluster.
    pub(crate) fn encode(&self, cluster: ClusterId) -> Bytes {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&cluster_name(cluster).to_le_bytes());
        put_varint(&mut out, u64::from(self.table.0));
        put_prefixed(&mut out, &self.from);
        put_prefixed(&mut out, self.until.as_deref().unwrap_or_default());
        let checksum = crc32(&[&out]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.into()
    }

    /// Reads a cursor of a scan of `table`.
    pub(crate) fn decode(cursor: &[u8], table: TableId) -> Result<Self, InvalidCursor> {
        let position = Self::decode_any(cursor)?;
        if position.table != table && !sabotaged!(TakeAnyCursor) {
            return Err(InvalidCursor::OtherTable);
        }
        Ok(position)
    }

    /// Reads a cursor of any table.
    pub(crate) fn decode_any(cursor: &[u8]) -> Result<Self, InvalidCursor> {
        let malformed = |what| InvalidCursor::Malformed(DecodeError { offset: cursor.len(), what });
        let body_bytes = cursor.len().checked_sub(CHECKSUM_BYTES).ok_or(malformed("too short"))?;
        let (body, checksum) = cursor.split_at(body_bytes);
        if crc32(&[body]).to_le_bytes() != checksum {
            return Err(InvalidCursor::Altered);
        }
        let position = parse(body).map_err(InvalidCursor::Malformed)?;
        let of_table = |bound: &Bytes| place_of(bound).is_some_and(|(table, _)| table == position.table);
        let ends_with_table = |until: &Bytes| of_table(until) && position.from < *until;
        if !of_table(&position.from) || !position.until.as_ref().is_none_or(ends_with_table) {
            return Err(malformed("a range of no table"));
        }
        Ok(position)
    }
}

fn parse(body: &[u8]) -> Result<Position, DecodeError> {
    let mut reader = Reader::new(body);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of cursor"));
    }
    let cluster = Some(reader.u64()?);
    let table = TableId(reader.varint32()?);
    let (from, until) = decode_range(&mut reader)?;
    reader.finish()?;
    Ok(Position { table, cluster, from, until })
}

/// Reads the two ends of a range.
pub(crate) fn decode_range(reader: &mut Reader<'_>) -> Result<(Bytes, Option<Bytes>), DecodeError> {
    let from = Bytes::copy_from_slice(reader.prefixed(BOUND_BYTES_MAX)?);
    let until = Bytes::copy_from_slice(reader.prefixed(BOUND_BYTES_MAX)?);
    if from.len() < BOUND_BYTES_MIN || (!until.is_empty() && until.len() < BOUND_BYTES_MIN) {
        return Err(reader.error("an end of a range that names no token"));
    }
    Ok((from, Some(until).filter(|until| !until.is_empty())))
}

#[cfg(test)]
mod tests;
