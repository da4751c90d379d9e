//! A table as every member knows it.
//!
//! ```text
//! table    := format:u8 (1)  id:varint  name:prefixed  rule:u8  [kind:u8]  replicas:varint  reads:u8  writes:u8
//!             flags:u8 (1 default ttl | 4 cache | 8 sloppy)  [ttl ms:varint]
//!             [policy:u8  memory bytes:varint  ttl max ms:varint]  layout:prefixed
//! ```

use std::sync::Arc;

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::crdt::Kind;
use kv_core::evict::PolicyKind;
use kv_core::hash::Token;
use kv_core::key::TableId;
use kv_core::record::Rule;
use kv_core::time::Millis;
use kv_ring::Layout;

use super::text;
use crate::quorum::Consistency;
use crate::table_options::{CacheOptions, TableOptions};

const FORMAT: u8 = 1;
const LAYOUT_BYTES_MAX: usize = 4 << 20;

/// A table: its options, and where its partitions lie.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TableSchema {
    /// Its number.
    pub id: TableId,
    /// Its name.
    pub name: String,
    /// What it was created with.
    pub options: TableOptions,
    /// Which nodes hold which keys.
    pub layout: Arc<Layout>,
}

impl TableSchema {
    /// The nodes that hold the keys at `token`, the preferred one first.
    #[must_use]
    pub fn replicas_of(&self, token: Token) -> &[NodeId] {
        self.layout.replicas_of(token)
    }
}

impl TableSchema {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_varint(out, u64::from(self.id.0));
        put_prefixed(out, self.name.as_bytes());
        encode_options(&self.options, out);
        put_prefixed(out, &self.layout.encode());
    }

    /// Reads what [`TableSchema::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a table.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of table"));
        }
        let id = TableId(reader.varint32()?);
        let name = text(reader)?;
        let options = decode_options(reader)?;
        let layout = reader.prefixed(LAYOUT_BYTES_MAX)?;
        let layout = Layout::decode(layout).map_err(|_| reader.error("layout of a table"))?;
        if layout.replication_factor() != options.replicas {
            return Err(reader.error("layout of another number of replicas"));
        }
        Ok(Self { id, name, options, layout: Arc::new(layout) })
    }
}

const HAS_TTL: u8 = 1;
const IS_CACHE: u8 = 4;
const IS_SLOPPY: u8 = 8;

/// Appends the encoding of table options.
pub(crate) fn encode_options(options: &TableOptions, out: &mut Vec<u8>) {
    out.push(match options.rule {
        Rule::Siblings => 1,
        Rule::LastWriteWins => 2,
        Rule::Crdt(_) => 3,
    });
    if let Rule::Crdt(kind) = options.rule {
        out.push(kind.code());
    }
    put_varint(out, options.replicas as u64);
    out.push(encode_consistency(options.reads));
    out.push(encode_consistency(options.writes));
    let cache = options.cache_options();
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let shape = flag(cache.is_some(), IS_CACHE) | flag(options.sloppy, IS_SLOPPY);
    out.push(flag(options.ttl.is_some(), HAS_TTL) | shape);
    if let Some(ttl) = options.ttl {
        put_varint(out, ttl.0);
    }
    if let Some(CacheOptions { policy, memory_bytes, ttl_max }) = cache {
        out.push(policy.code());
        put_varint(out, memory_bytes);
        put_varint(out, ttl_max.0);
    }
}

/// Reads what [`encode_options`] wrote.
pub(crate) fn decode_options(reader: &mut Reader<'_>) -> Result<TableOptions, DecodeError> {
    let rule = match reader.u8()? {
        1 => Rule::Siblings,
        2 => Rule::LastWriteWins,
        3 => Rule::Crdt(Kind::from_code(reader.u8()?).ok_or_else(|| reader.error("unknown kind of data type"))?),
        _ => return Err(reader.error("unknown conflict rule")),
    };
    let replicas = usize::try_from(reader.varint32()?).map_err(|_| reader.error("number of replicas"))?;
    let reads = decode_consistency(reader)?;
    let writes = decode_consistency(reader)?;
    let flags = reader.u8()?;
    if flags & !(HAS_TTL | IS_CACHE | IS_SLOPPY) != 0 {
        return Err(reader.error("unknown flags of a table"));
    }
    let ttl = if flags & HAS_TTL == 0 { None } else { Some(Millis(reader.varint()?)) };
    let (mut cache, mut memory_bytes, mut ttl_max) = (None, None, None);
    if flags & IS_CACHE != 0 {
        let policy = PolicyKind::from_code(reader.u8()?);
        cache = Some(policy.ok_or_else(|| reader.error("unknown policy of eviction"))?);
        memory_bytes = Some(reader.varint()?);
        ttl_max = Some(Millis(reader.varint()?));
    }
    let sloppy = flags & IS_SLOPPY != 0;
    let options = TableOptions { rule, replicas, ttl, reads, writes, sloppy, cache, memory_bytes, ttl_max };
    options.check().map_err(|_| reader.error("options that contradict each other"))?;
    Ok(options)
}

pub(crate) const fn encode_consistency(consistency: Consistency) -> u8 {
    match consistency {
        Consistency::One => 1,
        Consistency::Quorum => 2,
        Consistency::All => 3,
        Consistency::Two => 4,
        Consistency::Three => 5,
        Consistency::LocalOne => 6,
        Consistency::LocalQuorum => 7,
        Consistency::EachQuorum => 8,
    }
}

pub(crate) fn decode_consistency(reader: &mut Reader<'_>) -> Result<Consistency, DecodeError> {
    match reader.u8()? {
        1 => Ok(Consistency::One),
        2 => Ok(Consistency::Quorum),
        3 => Ok(Consistency::All),
        4 => Ok(Consistency::Two),
        5 => Ok(Consistency::Three),
        6 => Ok(Consistency::LocalOne),
        7 => Ok(Consistency::LocalQuorum),
        8 => Ok(Consistency::EachQuorum),
        _ => Err(reader.error("unknown consistency")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options_of(bytes: &[u8]) -> Result<TableOptions, DecodeError> {
        decode_options(&mut Reader::new(bytes))
    }

    #[test]
    fn options_of_every_rule_come_back() {
        let kinds = Kind::ALL.map(TableOptions::crdt);
        let last_writes = TableOptions::last_write_wins().default_ttl(std::time::Duration::from_secs(9));
        let cache =
            |policy| TableOptions::cache(policy).memory_bytes(1 << 20).ttl_max(std::time::Duration::from_secs(9));
        let caches = PolicyKind::ALL.map(cache);
        let sloppy = [TableOptions::siblings().sloppy(), last_writes.clone().sloppy()];
        for options in [TableOptions::siblings(), last_writes].into_iter().chain(kinds).chain(caches).chain(sloppy) {
            let mut bytes = Vec::new();
            encode_options(&options, &mut bytes);
            assert_eq!(options_of(&bytes).as_ref(), Ok(&options));
            for at in 0..bytes.len() {
                assert!(options_of(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let mut bytes = Vec::new();
        encode_options(&TableOptions { ttl: Some(Millis(5)), ..TableOptions::crdt(Kind::Set) }, &mut bytes);
        assert!(options_of(&bytes).is_err(), "values of data types do not expire");
        let wrong_rule = TableOptions { rule: Rule::Siblings, ..TableOptions::cache(PolicyKind::Lru) };
        let wrong_rule = wrong_rule.ttl_max(std::time::Duration::from_secs(1));
        assert!(wrong_rule.check().is_err(), "a cache of siblings");
        let mut unknown = Vec::new();
        encode_options(&TableOptions::crdt(Kind::Set), &mut unknown);
        unknown[1] = 99;
        assert!(options_of(&unknown).is_err(), "an unknown kind");
    }
}
