//! What one process is to do. Memory and processor time are measured for whole processes, so each does one thing.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Name;
use crate::workload::{Cache, Group};

/// How much is done, and for how long.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Keys of the usual size.
    pub(crate) keys: u32,
    /// After so long a read, a mix or a scan ends.
    pub(crate) read_time: Duration,
    /// After so long an overwrite or delete ends.
    pub(crate) write_time: Duration,
    pub(crate) synced_time: Duration,
    /// After so long a long run ends, steady or not.
    pub(crate) long_time: Duration,
    /// So long background work is waited for.
    pub(crate) settle_time: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) engine: Name,
    pub(crate) group: Group,
    pub(crate) cache: Cache,
    pub(crate) round: u32,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    /// Of this engine and group alone.
    pub(crate) directory: PathBuf,
    pub(crate) task: Task,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Workloads of one stage, by name, in their order.
    Measure(Vec<String>),
    /// Writes, notes each write that returned, and waits to be killed.
    WriteUntilKilled { entries: u32 },
    /// Opens what a killed process has left, and counts what is gone.
    OpenAfterKill { entries: u32 },
}

impl Assignment {
    /// Where the engine keeps its files.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join("database")
    }

    /// What the database must hold, from one process to the next.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.join("ledger")
    }

    /// How many writes have returned, in a process that is to be killed.
    pub(crate) fn acknowledged(&self) -> PathBuf {
        self.directory.join("acknowledged")
    }

    /// The same for all engines, and another for each workload and round.
    pub(crate) fn seed_of(&self, what: &str) -> u64 {
        let mixed = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        what.bytes().fold(self.seed.wrapping_add(u64::from(self.round)) ^ 0xcbf2_9ce4_8422_2325, mixed)
    }
}
