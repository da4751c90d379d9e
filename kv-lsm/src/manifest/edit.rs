//! One atomic change of what the manifest describes.
//!
//! ```text
//! edit     := item*
//! item     := tag:u8  body:prefixed
//! keyspace := id:u32  name:prefixed  options                                       tag 1: created; options: see there
//! added    := keyspace:u32 level:u8 format number:u64 identity:u64 bytes:u64 entries:u64 deletes:u64 range_deletes:u64
//!             expiring:u64 expiry_earliest:u64 expiry_latest:u64
//!             sequence_min:u64 sequence_max:u64 lower:prefixed upper_inclusive:u8 upper:prefixed
//!             (blob:u64 bytes:u64)*                                                tag 2: of which blob files it uses how much
//! removed  := keyspace:u32  level:u8  number:u64                                   tag 3
//! log      := first_segment:u64  position:u64  sequence:u64                        tag 4: sequence is that of the last
//!                                                                                  operation whose table is named
//! next     := file:u64  keyspace:u32                                               tag 5: numbers never given out
//! options  := id:u32  options                                                      tag 6: in place of those before
//! time     := ms:u64                                                               tag 7: nothing is read at an earlier one
//! dropped  := id:u32                                                               tag 8: the keyspace and all its tables
//! blob     := keyspace:u32  format  number:u64  identity:u64  bytes:u64  records:u64       tag 9: added
//! unblob   := keyspace:u32  number:u64                                             tag 10: removed
//! format   := that of the file, as it states it
//! ```

use std::sync::Arc;

use kv_core::codec::{DecodeError, Reader, put_prefixed};
use kv_core::time::Millis;

use crate::blob::meta::{BlobMeta, BlobUse};
use crate::file_format::FileFormat;
use crate::keyspace_options::stored::StoredOptions;
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::table::meta::{Expiring, TableMeta, Upper};

const KEYSPACE: u8 = 1;
const ADDED: u8 = 2;
const REMOVED: u8 = 3;
const LOG: u8 = 4;
const NEXT: u8 = 5;
const OPTIONS: u8 = 6;
const TIME: u8 = 7;
const DROPPED: u8 = 8;
const BLOB_ADDED: u8 = 9;
const BLOB_REMOVED: u8 = 10;

/// A keyspace as it was created, with its options as they were given last.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct KeyspaceRecord {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) options: StoredOptions,
}

/// One part of an edit.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Item {
    Keyspace(KeyspaceRecord),
    Added {
        keyspace: u32,
        level: usize,
        table: TableMeta,
    },
    Removed {
        keyspace: u32,
        level: usize,
        number: u64,
    },
    Log {
        segment: u64,
        position: u64,
        sequence: u64,
    },
    Next {
        file: u64,
        keyspace: u32,
    },
    Options {
        id: u32,
        options: StoredOptions,
    },
    Time(Millis),
    Dropped {
        id: u32,
    },
    BlobAdded {
        keyspace: u32,
        blob: BlobMeta,
    },
    /// No table points into it any more.
    BlobRemoved {
        keyspace: u32,
        number: u64,
    },
}

/// Items that take effect together.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub(crate) struct Edit(pub(crate) Vec<Item>);

impl Edit {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Vec::new();
        for item in &self.0 {
            body.clear();
            out.push(item.encode(&mut body));
            put_prefixed(&mut out, &body);
        }
        out
    }

    /// # Errors
    /// When the bytes are not whole items to the last byte.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut items = Vec::new();
        while reader.remaining() > 0 {
            let tag = reader.u8()?;
            let mut body = Reader::new(reader.prefixed(usize::MAX)?);
            items.push(Item::decode(tag, &mut body)?);
            body.finish()?;
        }
        Ok(Self(items))
    }
}

fn level_byte(level: usize) -> u8 {
    u8::try_from(level).expect("there are few levels")
}

impl Item {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Keyspace(record) => {
                out.extend_from_slice(&record.id.to_le_bytes());
                put_prefixed(out, record.name.as_bytes());
                record.options.encode(out);
                KEYSPACE
            }
            Self::Added { keyspace, level, table } => {
                out.extend_from_slice(&keyspace.to_le_bytes());
                out.push(level_byte(*level));
                table.format.encode(out);
                for number in [
                    table.number,
                    table.identity,
                    table.bytes,
                    table.entries,
                    table.deletes,
                    table.range_deletes,
                    table.expiring.entries,
                    table.expiring.earliest.0,
                    table.expiring.latest.0,
                    table.sequence_min,
                    table.sequence_max,
                ] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                put_prefixed(out, &table.lower);
                out.push(u8::from(table.upper.inclusive));
                put_prefixed(out, &table.upper.key);
                for blob in &table.blobs {
                    out.extend_from_slice(&blob.number.to_le_bytes());
                    out.extend_from_slice(&blob.bytes.to_le_bytes());
                }
                ADDED
            }
            Self::Removed { keyspace, level, number } => {
                out.extend_from_slice(&keyspace.to_le_bytes());
                out.push(level_byte(*level));
                out.extend_from_slice(&number.to_le_bytes());
                REMOVED
            }
            Self::Log { segment, position, sequence } => {
                for number in [segment, position, sequence] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                LOG
            }
            Self::Next { file, keyspace } => {
                out.extend_from_slice(&file.to_le_bytes());
                out.extend_from_slice(&keyspace.to_le_bytes());
                NEXT
            }
            Self::Options { id, options } => {
                out.extend_from_slice(&id.to_le_bytes());
                options.encode(out);
                OPTIONS
            }
            Self::Time(time) => {
                out.extend_from_slice(&time.0.to_le_bytes());
                TIME
            }
            Self::Dropped { id } => {
                out.extend_from_slice(&id.to_le_bytes());
                DROPPED
            }
            Self::BlobAdded { keyspace, blob } => {
                out.extend_from_slice(&keyspace.to_le_bytes());
                blob.format.encode(out);
                for number in [blob.number, blob.identity, blob.bytes, blob.records] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                BLOB_ADDED
            }
            Self::BlobRemoved { keyspace, number } => {
                out.extend_from_slice(&keyspace.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
                BLOB_REMOVED
            }
        }
    }

    fn decode(tag: u8, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match tag {
            KEYSPACE => {
                let id = body.u32()?;
                let name = std::str::from_utf8(body.prefixed(NAME_BYTES_MAX)?);
                let name = name.map_err(|_| body.error("a name in UTF-8"))?.to_owned();
                Ok(Self::Keyspace(KeyspaceRecord { id, name, options: StoredOptions::decode(body)? }))
            }
            ADDED => {
                let (keyspace, level) = (body.u32()?, usize::from(body.u8()?));
                let table = TableMeta {
                    format: FileFormat::decode(body)?,
                    number: body.u64()?,
                    identity: body.u64()?,
                    bytes: body.u64()?,
                    entries: body.u64()?,
                    deletes: body.u64()?,
                    range_deletes: body.u64()?,
                    expiring: Expiring {
                        entries: body.u64()?,
                        earliest: Millis(body.u64()?),
                        latest: Millis(body.u64()?),
                    },
                    sequence_min: body.u64()?,
                    sequence_max: body.u64()?,
                    lower: Arc::from(body.prefixed(KEY_BYTES_MAX)?),
                    upper: {
                        let inclusive = read_flag(body)?;
                        Upper { key: Arc::from(body.prefixed(KEY_BYTES_MAX)?), inclusive }
                    },
                    blobs: read_blob_uses(body)?,
                };
                Ok(Self::Added { keyspace, level, table })
            }
            REMOVED => Ok(Self::Removed { keyspace: body.u32()?, level: usize::from(body.u8()?), number: body.u64()? }),
            LOG => Ok(Self::Log { segment: body.u64()?, position: body.u64()?, sequence: body.u64()? }),
            NEXT => Ok(Self::Next { file: body.u64()?, keyspace: body.u32()? }),
            OPTIONS => Ok(Self::Options { id: body.u32()?, options: StoredOptions::decode(body)? }),
            TIME => Ok(Self::Time(Millis(body.u64()?))),
            DROPPED => Ok(Self::Dropped { id: body.u32()? }),
            BLOB_ADDED => {
                let keyspace = body.u32()?;
                let blob = BlobMeta {
                    format: FileFormat::decode(body)?,
                    number: body.u64()?,
                    identity: body.u64()?,
                    bytes: body.u64()?,
                    records: body.u64()?,
                };
                Ok(Self::BlobAdded { keyspace, blob })
            }
            BLOB_REMOVED => Ok(Self::BlobRemoved { keyspace: body.u32()?, number: body.u64()? }),
            _ => Err(body.error("a known item of an edit")),
        }
    }
}

fn read_blob_uses(body: &mut Reader<'_>) -> Result<Vec<BlobUse>, DecodeError> {
    let mut uses: Vec<BlobUse> = Vec::new();
    while body.remaining() > 0 {
        let blob = BlobUse { number: body.u64()?, bytes: body.u64()? };
        if uses.last().is_some_and(|last| last.number >= blob.number) {
            return Err(body.error("blob files in the order of their numbers"));
        }
        uses.push(blob);
    }
    Ok(uses)
}

fn read_flag(body: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match body.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(body.error("a known flag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Edit {
        let table = TableMeta {
            number: 9,
            identity: 77,
            format: FileFormat { version: 1, features: 0x30001 },
            bytes: 4096,
            entries: 12,
            deletes: 4,
            range_deletes: 1,
            expiring: Expiring { entries: 2, earliest: Millis(70), latest: Millis(80) },
            sequence_min: 3,
            sequence_max: 40,
            lower: Arc::from(&b"a"[..]),
            upper: Upper { key: Arc::from(&b"zz"[..]), inclusive: false },
            blobs: vec![BlobUse { number: 5, bytes: 700 }, BlobUse { number: 8, bytes: 1 }],
        };
        let blob = BlobMeta {
            number: 8,
            identity: 78,
            format: FileFormat { version: 2, features: 3 },
            bytes: 900,
            records: 2,
        };
        let options = StoredOptions { default_ttl_ms: Some(1000), block_bytes: Some(4096), ..StoredOptions::default() };
        Edit(vec![
            Item::Keyspace(KeyspaceRecord { id: 256, name: "users".to_owned(), options: options.clone() }),
            Item::Options { id: 256, options },
            Item::Time(Millis(1_700_000_000_000)),
            Item::Dropped { id: 256 },
            Item::Added { keyspace: 256, level: 6, table },
            Item::Removed { keyspace: 256, level: 0, number: 4 },
            Item::BlobAdded { keyspace: 256, blob },
            Item::BlobRemoved { keyspace: 256, number: 5 },
            Item::Log { segment: 8, position: 123, sequence: 40 },
            Item::Next { file: 10, keyspace: 257 },
        ])
    }

    #[test]
    fn an_edit_comes_back() {
        assert_eq!(Edit::decode(&sample().encode()), Ok(sample()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_edit_or_an_error(at: prop::sample::Index, byte: u8, noise: Vec<u8>) {
            let mut bytes = sample().encode();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            for bytes in [bytes, noise] {
                if let Ok(edit) = Edit::decode(&bytes) {
                    prop_assert_eq!(edit.encode(), bytes, "one edit, one encoding");
                }
            }
        }
    }
}
