//! A batch of writes, already in the encoding of the log.
//!
//! ```text
//! batch     := operation*
//! operation := kind:u8  space:varint  key:prefixed  [second:prefixed]
//! kind      := 1 put (second = value) | 2 merge (second = operand) | 3 delete (no second) | 4 delete range (second = end)
//!            | 5 expiring put (second = expire_at:u64 value)
//! prefixed  := length:varint  bytes
//! ```
//!
//! The payload of a log record is these bytes: what a writer built is appended as it is, and recovery reads it with the
//! same [`Batch::from_bytes`].

use super::Space;
use crate::codec::{DecodeError, Reader, put_prefixed, put_varint};
use crate::time::Millis;

const PUT: u8 = 1;
const MERGE: u8 = 2;
const DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;
const PUT_EXPIRING: u8 = 5;

/// The expiry of an expiring put stands before its value.
const EXPIRY_BYTES: usize = size_of::<u64>();

/// Writes that are applied together. Later operations win over earlier ones on the same key.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    operations: usize,
}

/// One write of a batch.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Operation<'a> {
    /// Replaces whatever is under the key.
    Put {
        /// Which space.
        space: Space,
        /// The key.
        key: &'a [u8],
        /// The new value.
        value: &'a [u8],
    },
    /// Replaces whatever is under the key, until a time comes. An engine's own: a [`Store`](super::Store) refuses it.
    PutExpiring {
        /// Which space.
        space: Space,
        /// The key.
        key: &'a [u8],
        /// Wall time from which on there is nothing under the key.
        expire_at: Millis,
        /// The new value. In the encoding the eight bytes before it are `expire_at`.
        value: &'a [u8],
    },
    /// Adds an operand for the space's merge operator.
    Merge {
        /// Which space.
        space: Space,
        /// The key.
        key: &'a [u8],
        /// The operand.
        operand: &'a [u8],
    },
    /// Removes the key.
    Delete {
        /// Which space.
        space: Space,
        /// The key.
        key: &'a [u8],
    },
    /// Removes every key from `start` up to, but not including, `end`.
    DeleteRange {
        /// Which space.
        space: Space,
        /// First key removed.
        start: &'a [u8],
        /// First key kept.
        end: &'a [u8],
    },
}

impl Operation<'_> {
    /// The space it changes.
    #[must_use]
    pub const fn space(&self) -> Space {
        match self {
            Self::Put { space, .. }
            | Self::PutExpiring { space, .. }
            | Self::Merge { space, .. }
            | Self::Delete { space, .. }
            | Self::DeleteRange { space, .. } => *space,
        }
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), operations: 0 }
    }

    /// Adds a put.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(PUT, space, key, Some(value));
    }

    /// Adds a put of a value that is gone from `expire_at` on.
    pub fn put_expiring(&mut self, space: Space, key: &[u8], expire_at: Millis, value: &[u8]) {
        self.begin(PUT_EXPIRING, space, key, EXPIRY_BYTES + value.len());
        put_varint(&mut self.bytes, (EXPIRY_BYTES + value.len()) as u64);
        self.bytes.extend_from_slice(&expire_at.0.to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// Adds a merge operand.
    pub fn merge(&mut self, space: Space, key: &[u8], operand: &[u8]) {
        self.push(MERGE, space, key, Some(operand));
    }

    /// Adds a delete.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(DELETE, space, key, None);
    }

    /// Adds the removal of every key from `start` up to, but not including, `end`. An empty range is left out.
    pub fn delete_range(&mut self, space: Space, start: &[u8], end: &[u8]) {
        if start < end {
            self.push(DELETE_RANGE, space, start, Some(end));
        }
    }

    /// Adds everything in `other`, in order, after what is here.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.operations += other.operations;
    }

    fn push(&mut self, kind: u8, space: Space, key: &[u8], second: Option<&[u8]>) {
        self.begin(kind, space, key, second.map_or(0, <[u8]>::len));
        if let Some(second) = second {
            put_prefixed(&mut self.bytes, second);
        }
    }

    fn begin(&mut self, kind: u8, space: Space, key: &[u8], second_bytes: usize) {
        self.bytes.reserve(key.len() + second_bytes + 12);
        self.bytes.push(kind);
        put_varint(&mut self.bytes, u64::from(space.0));
        put_prefixed(&mut self.bytes, key);
        self.operations += 1;
    }

    /// How many operations there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.operations
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.operations = 0;
    }

    /// The encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a batch back and checks all of it.
    ///
    /// # Errors
    /// When the bytes are not whole, well-formed operations to the last byte.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let operations = count_operations(&bytes)?;
        Ok(Self { bytes, operations })
    }

    /// Becomes the batch that [`Batch::from_bytes`] would read, and keeps its memory: for whoever reads many, one by one.
    ///
    /// # Errors
    /// As there; then it is empty.
    pub fn read_from(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.clear();
        self.operations = count_operations(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The operations in order.
    #[must_use]
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter { reader: Reader::new(&self.bytes), left: self.operations }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Operation<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// Iterator over the operations of a [`Batch`].
#[derive(Clone, Debug)]
pub struct BatchIter<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(read_operation(&mut self.reader).expect("a batch holds only what its methods wrote or from_bytes checked"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

fn count_operations(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut operations = 0;
    while reader.remaining() > 0 {
        read_operation(&mut reader)?;
        operations += 1;
    }
    Ok(operations)
}

fn read_operation<'a>(reader: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    let at = reader.offset();
    let kind = reader.u8()?;
    let space = Space(reader.varint32()?);
    // Limits are checked by the store at commit, with an error that names them; what a batch built must come back.
    let key = reader.prefixed(usize::MAX)?;
    match kind {
        PUT => Ok(Operation::Put { space, key, value: reader.prefixed(usize::MAX)? }),
        PUT_EXPIRING => {
            let mut second = Reader::new(reader.prefixed(usize::MAX)?);
            let expire_at = Millis(second.u64()?);
            Ok(Operation::PutExpiring { space, key, expire_at, value: second.bytes(second.remaining())? })
        }
        MERGE => Ok(Operation::Merge { space, key, operand: reader.prefixed(usize::MAX)? }),
        DELETE => Ok(Operation::Delete { space, key }),
        DELETE_RANGE => {
            let end = reader.prefixed(usize::MAX)?;
            if key < end {
                Ok(Operation::DeleteRange { space, start: key, end })
            } else {
                Err(DecodeError { offset: at, what: "range delete whose end is not after its start" })
            }
        }
        _ => Err(DecodeError { offset: at, what: "unknown kind of operation" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoding_is_the_documented_one() {
        let mut batch = Batch::new();
        batch.put(Space(1), b"k", b"v");
        batch.merge(Space(1), b"k", b"op");
        batch.delete(Space(300), b"gone");
        batch.delete_range(Space(0), b"a", b"c");
        batch.delete_range(Space(0), b"c", b"a");
        assert_eq!(batch.len(), 4, "an empty range is left out");
        let golden: &[u8] = b"\x01\x01\x01k\x01v\x02\x01\x01k\x02op\x03\xac\x02\x04gone\x04\x00\x01a\x01c";
        assert_eq!(batch.as_bytes(), golden);
        assert_eq!(Batch::from_bytes(golden.to_vec()).unwrap(), batch);
    }

    #[test]
    fn a_batch_that_is_read_again_has_nothing_of_what_it_was() {
        let (mut first, mut second) = (Batch::new(), Batch::new());
        first.put(Space(1), b"k", b"v");
        first.delete(Space(1), b"gone");
        second.merge(Space(2), b"k", b"op");
        let mut read = Batch::new();
        for batch in [&first, &second, &Batch::new(), &first] {
            read.read_from(batch.as_bytes()).unwrap();
            assert_eq!(&read, batch);
        }
        assert!(read.read_from(b"\x01\x01\x01k\x01v\x09").is_err());
        assert!(read.is_empty() && read.as_bytes().is_empty(), "nothing of a batch that is not whole");
    }

    #[test]
    fn an_expiring_put_has_its_expiry_right_before_its_value() {
        let mut batch = Batch::new();
        batch.put_expiring(Space(300), b"k", Millis(0x0102_0304), b"v");
        batch.put_expiring(Space(1), b"", Millis::MAX, b"");
        let golden: &[u8] =
            b"\x05\xac\x02\x01k\x09\x04\x03\x02\x01\0\0\0\0v\x05\x01\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(batch.as_bytes(), golden);
        assert_eq!(Batch::from_bytes(golden.to_vec()).unwrap(), batch);
        let Some(Operation::PutExpiring { space: Space(300), key: b"k", expire_at, value: b"v" }) = batch.iter().next()
        else {
            panic!("another operation came back");
        };
        assert_eq!(expire_at, Millis(0x0102_0304));
        assert!(Batch::from_bytes(b"\x05\x01\x01k\x07\0\0\0\0\0\0\0".to_vec()).is_err(), "half an expiry");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_batch_or_an_error(bytes: Vec<u8>) {
            if let Ok(batch) = Batch::from_bytes(bytes.clone()) {
                let mut again = Batch::new();
                for operation in &batch {
                    match operation {
                        Operation::Put { space, key, value } => again.put(space, key, value),
                        Operation::PutExpiring { space, key, expire_at, value } => {
                            again.put_expiring(space, key, expire_at, value);
                        }
                        Operation::Merge { space, key, operand } => again.merge(space, key, operand),
                        Operation::Delete { space, key } => again.delete(space, key),
                        Operation::DeleteRange { space, start, end } => again.delete_range(space, start, end),
                    }
                }
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }
}
