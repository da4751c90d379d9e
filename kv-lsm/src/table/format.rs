//! The bytes of a table. Written by `writer`, read by `reader`, documented in `docs/format.md`.
//!
//! ```text
//! table   := data_block*  filter_block?  range_delete_block?  index_block  properties_block  footer
//! stored  := payload  compression:u8  decoded_bytes:u32  checksum:u64             each block as it lies in the file
//! footer  := index:handle  filter:handle  range_deletes:handle  properties:handle      handle := offset:u64 length:u64
//!            identity:u64  version:u32  features:u32  checksum:u64  magic:8                            (FOOTER_BYTES)
//! ```
//!
//! The checksum of a block is XXH3-64 over payload, compression and decoded length, seeded with the identity of the file and
//! the block's offset, so that a block in the wrong place, or of another file, does not pass. The identity is stored, not
//! derived from the name, so that a renamed or linked file does.

use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::hash::seeded;
use kv_core::time::Millis;

use super::meta::Expiring;
use super::zstd;
use crate::file_format::FileFormat;
use crate::identity::place_seed;
use crate::keyspace_options::stored::StoredOptions;
use crate::limits::NAME_BYTES_MAX;
use crate::options::Compression;

pub(crate) const MAGIC: [u8; 8] = *b"KVLSMtab";
/// A required feature: blocks may be compressed with zstd.
const ZSTD_BLOCKS: u32 = 1;
/// What this build reads.
pub(crate) const KNOWN: FileFormat =
    FileFormat { version: 1, features: if cfg!(feature = "zstd") { ZSTD_BLOCKS } else { 0 } };
pub(crate) const BLOCK_TRAILER_BYTES: usize = 13;
pub(crate) const FOOTER_BYTES: usize = 4 * 16 + 8 + 8 + 8 + 8;

const RAW: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// LZ4 cannot make more of a byte than this, so a larger claim is a lie that must not be allocated for.
const LZ4_RATIO_MAX: usize = 255;

/// Where a block lies, its trailer included.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Handle {
    pub(crate) const fn is_none(&self) -> bool {
        self.length == 0
    }
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Footer {
    pub(crate) index: Handle,
    pub(crate) filter: Handle,
    pub(crate) range_deletes: Handle,
    pub(crate) properties: Handle,
    pub(crate) identity: u64,
    pub(crate) format: FileFormat,
}

/// The format of a table whose blocks are compressed so.
pub(crate) const fn written_with(compression: Compression) -> FileFormat {
    let features = if matches!(compression, Compression::Zstd(_)) { ZSTD_BLOCKS } else { 0 };
    FileFormat { version: KNOWN.version, features }
}

impl Footer {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        for handle in [self.index, self.filter, self.range_deletes, self.properties] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.length.to_le_bytes());
        }
        out.extend_from_slice(&self.identity.to_le_bytes());
        self.format.encode(out);
        let checksum = seeded(&out[begin..], self.identity);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        debug_assert_eq!(out.len() - begin, FOOTER_BYTES);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let covered = reader.clone().bytes(FOOTER_BYTES - 16)?;
        let mut handle = || Ok(Handle { offset: reader.u64()?, length: reader.u64()? });
        let (index, filter, range_deletes, properties) = (handle()?, handle()?, handle()?, handle()?);
        let (identity, format) = (reader.u64()?, FileFormat::decode(&mut reader)?);
        if reader.u64()? != seeded(covered, identity) {
            return Err(reader.error("checksum of the footer"));
        }
        if reader.array()? != MAGIC {
            return Err(reader.error("not a table"));
        }
        Ok(Self { index, filter, range_deletes, properties, identity, format })
    }
}

/// What a table says about itself. Kept for tools and later versions; the engine goes by the manifest.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Properties {
    pub(crate) keyspace: u32,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) merges: u64,
    pub(crate) range_deletes: u64,
    pub(crate) key_value_bytes: u64,
    pub(crate) sequence_min: u64,
    pub(crate) sequence_max: u64,
    pub(crate) expiring: Expiring,
    pub(crate) origin: Origin,
}

/// Where a table comes from: what repair needs when there is no manifest.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Origin {
    /// Name of the keyspace.
    pub(crate) name: String,
    /// Its options, as the manifest keeps them.
    pub(crate) options: StoredOptions,
    /// Numbers of the tables that this one, and those written with it, stand for.
    pub(crate) replaces: Vec<u64>,
}

impl Origin {
    fn encode(&self, out: &mut Vec<u8>) {
        put_prefixed(out, self.name.as_bytes());
        let mut options = Vec::new();
        self.options.encode(&mut options);
        put_prefixed(out, &options);
        for &number in &self.replaces {
            put_varint(out, number);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = std::str::from_utf8(reader.prefixed(NAME_BYTES_MAX)?);
        let name = name.map_err(|_| reader.error("a name in UTF-8"))?.to_owned();
        let options = StoredOptions::decode(&mut Reader::new(reader.prefixed(usize::MAX)?))?;
        let mut replaces = Vec::new();
        while reader.remaining() > 0 {
            replaces.push(reader.varint()?);
        }
        Ok(Self { name, options, replaces })
    }
}

impl Properties {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keyspace.to_le_bytes());
        for number in [
            self.entries,
            self.deletes,
            self.merges,
            self.range_deletes,
            self.key_value_bytes,
            self.sequence_min,
            self.sequence_max,
            self.expiring.entries,
            self.expiring.earliest.0,
            self.expiring.latest.0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.origin.encode(out);
    }

    /// # Errors
    /// When the bytes are not properties.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let properties = Self {
            keyspace: reader.u32()?,
            entries: reader.u64()?,
            deletes: reader.u64()?,
            merges: reader.u64()?,
            range_deletes: reader.u64()?,
            key_value_bytes: reader.u64()?,
            sequence_min: reader.u64()?,
            sequence_max: reader.u64()?,
            expiring: Expiring {
                entries: reader.u64()?,
                earliest: Millis(reader.u64()?),
                latest: Millis(reader.u64()?),
            },
            origin: Origin::decode(&mut reader)?,
        };
        reader.finish()?;
        Ok(properties)
    }
}

/// Appends a block to `out`, whose end lies at `offset` in the file. Compresses it when asked to and when that makes it
/// smaller by an eighth.
pub(crate) fn store_block(
    out: &mut Vec<u8>,
    payload: &[u8],
    compression: Compression,
    identity: u64,
    offset: u64,
) -> Handle {
    let begin = out.len();
    let kind = match compression {
        Compression::None => RAW,
        Compression::Lz4 => {
            out.resize(begin + lz4_flex::block::get_maximum_output_size(payload.len()), 0);
            let compressed = lz4_flex::block::compress_into(payload, &mut out[begin..]);
            out.truncate(begin + compressed.expect("there is room for the most that it can be"));
            LZ4
        }
        Compression::Zstd(level) => match zstd::compress(payload, level) {
            Some(compressed) => {
                out.extend_from_slice(&compressed);
                ZSTD
            }
            None => RAW,
        },
    };
    if kind != RAW && out.len() - begin < payload.len() - payload.len() / 8 {
        return seal_block(out, begin, kind, payload.len(), identity, offset);
    }
    out.truncate(begin);
    out.extend_from_slice(payload);
    seal_raw(out, begin, identity, offset)
}

/// Makes a block of what was appended to `out` from `begin` on, which lies at `offset` in the file.
pub(crate) fn seal_raw(out: &mut Vec<u8>, begin: usize, identity: u64, offset: u64) -> Handle {
    seal_block(out, begin, RAW, out.len() - begin, identity, offset)
}

fn seal_block(out: &mut Vec<u8>, begin: usize, kind: u8, decoded: usize, identity: u64, offset: u64) -> Handle {
    out.push(kind);
    out.extend_from_slice(&u32::try_from(decoded).expect("a block is below 4 GiB").to_le_bytes());
    let checksum = seeded(&out[begin..], place_seed(identity, offset));
    out.extend_from_slice(&checksum.to_le_bytes());
    Handle { offset, length: (out.len() - begin) as u64 }
}

/// What the trailer of a block says: how it is compressed, at a level that is not stored, and how long it is decoded.
pub(crate) fn stored_as(trailer: &[u8; BLOCK_TRAILER_BYTES]) -> (Option<Compression>, u32) {
    let compression = match trailer[0] {
        RAW => Some(Compression::None),
        LZ4 => Some(Compression::Lz4),
        ZSTD => Some(Compression::Zstd(0)),
        _ => None,
    };
    (compression, u32::from_le_bytes([trailer[1], trailer[2], trailer[3], trailer[4]]))
}

/// Why a block cannot be used.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum BlockError {
    /// What was expected.
    Corrupt(&'static str),
    /// It is compressed with zstd, which this build lacks.
    Zstd,
}

/// Checks a stored block and decodes it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn load_block(stored: &[u8], identity: u64, offset: u64) -> Result<Vec<u8>, BlockError> {
    let mut decoded = Vec::new();
    unpack_block(stored, identity, offset, &mut decoded).map(<[u8]>::to_vec)
}

/// The same, with memory for what has to be decoded.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unpack_block<'b>(
    stored: &'b [u8],
    identity: u64,
    offset: u64,
    decoded: &'b mut Vec<u8>,
) -> Result<&'b [u8], BlockError> {
    let corrupt = |expected| Err(BlockError::Corrupt(expected));
    let Some(payload_bytes) = stored.len().checked_sub(BLOCK_TRAILER_BYTES) else {
        return corrupt("a block with a trailer");
    };
    let (covered, checksum) = stored.split_at(stored.len() - 8);
    if checksum != seeded(covered, place_seed(identity, offset)).to_le_bytes() {
        return corrupt("a block whose checksum fits");
    }
    let compression = covered[payload_bytes];
    let length = [
        covered[payload_bytes + 1],
        covered[payload_bytes + 2],
        covered[payload_bytes + 3],
        covered[payload_bytes + 4],
    ];
    let decoded_bytes = u32::from_le_bytes(length) as usize;
    match compression {
        RAW if decoded_bytes == payload_bytes => Ok(&stored[..payload_bytes]),
        RAW => corrupt("a decoded length equal to the stored one"),
        LZ4 if decoded_bytes / LZ4_RATIO_MAX > payload_bytes => corrupt("a decoded length that LZ4 can reach"),
        LZ4 => {
            if decoded.len() < decoded_bytes {
                decoded.resize(decoded_bytes, 0);
            }
            let room = &mut decoded[..decoded_bytes];
            match lz4_flex::block::decompress_into(&stored[..payload_bytes], room) {
                Ok(length) if length == decoded_bytes => Ok(room),
                _ => corrupt("a block that LZ4 can decode"),
            }
        }
        ZSTD if !Compression::Zstd(1).is_supported() => Err(BlockError::Zstd),
        ZSTD => match zstd::decompress(&stored[..payload_bytes], decoded_bytes) {
            Some(unpacked) if unpacked.len() == decoded_bytes => {
                *decoded = unpacked;
                Ok(&decoded[..])
            }
            _ => corrupt("a block that zstd can decode"),
        },
        _ => corrupt("a known kind of compression"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_rule_14_a_block_passes_only_in_its_file_and_place() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd(3)] {
            if !compression.is_supported() {
                continue;
            }
            let payload = vec![7_u8; 1000];
            let mut stored = Vec::new();
            let handle = store_block(&mut stored, &payload, compression, 1, 64);
            assert_eq!(handle, Handle { offset: 64, length: stored.len() as u64 });
            assert_eq!(stored.len() < 500, compression != Compression::None, "compressed when asked to");
            assert_eq!(load_block(&stored, 1, 64), Ok(payload));
            assert!(load_block(&stored, 1, 65).is_err(), "another place");
            assert!(load_block(&stored, 2, 64).is_err(), "another file");
            for at in 0..stored.len() {
                let mut flipped = stored.clone();
                flipped[at] ^= 4;
                assert!(load_block(&flipped, 1, 64).is_err(), "byte {at}");
            }
            for length in 0..stored.len() {
                assert!(load_block(&stored[..length], 1, 64).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn lesson_43_a_claimed_length_is_checked_before_it_is_allocated() {
        let claiming = |kind: u8| {
            let mut stored = vec![0_u8; 10];
            stored.push(kind);
            stored.extend_from_slice(&u32::MAX.to_le_bytes());
            let checksum = seeded(&stored, place_seed(1, 0));
            stored.extend_from_slice(&checksum.to_le_bytes());
            load_block(&stored, 1, 0)
        };
        assert_eq!(claiming(LZ4), Err(BlockError::Corrupt("a decoded length that LZ4 can reach")));
        let refused = match Compression::Zstd(1).is_supported() {
            true => BlockError::Corrupt("a block that zstd can decode"),
            false => BlockError::Zstd,
        };
        assert_eq!(claiming(ZSTD), Err(refused));
        assert_eq!(claiming(3), Err(BlockError::Corrupt("a known kind of compression")));
    }
}
