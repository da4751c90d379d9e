//! How a table is created: its conflict rule, how many nodes hold each key, and what its requests ask for when they do not
//! say.

mod cache;

pub(crate) use cache::CacheOptions;

use kv_core::crdt::Kind;
use kv_core::evict::PolicyKind;
use kv_core::record::Rule;
use kv_core::time::Millis;
use thiserror::Error;

use crate::quorum::Consistency;

/// How a table is created.
///
/// The conflict rule and the number of replicas never change. There is no default rule: last-write-wins silently drops
/// one of two concurrent writes, so it must be asked for by name.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TableOptions {
    pub(crate) rule: Rule,
    pub(crate) replicas: usize,
    pub(crate) ttl: Option<Millis>,
    pub(crate) reads: Consistency,
    pub(crate) writes: Consistency,
    pub(crate) sloppy: bool,
    /// Of a cache table, the rest too.
    pub(crate) cache: Option<PolicyKind>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) ttl_max: Option<Millis>,
}

impl TableOptions {
    /// Concurrent writes stand side by side until a writer that has seen them replaces them. Nothing is lost silently.
    #[must_use]
    pub const fn siblings() -> Self {
        Self::of(Rule::Siblings)
    }

    /// Values of a replicated data type: writes are changes of it ([`Table::update`](crate::Table::update) and what is built
    /// on it), concurrent ones are all kept as the type says, and nothing is lost silently. Values do not expire.
    #[must_use]
    pub const fn crdt(kind: Kind) -> Self {
        Self::of(Rule::Crdt(kind))
    }

    /// Of concurrent writes the one with the later stamp stays, and the others are gone, acknowledged or not.
    #[must_use]
    pub const fn last_write_wins() -> Self {
        Self::of(Rule::LastWriteWins)
    }

    /// Whether such a table can be.
    ///
    /// # Errors
    /// [`InvalidOptions`].
    pub fn check(&self) -> Result<(), InvalidOptions> {
        if matches!(self.rule, Rule::Crdt(_)) && self.ttl.is_some() {
            return Err(InvalidOptions::TtlOnDataType);
        }
        self.check_cache()
    }

    const fn of(rule: Rule) -> Self {
        Self {
            rule,
            replicas: 3,
            ttl: None,
            reads: Consistency::Quorum,
            writes: Consistency::Quorum,
            sloppy: false,
            cache: None,
            memory_bytes: None,
            ttl_max: None,
        }
    }

    /// Whether what is deleted or has expired is dropped once every replica holds the delete. Not of data types, whose parts do not tell
    /// when they were written, nor of sloppy tables, for whose replicas nodes keep hints that nobody asks about them; of caches, each node
    /// does so by itself.
    pub(crate) fn is_purged(&self) -> bool {
        self.is_replicated_durably() && !self.sloppy && !matches!(self.rule, Rule::Crdt(_))
    }

    /// How many nodes hold each key; three unless said otherwise.
    #[must_use]
    pub const fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How long a value lives when its put does not say.
    #[must_use]
    pub fn default_ttl(mut self, ttl: std::time::Duration) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// What reads and writes ask for when they do not say; a quorum each unless said otherwise.
    #[must_use]
    pub const fn default_consistency(mut self, reads: Consistency, writes: Consistency) -> Self {
        self.reads = reads;
        self.writes = writes;
        self
    }

    /// Writes go on when too few replicas can be reached: other nodes keep them for those that are away, durably, and bring them
    /// over later. Such a *fallback* counts toward the level of the write in the place of the replica, and is told apart
    /// ([`Written::fallbacks`](crate::request::Written::fallbacks)). One replica at least holds the write itself: the one that
    /// coordinates it.
    ///
    /// **Reads and writes do not meet any more**: a read at any level misses what was acknowledged with the help of fallbacks, as
    /// long as those replicas have not come back and got it. Whoever needs to be seen asks for a
    /// [strict](crate::client::PutRequest::strict) write, or reads in the [session](crate::Session) that wrote. Not for cache
    /// tables.
    ///
    /// Source: DeCandia and others, "Dynamo: Amazon's highly available key-value store" (SOSP 2007), section 4.6.
    #[must_use]
    pub const fn sloppy(mut self) -> Self {
        self.sloppy = true;
        self
    }

    /// Whether other nodes stand in for replicas that are away: see [`TableOptions::sloppy`].
    #[must_use]
    pub const fn is_sloppy(&self) -> bool {
        self.sloppy
    }
}

/// Options that no table can have.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum InvalidOptions {
    /// Values of data types do not expire: a part that had gone at one replica would come back from another.
    #[error("values of replicated data types have no time to live")]
    TtlOnDataType,
    /// A cache table without [`TableOptions::ttl_max`].
    #[error("a cache table must say how long its values live at most")]
    CacheWithoutTtlMax,
    /// [`TableOptions::ttl_max`] is zero, or too long.
    #[error("values of a cache table live at least a millisecond and at most {ttl_max_limit:?}")]
    CacheTtlMax {
        /// The longest there is.
        ttl_max_limit: Millis,
    },
    /// Values would live longer by default than they may.
    #[error("the default time to live is over the maximum")]
    DefaultOverTtlMax,
    /// [`TableOptions::memory_bytes`] is too little to hold anything.
    #[error("a cache table takes at least {memory_bytes_min} bytes of each node")]
    CacheTooSmall {
        /// The least there is.
        memory_bytes_min: u64,
    },
    /// Nobody keeps a write of a cache table for a replica that is away.
    #[error("a cache table cannot be sloppy")]
    SloppyCache,
    /// Bounds of a cache for a table that is none.
    #[error("memory and a maximum time to live are bounded in cache tables only")]
    NotACache,
}
