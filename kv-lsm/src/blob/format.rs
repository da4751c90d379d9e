//! The bytes of a blob file. Written by `writer`, read by `reader`, documented in `docs/format.md`.
//!
//! ```text
//! blob    := header  record*  footer
//! header  := magic:8  version:u32  features:u32  identity:u64  keyspace:u32  checksum:u64             (HEADER_BYTES)
//! record  := checksum:u64  sequence:u64  key_bytes:u32  stored_bytes:u32  value_bytes:u32  compression:u8
//!            key  stored                                                                        (RECORD_HEADER_BYTES)
//! footer  := records:u64  record_bytes:u64  identity:u64  checksum:u64  magic:8                       (FOOTER_BYTES)
//! pointer := file:varint  offset:varint  record_bytes:varint  value_bytes:varint  prefix              in a table's entry
//! ```
//!
//! All checksums are XXH3-64. That of a record covers the rest of it and is seeded with the identity of the file and the
//! record's offset (rule E14); those of header and footer are seeded with the identity. A record carries its key and number,
//! so that a blob file can be read alone.

use std::borrow::Cow;

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::hash::seeded;

use crate::file_format::FileFormat;
use crate::identity::place_seed;
use crate::internal_key::SEQUENCE_MAX;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

pub(crate) const MAGIC: [u8; 8] = *b"KVLSMblb";
/// What this version reads and writes.
pub(crate) const KNOWN: FileFormat = FileFormat { version: 1, features: 0 };
pub(crate) const HEADER_BYTES: usize = 36;
pub(crate) const RECORD_HEADER_BYTES: usize = 29;
pub(crate) const FOOTER_BYTES: usize = 40;

const RAW: u8 = 0;
const LZ4: u8 = 1;

/// LZ4 cannot make more of a byte than this, so a larger claim is a lie that must not be allocated for.
const LZ4_RATIO_MAX: usize = 255;

// Lengths inside a record have 32 bits.
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + RECORD_HEADER_BYTES < u32::MAX as usize);

/// What a blob file begins with.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Header {
    pub(crate) format: FileFormat,
    pub(crate) identity: u64,
    pub(crate) keyspace: u32,
}

impl Header {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        self.format.encode(out);
        out.extend_from_slice(&self.identity.to_le_bytes());
        out.extend_from_slice(&self.keyspace.to_le_bytes());
        let checksum = seeded(&out[begin..], self.identity);
        out.extend_from_slice(&checksum.to_le_bytes());
        debug_assert_eq!(out.len() - begin, HEADER_BYTES);
    }

    /// Reads a header, of whatever version.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let covered = reader.clone().bytes(HEADER_BYTES - 8)?;
        if reader.array()? != MAGIC {
            return Err(reader.error("the magic number of a blob file"));
        }
        let format = FileFormat::decode(&mut reader)?;
        let (identity, keyspace) = (reader.u64()?, reader.u32()?);
        if reader.u64()? != seeded(covered, identity) {
            return Err(reader.error("a header of a blob file whose checksum fits"));
        }
        Ok(Self { format, identity, keyspace })
    }
}

/// What a blob file ends with once it is whole.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Footer {
    pub(crate) records: u64,
    pub(crate) record_bytes: u64,
    pub(crate) identity: u64,
}

impl Footer {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        for number in [self.records, self.record_bytes, self.identity] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = seeded(&out[begin..], self.identity);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        debug_assert_eq!(out.len() - begin, FOOTER_BYTES);
    }

    /// # Errors
    /// What was expected.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let covered = reader.clone().bytes(FOOTER_BYTES - 16)?;
        let footer = Self { records: reader.u64()?, record_bytes: reader.u64()?, identity: reader.u64()? };
        if reader.u64()? != seeded(covered, footer.identity) {
            return Err(reader.error("a footer of a blob file whose checksum fits"));
        }
        if reader.array()? != MAGIC {
            return Err(reader.error("the magic number behind a footer of a blob file"));
        }
        Ok(footer)
    }
}

/// One value, as it lies in the file.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) sequence: u64,
    value_bytes: usize,
    compression: u8,
    stored: &'a [u8],
}

/// Appends a record to `out`, whose end lies at `offset` in the file, and returns its length. The value is compressed when
/// asked to and when that makes it smaller by an eighth.
pub(crate) fn store_record(
    out: &mut Vec<u8>,
    key: &[u8],
    sequence: u64,
    value: &[u8],
    lz4: bool,
    identity: u64,
    offset: u64,
) -> usize {
    let compressed = lz4.then(|| lz4_flex::block::compress(value));
    let compressed = compressed.filter(|compressed| compressed.len() < value.len() - value.len() / 8);
    let (stored, compression) = match &compressed {
        Some(compressed) => (compressed.as_slice(), LZ4),
        None => (value, RAW),
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values have limits").to_le_bytes();
    let begin = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&sequence.to_le_bytes());
    for bytes in [key, stored, value] {
        out.extend_from_slice(&length(bytes));
    }
    out.push(compression);
    out.extend_from_slice(key);
    out.extend_from_slice(stored);
    let checksum = seeded(&out[begin + 8..], place_seed(identity, offset));
    out[begin..begin + 8].copy_from_slice(&checksum.to_le_bytes());
    out.len() - begin
}

/// How long the record is that begins with these bytes, if they are the beginning of one. Not checked against anything: the
/// caller knows how much there is.
pub(crate) fn claimed_record_bytes(head: &[u8; RECORD_HEADER_BYTES]) -> u64 {
    let length = |at: usize| u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    RECORD_HEADER_BYTES as u64 + length(16) + length(20)
}

impl<'a> Record<'a> {
    /// Checks a record that fills `bytes`.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn load(bytes: &'a [u8], identity: u64, offset: u64) -> Result<Self, &'static str> {
        let mut reader = Reader::new(bytes);
        let whole = reader.u64().ok().is_some_and(|checksum| {
            let covered = reader.clone().rest();
            checksum == seeded(covered, place_seed(identity, offset))
        });
        if !whole {
            return Err("a record whose checksum fits");
        }
        Self::read(&mut reader).map_err(|error| error.what)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let sequence = reader.u64()?;
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(reader.error("a record with a sequence number"));
        }
        let lengths = [reader.u32()?, reader.u32()?, reader.u32()?];
        let [key_bytes, stored_bytes, value_bytes] = lengths.map(|length| length as usize);
        let compression = reader.u8()?;
        let possible = match compression {
            RAW => value_bytes == stored_bytes,
            LZ4 => value_bytes / LZ4_RATIO_MAX <= stored_bytes,
            _ => return Err(reader.error("a known kind of compression")),
        };
        if !possible {
            return Err(reader.error("a length of the value that the stored one can reach"));
        }
        if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
            return Err(reader.error("a key and a value within the limits"));
        }
        let (key, stored) = (reader.bytes(key_bytes)?, reader.bytes(stored_bytes)?);
        if reader.remaining() > 0 {
            return Err(reader.error("a record that fills its length"));
        }
        Ok(Self { key, sequence, value_bytes, compression, stored })
    }

    /// How many bytes the value takes in the file.
    pub(crate) const fn stored_bytes(&self) -> usize {
        self.stored.len()
    }

    /// The value, decompressed.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn value(&self) -> Result<Cow<'a, [u8]>, &'static str> {
        if self.compression == RAW {
            return Ok(Cow::Borrowed(self.stored));
        }
        match lz4_flex::block::decompress(self.stored, self.value_bytes) {
            Ok(value) if value.len() == self.value_bytes => Ok(Cow::Owned(value)),
            _ => Err("a value that LZ4 can decode"),
        }
    }
}

/// What an entry of a table holds in place of a separated value.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Pointer<'a> {
    /// Number of the blob file.
    pub(crate) file: u64,
    /// Where the record begins, and how long it is.
    pub(crate) offset: u64,
    pub(crate) record_bytes: u32,
    pub(crate) value_bytes: u32,
    /// The first bytes of the value, as many as the keyspace keeps inline.
    pub(crate) prefix: &'a [u8],
}

impl<'a> Pointer<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.file, self.offset, u64::from(self.record_bytes), u64::from(self.value_bytes)] {
            put_varint(out, number);
        }
        out.extend_from_slice(self.prefix);
    }

    /// # Errors
    /// What was expected.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (file, offset) = (reader.varint()?, reader.varint()?);
        let (record_bytes, value_bytes) = (reader.varint32()?, reader.varint32()?);
        if (record_bytes as usize) < RECORD_HEADER_BYTES {
            return Err(reader.error("a pointer to a whole record"));
        }
        let prefix = reader.rest();
        if prefix.len() > value_bytes as usize {
            return Err(reader.error("a prefix that is no longer than its value"));
        }
        Ok(Self { file, offset, record_bytes, value_bytes, prefix })
    }

    /// The offset behind the record, if there is such a place.
    pub(crate) const fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.record_bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: u64 = 0x77;

    fn record(value: &[u8], lz4: bool, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(store_record(&mut out, b"key", 9, value, lz4, IDENTITY, offset), out.len());
        out
    }

    #[test]
    fn engine_rule_14_a_record_passes_only_in_its_file_and_place() {
        for lz4 in [false, true] {
            let value = vec![7; 1000];
            let stored = record(&value, lz4, 64);
            assert_eq!(stored.len() < 500, lz4, "compressed when asked to");
            let read = Record::load(&stored, IDENTITY, 64).unwrap();
            assert_eq!((read.key, read.sequence, &*read.value().unwrap()), (&b"key"[..], 9, value.as_slice()));
            assert!(Record::load(&stored, IDENTITY, 65).is_err(), "another place");
            assert!(Record::load(&stored, IDENTITY + 1, 64).is_err(), "another file");
            for at in 0..stored.len() {
                let mut flipped = stored.clone();
                flipped[at] ^= 4;
                assert!(Record::load(&flipped, IDENTITY, 64).is_err(), "byte {at}");
                assert!(Record::load(&stored[..at], IDENTITY, 64).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn lesson_43_a_claimed_length_is_checked_before_it_is_allocated() {
        let mut stored = record(&[7; 1000], true, 0);
        stored[24..28].copy_from_slice(&u32::try_from(VALUE_BYTES_MAX).unwrap().to_le_bytes());
        let checksum = seeded(&stored[8..], place_seed(IDENTITY, 0));
        stored[..8].copy_from_slice(&checksum.to_le_bytes());
        let refused = Record::load(&stored, IDENTITY, 0);
        assert_eq!(refused, Err("a length of the value that the stored one can reach"));
    }

    #[test]
    fn header_and_footer_come_back_and_are_guarded() {
        let header = Header { format: KNOWN, identity: IDENTITY, keyspace: 300 };
        let footer = Footer { records: 3, record_bytes: 400, identity: IDENTITY };
        let (mut head, mut foot) = (Vec::new(), Vec::new());
        header.encode(&mut head);
        footer.encode(&mut foot);
        assert_eq!((Header::decode(&head), Footer::decode(&foot)), (Ok(header), Ok(footer)));
        for at in 0..head.len() {
            head[at] ^= 1;
            assert!(Header::decode(&head).is_err(), "byte {at}");
            head[at] ^= 1;
        }
        for at in 0..foot.len() {
            foot[at] ^= 1;
            assert!(Footer::decode(&foot).is_err(), "byte {at}");
            foot[at] ^= 1;
        }
    }

    proptest! {
        #[test]
        fn a_pointer_comes_back(file: u64, offset: u64, record_bytes in 29_u32.., prefix in prop::collection::vec(any::<u8>(), 0..40)) {
            let pointer = Pointer { file, offset, record_bytes, value_bytes: record_bytes.max(40), prefix: &prefix };
            let mut out = Vec::new();
            pointer.encode(&mut out);
            prop_assert_eq!(Pointer::decode(&out), Ok(pointer));
        }
    }
}
