//! The options of a keyspace as the manifest keeps them.
//!
//! ```text
//! options := option*          ascending by tag, each at most once
//! option  := tag:u8  body:prefixed
//! 1 merge         :=                                      there is a merge operator
//! 2 default_ttl   := ms:u64
//! 3 fifo          := bytes_max:u64                        zero: no bound
//! 4 compression   := (kind:u8  zstd_level:u8)*            of levels 0, 1, …; kind := 0 none | 1 LZ4 | 2 zstd
//! 5 block         := bytes:u32
//! 6 filter        := bits_per_key:u8
//! 7 separate_from := bytes:u32
//! 8 inline_prefix := bytes:u32
//! ```
//!
//! What is left out has its default. Every option is required: one that is not known here may change what the files mean, so
//! the database is not opened.

use kv_core::codec::{DecodeError, Reader, put_prefixed};

use super::CompactionStrategy;
use crate::manifest::catalog::LEVELS;
use crate::options::{Compression, WITHOUT_ZSTD, ZSTD};

const MERGE: u8 = 1;
const DEFAULT_TTL: u8 = 2;
const FIFO: u8 = 3;
const COMPRESSION: u8 = 4;
const BLOCK: u8 = 5;
const FILTER: u8 = 6;
const SEPARATE_FROM: u8 = 7;
const INLINE_PREFIX: u8 = 8;

/// Longer than any life: with it no time of writing overflows.
const TTL_MS_MAX: u64 = 1 << 62;
const FILTER_BITS_MAX: u8 = 64;

/// Plain data; `None` is the default.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct StoredOptions {
    pub(crate) merge: bool,
    pub(crate) default_ttl_ms: Option<u64>,
    pub(crate) strategy: CompactionStrategy,
    pub(crate) compression: Option<Vec<Compression>>,
    pub(crate) block_bytes: Option<u32>,
    pub(crate) filter_bits_per_key: Option<u8>,
    pub(crate) separate_from_bytes: Option<u32>,
    pub(crate) inline_prefix_bytes: Option<u32>,
    /// What a later version stored, as it is.
    pub(crate) unknown: Vec<(u8, Vec<u8>)>,
}

/// An option that differs and must not: its name, what it is, and what it was to be.
pub(crate) type Conflict = (&'static str, String, String);

impl StoredOptions {
    /// What is wrong with the options in themselves.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.default_ttl_ms != Some(0), "default_ttl must not be zero"),
            (self.default_ttl_ms.is_none_or(|ttl| ttl <= TTL_MS_MAX), "default_ttl must be below 2^62 milliseconds"),
            (self.default_ttl_ms.is_none() || !self.merge, "where there is a merge operator, it decides what expires"),
            (!self.is_fifo() || !self.merge, "merging needs leveled compaction"),
            (
                self.strategy != CompactionStrategy::Fifo { bytes_max: Some(0) },
                "the bound of first-in-first-out compaction must not be zero",
            ),
            (
                self.compression.as_ref().is_none_or(|list| (1..=LEVELS).contains(&list.len())),
                "compression must be given for one to seven levels",
            ),
            (
                self.compression.iter().flatten().all(|compression| compression.is_valid()),
                "levels of zstd are those from 1 to 22",
            ),
            (
                self.block_bytes.is_none_or(|bytes| (256..=1 << 20).contains(&bytes)),
                "block_bytes must lie between 256 bytes and 1 MiB",
            ),
            (
                self.filter_bits_per_key.is_none_or(|bits| (1..=FILTER_BITS_MAX).contains(&bits)),
                "filter_bits_per_key must lie between 1 and 64",
            ),
            (self.separate_from_bytes != Some(0), "separate_values_from must not be zero"),
            (
                self.inline_prefix_bytes.is_none_or(|bytes| (1..=1 << 16).contains(&bytes)),
                "inline_prefix_bytes must lie between 1 and 65,536",
            ),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// What this build of the engine cannot do, and what it can.
    pub(crate) fn unsupported(&self) -> Option<(String, String)> {
        if let Some((tag, _)) = self.unknown.first() {
            return Some((format!("option {tag} of a keyspace"), format!("options up to {INLINE_PREFIX}")));
        }
        let missing = self.compression.iter().flatten().find(|compression| !compression.is_supported());
        missing.map(|_| (ZSTD.to_owned(), WITHOUT_ZSTD.to_owned()))
    }

    /// The first option that makes files mean something else.
    pub(crate) fn conflict(&self, wanted: &Self) -> Option<Conflict> {
        let presence = |merge: bool| if merge { "present" } else { "absent" }.to_owned();
        let strategy = |strategy: CompactionStrategy| match strategy {
            CompactionStrategy::Leveled => "in levels".to_owned(),
            CompactionStrategy::Fifo { .. } => "first in, first out".to_owned(),
        };
        let bytes = |bytes: Option<u32>| format!("of {} bytes", bytes.unwrap_or(0));
        let pairs = [
            ("merge operator", presence(self.merge), presence(wanted.merge)),
            ("compaction", strategy(self.strategy), strategy(wanted.strategy)),
            ("inline prefix", bytes(self.inline_prefix_bytes), bytes(wanted.inline_prefix_bytes)),
        ];
        pairs.into_iter().find(|(_, is, wanted)| is != wanted)
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.strategy != CompactionStrategy::Leveled
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut add = |tag: u8, body: &[u8]| {
            out.push(tag);
            put_prefixed(out, body);
        };
        if self.merge {
            add(MERGE, &[]);
        }
        if let Some(ttl) = self.default_ttl_ms {
            add(DEFAULT_TTL, &ttl.to_le_bytes());
        }
        if let CompactionStrategy::Fifo { bytes_max } = self.strategy {
            add(FIFO, &bytes_max.unwrap_or(0).to_le_bytes());
        }
        if let Some(list) = &self.compression {
            let body: Vec<u8> = list.iter().flat_map(|compression| compression_bytes(*compression)).collect();
            add(COMPRESSION, &body);
        }
        if let Some(bytes) = self.block_bytes {
            add(BLOCK, &bytes.to_le_bytes());
        }
        if let Some(bits) = self.filter_bits_per_key {
            add(FILTER, &[bits]);
        }
        if let Some(bytes) = self.separate_from_bytes {
            add(SEPARATE_FROM, &bytes.to_le_bytes());
        }
        if let Some(bytes) = self.inline_prefix_bytes {
            add(INLINE_PREFIX, &bytes.to_le_bytes());
        }
        for (tag, body) in &self.unknown {
            add(*tag, body);
        }
    }

    /// Reads options to the end of `reader`.
    ///
    /// # Errors
    /// When they are not what [`StoredOptions::encode`] could have written, or break a rule. Options of a later version are
    /// no error here, see [`StoredOptions::unsupported`].
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut options = Self::default();
        let mut last = 0;
        while reader.remaining() > 0 {
            let tag = reader.u8()?;
            if tag <= last {
                return Err(reader.error("options in order, each once"));
            }
            last = tag;
            let mut body = Reader::new(reader.prefixed(usize::MAX)?);
            match tag {
                MERGE => options.merge = true,
                DEFAULT_TTL => options.default_ttl_ms = Some(body.u64()?),
                FIFO => {
                    let bytes_max = Some(body.u64()?).filter(|&bytes| bytes > 0);
                    options.strategy = CompactionStrategy::Fifo { bytes_max };
                }
                COMPRESSION => {
                    let mut list = Vec::new();
                    while body.remaining() > 0 {
                        list.push(read_compression(&mut body)?);
                    }
                    options.compression = Some(list);
                }
                BLOCK => options.block_bytes = Some(body.u32()?),
                FILTER => options.filter_bits_per_key = Some(body.u8()?),
                SEPARATE_FROM => options.separate_from_bytes = Some(body.u32()?),
                INLINE_PREFIX => options.inline_prefix_bytes = Some(body.u32()?),
                unknown => options.unknown.push((unknown, body.rest().to_vec())),
            }
            body.finish()?;
        }
        options.check().map_err(|what| reader.error(what))?;
        Ok(options)
    }
}

const fn compression_bytes(compression: Compression) -> [u8; 2] {
    match compression {
        Compression::None => [0, 0],
        Compression::Lz4 => [1, 0],
        Compression::Zstd(level) => [2, level],
    }
}

fn read_compression(body: &mut Reader<'_>) -> Result<Compression, DecodeError> {
    match body.array()? {
        [0, 0] => Ok(Compression::None),
        [1, 0] => Ok(Compression::Lz4),
        [2, level] => Ok(Compression::Zstd(level)),
        _ => Err(body.error("a known kind of compression")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<StoredOptions, DecodeError> {
        StoredOptions::decode(&mut Reader::new(bytes))
    }

    fn encoded(options: &StoredOptions) -> Vec<u8> {
        let mut bytes = Vec::new();
        options.encode(&mut bytes);
        bytes
    }

    fn everything() -> StoredOptions {
        StoredOptions {
            merge: false,
            default_ttl_ms: Some(60_000),
            strategy: CompactionStrategy::Fifo { bytes_max: Some(1 << 30) },
            compression: Some(vec![Compression::None, Compression::Lz4, Compression::Zstd(3)]),
            block_bytes: Some(4096),
            filter_bits_per_key: Some(16),
            separate_from_bytes: Some(1024),
            inline_prefix_bytes: Some(32),
            unknown: vec![(200, b"later".to_vec())],
        }
    }

    #[test]
    fn options_come_back_and_defaults_take_no_room() {
        assert_eq!(encoded(&StoredOptions::default()), b"");
        let options = everything();
        let golden = b"\x02\x08\x60\xea\0\0\0\0\0\0\x03\x08\0\0\0\x40\0\0\0\0\x04\x06\x00\x00\x01\x00\x02\x03\
            \x05\x04\x00\x10\0\0\x06\x01\x10\x07\x04\x00\x04\0\0\x08\x04\x20\0\0\0\xc8\x05later";
        assert_eq!(encoded(&options), golden);
        assert_eq!(decode(golden), Ok(options.clone()));
        assert!(
            options.unsupported().is_some_and(|(found, _)| found.contains("200")),
            "a later version's option is named"
        );
        let merge = StoredOptions { merge: true, ..StoredOptions::default() };
        assert_eq!((encoded(&merge), decode(b"\x01\x00")), (b"\x01\x00".to_vec(), Ok(merge)));
    }

    #[test]
    fn options_that_break_a_rule_are_refused() {
        let default = StoredOptions::default;
        let broken = [
            StoredOptions { default_ttl_ms: Some(0), ..default() },
            StoredOptions { default_ttl_ms: Some(u64::MAX), ..default() },
            StoredOptions { default_ttl_ms: Some(1), merge: true, ..default() },
            StoredOptions { strategy: CompactionStrategy::Fifo { bytes_max: None }, merge: true, ..default() },
            StoredOptions { compression: Some(Vec::new()), ..default() },
            StoredOptions { compression: Some(vec![Compression::None; 8]), ..default() },
            StoredOptions { compression: Some(vec![Compression::Zstd(0)]), ..default() },
            StoredOptions { compression: Some(vec![Compression::Zstd(23)]), ..default() },
            StoredOptions { block_bytes: Some(100), ..default() },
            StoredOptions { filter_bits_per_key: Some(0), ..default() },
            StoredOptions { separate_from_bytes: Some(0), ..default() },
            StoredOptions { inline_prefix_bytes: Some(0), ..default() },
        ];
        for options in broken {
            assert!(options.check().is_err(), "{options:?}");
            assert!(decode(&encoded(&options)).is_err(), "{options:?}");
        }
        assert!(decode(b"\x06\x01\x10\x05\x04\x00\x10\0\0").is_err(), "out of order");
        assert!(decode(b"\x06\x01\x10\x06\x01\x10").is_err(), "twice");
    }

    proptest! {
        #[test]
        fn any_bytes_are_options_or_an_error(at: prop::sample::Index, byte: u8, noise: Vec<u8>) {
            let mut bytes = encoded(&everything());
            let index = at.index(bytes.len());
            bytes[index] = byte;
            for bytes in [bytes, noise] {
                if let Ok(options) = decode(&bytes) {
                    prop_assert_eq!(encoded(&options), bytes, "one set of options, one encoding");
                }
            }
        }
    }
}
