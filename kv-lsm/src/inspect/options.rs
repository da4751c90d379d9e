//! The options of a keyspace as plain data, and as bytes.

use kv_core::codec::{DecodeError, Reader};

use crate::keyspace_options::stored::StoredOptions;
use crate::keyspace_options::{CompactionStrategy, KeyspaceOptions};
use crate::options::Compression;

/// What a keyspace was told when it was opened, see [`KeyspaceOptions`]. `None` is the default.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Options {
    /// Whether there is a merge operator.
    pub merge: bool,
    /// How long what is put lives, in milliseconds.
    pub default_ttl_ms: Option<u64>,
    /// How tables are compacted.
    pub compaction: CompactionStrategy,
    /// How tables of level 0, 1, … are compressed.
    pub compression: Option<Vec<Compression>>,
    /// About how large a block is.
    pub block_bytes: Option<u32>,
    /// Bits of the filter for each key.
    pub filter_bits_per_key: Option<u8>,
    /// From which length on values are kept apart.
    pub separate_values_from: Option<u32>,
    /// How many bytes of these stay beside the key.
    pub inline_prefix_bytes: Option<u32>,
}

impl From<&KeyspaceOptions> for Options {
    fn from(options: &KeyspaceOptions) -> Self {
        Self::of(&options.stored)
    }
}

impl Options {
    pub(super) fn of(stored: &StoredOptions) -> Self {
        Self {
            merge: stored.merge,
            default_ttl_ms: stored.default_ttl_ms,
            compaction: stored.strategy,
            compression: stored.compression.clone(),
            block_bytes: stored.block_bytes,
            filter_bits_per_key: stored.filter_bits_per_key,
            separate_values_from: stored.separate_from_bytes,
            inline_prefix_bytes: stored.inline_prefix_bytes,
        }
    }
}

/// The options as the manifest stores them (`docs/format.md`): of the merge operator only that there is one.
#[must_use]
pub fn encode_options(options: &KeyspaceOptions) -> Vec<u8> {
    let mut out = Vec::new();
    options.stored.encode(&mut out);
    out
}

/// Reads [`encode_options`] back. A keyspace with a merge operator is then opened without it: it can be written, and a read that
/// meets merge operands fails with [`Error::NoMergeOperator`](crate::Error::NoMergeOperator).
///
/// # Errors
/// When the bytes are not options. Those that this version does not know are refused when a keyspace is opened with them.
pub fn decode_options(bytes: &[u8]) -> Result<KeyspaceOptions, DecodeError> {
    let mut reader = Reader::new(bytes);
    let stored = StoredOptions::decode(&mut reader)?;
    reader.finish()?;
    Ok(KeyspaceOptions { operator: None, stored })
}
