//! What an operation of a batch becomes when it is numbered.

use kv_core::store::Operation;

use crate::internal_key::{Kind, Trailer};
use crate::range_delete::RangeDelete;

/// An operation with its number.
pub(crate) enum Numbered<'a> {
    /// A version of a key.
    Version {
        trailer: Trailer,
        key: &'a [u8],
        value: &'a [u8],
    },
    Range(RangeDelete),
}

impl<'a> Numbered<'a> {
    /// `expiring` is room for a value with its expiry, which stands before it in every source of versions.
    pub(crate) fn new(operation: Operation<'a>, sequence: u64, expiring: &'a mut Vec<u8>) -> Self {
        let (trailer, key, value): (_, _, &[u8]) = match operation {
            Operation::Put { key, value, .. } => (Trailer::new(sequence, Kind::Put), key, value),
            Operation::PutExpiring { key, expire_at, value, .. } => {
                expiring.clear();
                expiring.extend_from_slice(&expire_at.0.to_le_bytes());
                expiring.extend_from_slice(value);
                (Trailer::expiring(sequence), key, expiring)
            }
            Operation::Merge { key, operand, .. } => (Trailer::new(sequence, Kind::Merge), key, operand),
            Operation::Delete { key, .. } => (Trailer::new(sequence, Kind::Delete), key, &[]),
            Operation::DeleteRange { start, end, .. } => {
                return Self::Range(RangeDelete { start: start.into(), end: end.into(), sequence });
            }
        };
        Self::Version { trailer, key, value }
    }
}
