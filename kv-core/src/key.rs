//! Keys, and how a record's key is laid out in a store.
//!
//! ```text
//! record key := table:u32be  token:u64be  length of partition key:u16be  partition key  sort key
//! ```
//!
//! Big-endian, because the store orders bytes. So a table, a partition of it (a range of tokens), and the sort keys of one
//! partition key are each one contiguous range; and two partition keys with one token do not mix.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::codec::DecodeError;
use crate::hash::{Token, token_of};
use crate::limits::{PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX};

/// The number of a table. Never used again after a table is dropped.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct TableId(pub u32);

/// A key as a client gives it: the partition key decides which replicas hold it, the sort key orders records that share a
/// partition key. Most keys have no sort key.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Key {
    /// Hashed to find the replicas.
    pub partition: Bytes,
    /// Orders records within one partition key; may be empty.
    pub sort: Bytes,
}

impl Key {
    /// A key of both parts.
    pub fn new(partition: impl Into<Bytes>, sort: impl Into<Bytes>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.partition)?;
        if self.sort.is_empty() { Ok(()) } else { write!(f, "/{:?}", self.sort) }
    }
}

impl From<&str> for Key {
    fn from(partition: &str) -> Self {
        Self::from(partition.as_bytes())
    }
}

impl From<String> for Key {
    fn from(partition: String) -> Self {
        Self::new(partition, Bytes::new())
    }
}

impl From<&[u8]> for Key {
    fn from(partition: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(partition), Bytes::new())
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(partition: &[u8; N]) -> Self {
        Self::from(partition.as_slice())
    }
}

impl From<Vec<u8>> for Key {
    fn from(partition: Vec<u8>) -> Self {
        Self::new(partition, Bytes::new())
    }
}

impl From<Bytes> for Key {
    fn from(partition: Bytes) -> Self {
        Self::new(partition, Bytes::new())
    }
}

impl<P: AsRef<[u8]>, S: AsRef<[u8]>> From<(P, S)> for Key {
    fn from((partition, sort): (P, S)) -> Self {
        Self::new(Bytes::copy_from_slice(partition.as_ref()), Bytes::copy_from_slice(sort.as_ref()))
    }
}

/// A key over the limits.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("{part} key of {bytes} bytes; {bytes_min} to {bytes_max} are possible")]
pub struct InvalidKey {
    /// "partition" or "sort".
    pub part: &'static str,
    /// Its length.
    pub bytes: usize,
    /// The shortest allowed.
    pub bytes_min: usize,
    /// The longest allowed.
    pub bytes_max: usize,
}

const TOKEN_AT: usize = 4;
const LENGTH_AT: usize = TOKEN_AT + 8;
const PARTITION_KEY_AT: usize = LENGTH_AT + 2;

/// A key as it lies in a store. Always whole and within the limits.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct RecordKey(Bytes);

impl RecordKey {
    /// Lays out `key` of `table`.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn new(table: TableId, key: &Key) -> Result<Self, InvalidKey> {
        let length = check("partition", key.partition.len(), 1, PARTITION_KEY_BYTES_MAX)?;
        check("sort", key.sort.len(), 0, SORT_KEY_BYTES_MAX)?;
        let mut bytes = Vec::with_capacity(PARTITION_KEY_AT + key.partition.len() + key.sort.len());
        bytes.extend_from_slice(&table.0.to_be_bytes());
        bytes.extend_from_slice(&token_of(&key.partition).0.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&key.partition);
        bytes.extend_from_slice(&key.sort);
        Ok(Self(bytes.into()))
    }

    /// Checks bytes from a store or a peer.
    ///
    /// # Errors
    /// When they are not a record key within the limits, or the token is not the partition key's.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let fail = |offset, what| Err(DecodeError { offset, what });
        let Some(length) = bytes.get(LENGTH_AT..PARTITION_KEY_AT) else {
            return fail(bytes.len(), "record key too short");
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let present = bytes.len() - PARTITION_KEY_AT;
        if length == 0 || length > PARTITION_KEY_BYTES_MAX || length > present {
            return fail(LENGTH_AT, "length of a partition key");
        }
        if present - length > SORT_KEY_BYTES_MAX {
            return fail(bytes.len(), "sort key over the limit");
        }
        let key = Self(bytes);
        if key.token() != token_of(key.partition_key()) {
            return fail(TOKEN_AT, "token of another partition key");
        }
        Ok(key)
    }

    /// The laid-out bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whose key it is.
    #[must_use]
    pub fn table(&self) -> TableId {
        TableId(u32::from_be_bytes(self.0[..TOKEN_AT].try_into().expect("four bytes")))
    }

    /// Where it lies in the hash space.
    #[must_use]
    pub fn token(&self) -> Token {
        Token(u64::from_be_bytes(self.0[TOKEN_AT..LENGTH_AT].try_into().expect("eight bytes")))
    }

    fn sort_key_at(&self) -> usize {
        PARTITION_KEY_AT + usize::from(u16::from_be_bytes([self.0[LENGTH_AT], self.0[LENGTH_AT + 1]]))
    }

    /// The part that was hashed.
    #[must_use]
    pub fn partition_key(&self) -> &[u8] {
        &self.0[PARTITION_KEY_AT..self.sort_key_at()]
    }

    /// The part that orders.
    #[must_use]
    pub fn sort_key(&self) -> &[u8] {
        &self.0[self.sort_key_at()..]
    }

    /// The key as a client gives it.
    #[must_use]
    pub fn to_key(&self) -> Key {
        let sort_key_at = self.sort_key_at();
        Key { partition: self.0.slice(PARTITION_KEY_AT..sort_key_at), sort: self.0.slice(sort_key_at..) }
    }

    /// The smallest store key that any record of `table` at or after `token` can have: the ends of table and partition
    /// ranges are made of it.
    #[must_use]
    pub fn range_start(table: TableId, token: Token) -> [u8; LENGTH_AT] {
        let mut bytes = [0; LENGTH_AT];
        bytes[..TOKEN_AT].copy_from_slice(&table.0.to_be_bytes());
        bytes[TOKEN_AT..].copy_from_slice(&token.0.to_be_bytes());
        bytes
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.table(), self.to_key())
    }
}

fn check(part: &'static str, bytes: usize, bytes_min: usize, bytes_max: usize) -> Result<u16, InvalidKey> {
    match u16::try_from(bytes) {
        Ok(length) if (bytes_min..=bytes_max).contains(&bytes) => Ok(length),
        _ => Err(InvalidKey { part, bytes, bytes_min, bytes_max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let key = RecordKey::new(TableId(7), &Key::from(("user", "mail"))).unwrap();
        let mut golden = vec![0, 0, 0, 7];
        golden.extend_from_slice(&token_of(b"user").0.to_be_bytes());
        golden.extend_from_slice(b"\x00\x04usermail");
        assert_eq!(&key.as_bytes()[..], &golden[..]);
        assert_eq!((key.partition_key(), key.sort_key()), (&b"user"[..], &b"mail"[..]));
        assert_eq!(key.to_key(), Key::from(("user", "mail")));
    }

    #[test]
    fn keys_over_the_limits_are_refused() {
        let long = vec![0; PARTITION_KEY_BYTES_MAX + 1];
        assert_eq!(RecordKey::new(TableId(1), &Key::from(&long[..])).unwrap_err().part, "partition");
        assert_eq!(RecordKey::new(TableId(1), &Key::from("")).unwrap_err().bytes_min, 1);
        assert_eq!(RecordKey::new(TableId(1), &Key::from((&b"p"[..], &long[..]))).unwrap_err().part, "sort");
    }

    #[test]
    fn a_token_that_is_not_the_keys_is_refused() {
        let mut bytes = RecordKey::new(TableId(7), &Key::from("user")).unwrap().as_bytes().to_vec();
        bytes[5] ^= 1;
        assert_eq!(RecordKey::from_bytes(bytes.into()).unwrap_err().what, "token of another partition key");
    }

    proptest! {
        #[test]
        fn sort_keys_order_the_records_of_one_partition_key(a: Vec<u8>, b: Vec<u8>, partition in prop::collection::vec(any::<u8>(), 1..20)) {
            let key = |sort: &[u8]| RecordKey::new(TableId(1), &Key::from((&partition[..], sort))).unwrap();
            prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
            prop_assert!(key(&a).as_bytes()[..] >= RecordKey::range_start(TableId(1), token_of(&partition))[..]);
        }

        #[test]
        fn any_bytes_are_a_key_or_refused(bytes: Vec<u8>) {
            if let Ok(key) = RecordKey::from_bytes(bytes.into()) {
                prop_assert_eq!(RecordKey::new(key.table(), &key.to_key()).unwrap(), key);
            }
        }
    }
}
