//! An embedded, ordered key-value engine: a log-structured merge-tree.
//!
//! A [`Database`] holds [`Keyspace`]s, ordered maps of bytes. Writes, alone or in a [`Batch`] across keyspaces, are atomic and
//! go to one write-ahead log; reads see a [`Snapshot`], their own or a kept one. Everything that touches stable storage goes
//! through the [`disk`] traits, so the same engine runs on a real disk, in memory, and on a simulated disk.
//!
//! ```
//! use kv_lsm::{Batch, Database, KeyspaceOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let db = Database::open(directory.path())?;
//! let users = db.keyspace("users", KeyspaceOptions::default())?;
//! let by_mail = db.keyspace("users by mail", KeyspaceOptions::default())?;
//!
//! // Both or neither, and durable on return.
//! let mut batch = Batch::new();
//! batch.put(&users, "7", "ada");
//! batch.put(&by_mail, "ada@example.org", "7");
//! db.write(batch)?;
//!
//! let before = db.snapshot();
//! users.put("8", "grace")?;
//! users.delete("7")?;
//!
//! assert_eq!(users.get("8")?.as_deref(), Some(&b"grace"[..]));
//! assert_eq!(before.get(&users, "7")?.as_deref(), Some(&b"ada"[..]));
//!
//! let mut names = Vec::new();
//! for entry in users.range("0".."9") {
//!     let (_, name) = entry?;
//!     names.push(String::from_utf8(name.to_vec())?);
//! }
//! assert_eq!(names, ["grace"]);
//! # Ok(())
//! # }
//! ```
//!
//! # What survives
//!
//! With [`Durability::Sync`], the default, a write that returned survives a power cut; writers that wait at the same time share
//! one sync. With [`Durability::Buffered`] it survives the death of the process, and a power cut once [`Database::sync`]
//! returned. After a crash the database holds a prefix of all batches, in the order they were committed, whole batches only,
//! with everything that was acknowledged as durable. `docs/operations.md` has the table of what survives what.
//!
//! # Transactions
//!
//! [`Database::transaction`] begins an optimistic transaction: it reads a snapshot and its own writes, and its commit fails with
//! [`Error::Conflict`] when anything that it read, keys or ranges, was written meanwhile. [`Database::transact`] tries again.
//!
//! # Background work
//!
//! Three threads sync on request, flush and compact. With [`Background::Manual`] nothing happens unless [`Database::step`] is
//! called, which makes every run reproducible.
#![deny(unsafe_code)]

#[macro_use]
mod sabotage;

mod approximate_size;
mod background;
mod backpressure;
mod batch;
#[cfg(any(test, feature = "battery"))]
pub mod battery;
mod blob;
#[expect(unsafe_code, reason = "memory in large pages comes from no allocator; the file says why it is sound")]
mod block_memory;
mod builder;
mod cache;
mod checkpoint;
mod commit;
mod compaction;
mod counters;
mod cursor;
mod database;
pub mod disk;
mod engine;
mod error;
mod file_format;
mod files;
mod flush;
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod group;
mod handle;
mod health;
mod held;
mod identity;
pub mod inspect;
mod internal_key;
mod iter;
mod iter_parts;
mod key_bounds;
mod keyspace;
mod keyspace_options;
mod keyspaces;
pub mod limits;
mod manifest;
#[expect(unsafe_code, reason = "readers of a memtable take no lock; arena.rs and tree/ say why it is sound")]
mod memtable;
mod merge_iter;
mod metrics;
mod operation;
mod options;
mod pin;
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "an instruction that the standard library calls unsafe, as its argument is a pointer"
    )
)]
mod prefetch;
mod priority;
mod range_delete;
mod read;
mod readers;
mod recover;
mod repair;
mod residents;
mod scan;
mod signal;
mod slice;
mod snapshot;
mod snapshots;
mod store;
mod sync;
mod table;
mod time;
mod transaction;
mod validation;
mod value_cache;
mod verify;
mod version;
mod visible;
mod wal;

pub use batch::Batch;
pub use builder::{Builder, IntoDisk};
pub use counters::Histogram;
pub use database::Database;
pub use error::Error;
pub use iter::{BorrowedEntry, Iter};
pub use iter_parts::{Heads, Keys, WithExpiry};
pub use key_bounds::KeyBounds;
pub use keyspace::Keyspace;
pub use keyspace_options::{CompactionStrategy, KeyspaceOptions};
pub use metrics::{KeyspaceMetrics, LevelMetrics, Metrics};
pub use options::{Background, Compression, Durability, WriteOptions};
pub use repair::RepairReport;
pub use slice::Slice;
pub use snapshot::Snapshot;
pub use store::LsmStore;
pub use transaction::{Transaction, TransactionIter};
pub use verify::{Problem, Progress, VerifyReport};
