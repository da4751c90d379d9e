//! Settings of one keyspace. All but the merge operator itself are stored in the manifest, see [`stored`].

pub(crate) mod stored;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kv_core::store::MergeOperator;

use crate::error::Error;
use crate::options::Compression;
use stored::StoredOptions;

/// How the tables of a keyspace are compacted.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum CompactionStrategy {
    /// Levels of sorted tables, each ten times the one above: for everything that is overwritten or deleted.
    #[default]
    Leveled,
    /// Flushed tables stay as they are until the oldest is dropped whole, without being read: for write-once entries that
    /// expire, such as events and sessions, at a write amplification of one.
    ///
    /// A table goes once everything in it has expired, and only when no older one is left: so an entry that was overwritten
    /// or deleted never comes back, but one with a long time to live holds back all that were written after it. Give entries
    /// about the same time to live. Overwriting and deleting work as ever and free nothing early; merging is refused.
    Fifo {
        /// The oldest tables go as well, expired or not, while there are more bytes than this. What they hold is then gone
        /// for all later reads, also those of snapshots that are alive. Default: no bound.
        bytes_max: Option<u64>,
    },
}

/// How a keyspace is created and opened.
///
/// All options are stored. Some are part of what the files mean, and must be the same whenever the keyspace is opened, else
/// [`Error::OptionsMismatch`] names the one that is not: **presence of a merge operator, leveled or first-in-first-out
/// compaction, length of the inline prefix**. The others may change from one opening to the next: the change is made durable
/// before the keyspace is handed out, and applies to what is written from then on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use kv_lsm::{CompactionStrategy, Database, Error, KeyspaceOptions};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path())?;
/// let sessions = KeyspaceOptions::default()
///     .default_ttl(Duration::from_secs(3600))
///     .compaction(CompactionStrategy::Fifo { bytes_max: Some(1 << 30) });
/// db.keyspace("sessions", sessions)?;
///
/// let leveled = db.keyspace("sessions", KeyspaceOptions::default());
/// assert!(matches!(leveled, Err(Error::OptionsMismatch { option: "compaction", .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct KeyspaceOptions {
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
    pub(crate) stored: StoredOptions,
}

impl KeyspaceOptions {
    /// Joins merge operands with `operator`. Whether a keyspace has one must not change; that it is the *same* operator is
    /// up to the caller.
    #[must_use]
    pub fn merge(mut self, operator: Arc<dyn MergeOperator>) -> Self {
        self.operator = Some(operator);
        self.stored.merge = true;
        self
    }

    /// How long what is put lives when the put does not say so itself, in milliseconds, rounded up. May change; entries keep
    /// the expiry they were written with. Not together with a merge operator. Default: for ever.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.stored.default_ttl_ms = Some(ttl_ms(ttl).unwrap_or(u64::MAX));
        self
    }

    /// What is put lives for ever when the put does not say so itself: takes back [`KeyspaceOptions::default_ttl`].
    #[must_use]
    pub const fn no_default_ttl(mut self) -> Self {
        self.stored.default_ttl_ms = None;
        self
    }

    /// How tables are compacted. Which of the strategies must not change, the bound of [`CompactionStrategy::Fifo`] may.
    /// Default: [`CompactionStrategy::Leveled`].
    #[must_use]
    pub const fn compaction(mut self, strategy: CompactionStrategy) -> Self {
        self.stored.strategy = strategy;
        self
    }

    /// How tables are compressed: those of level 0, of level 1, and so on; the last entry stands for all deeper levels too.
    /// A table that overlaps nothing when it is flushed is written for the level that it will be moved to. May change; tables
    /// stay as they were written. Default: that of the database, see
    /// [`Builder::compression`](crate::Builder::compression).
    #[must_use]
    pub fn compression(mut self, by_level: impl Into<Vec<Compression>>) -> Self {
        self.stored.compression = Some(by_level.into());
        self
    }

    /// As [`Builder::block_bytes`](crate::Builder::block_bytes), for this keyspace. May change. Default: that of the
    /// database.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: u32) -> Self {
        self.stored.block_bytes = Some(bytes);
        self
    }

    /// Bits of the filter for each key, 1 to 64. Ten let one in a hundred absent keys through to the disk. May change.
    /// Default: 10.
    #[must_use]
    pub const fn filter_bits_per_key(mut self, bits: u8) -> Self {
        self.stored.filter_bits_per_key = Some(bits);
        self
    }

    /// Values of at least so many bytes are kept apart from their keys, so that compactions do not copy them. May change.
    /// Default: none are.
    #[must_use]
    pub const fn separate_values_from(mut self, bytes: u32) -> Self {
        self.stored.separate_from_bytes = Some(bytes);
        self
    }

    /// So many bytes of each separated value stay beside its key, so that who reads only these does not touch the rest. Must
    /// not change. Default: none.
    #[must_use]
    pub const fn inline_prefix_bytes(mut self, bytes: u32) -> Self {
        self.stored.inline_prefix_bytes = Some(bytes);
        self
    }

    /// # Errors
    /// [`Error::InvalidOptions`].
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::InvalidOptions { what });
        if let Some((found, known)) = self.stored.unsupported() {
            return refuse(format!("{found}: this engine knows {known}"));
        }
        match self.stored.check() {
            Ok(()) => Ok(()),
            Err(what) => refuse(what.to_owned()),
        }
    }
}

/// A time to live in whole milliseconds, rounded up; `None` when there are too many.
pub(crate) fn ttl_ms(ttl: Duration) -> Option<u64> {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).ok()
}

impl fmt::Debug for KeyspaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stored.fmt(f)
    }
}
