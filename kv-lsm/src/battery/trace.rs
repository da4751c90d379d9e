//! Scripts of what a program does to a database.

use kv_core::time::Millis;

use super::content::{EXPIRING, MERGED, Operation};
use super::settings::Settings;
use crate::options::Durability;

/// One thing that a program does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes a batch.
    Write(Vec<Operation>, Durability),
    /// Writes a batch in a transaction, while somebody else writes what it has not read.
    Transact(Vec<Operation>, Durability),
    /// Syncs what was written.
    Sync,
    /// Flushes all memtables.
    Flush,
    /// Compacts the whole of a keyspace.
    Compact(usize),
    /// Does pieces of background work, as many as there are up to so many.
    Work(u32),
    /// Drops a keyspace and creates it again.
    Recreate(usize),
    /// Makes a checkpoint, under a name of its own for each state.
    Checkpoint,
    /// Lets time pass.
    Time(Millis),
    /// Closes the database and opens it again.
    Reopen,
}

/// A script.
#[derive(Clone, Debug)]
pub struct Trace {
    /// For messages.
    pub name: String,
    /// How the database is opened.
    pub settings: Settings,
    /// What is done to it.
    pub steps: Vec<Step>,
}

impl Trace {
    fn new(name: impl Into<String>, settings: Settings, steps: Vec<Step>) -> Self {
        Self { name: name.into(), settings, steps }
    }
}

/// A batch over all keyspaces, different from every other number's.
#[must_use]
pub fn batch(number: usize, value_bytes: usize) -> Vec<Operation> {
    let key = |prefix: &str, modulus: usize| format!("{prefix}{:03}", number * 7 % modulus).into_bytes();
    let value = |tag: &str| {
        let mut value = format!("{tag}{number:04}").into_bytes();
        value.resize(value.len().max(value_bytes), b'.');
        value
    };
    let mut operations = vec![
        Operation::Put(0, b"last".to_vec(), value("n")),
        Operation::Put(0, key("k", 31), value("v")),
        Operation::Put(1, key("k", 23), value("w")),
        Operation::Merge(key("m", 5), format!("{number},").into_bytes()),
    ];
    match number % 5 {
        1 => operations.push(Operation::Delete(0, key("k", 29))),
        3 => {
            let start = key("k", 19);
            let mut end = start.clone();
            end.push(b'~');
            operations.push(Operation::DeleteRange(1, start, end));
        }
        4 => operations.push(Operation::DeleteRange(MERGED, b"m001".to_vec(), b"m003".to_vec())),
        _ => {}
    }
    operations
}

/// Synced and buffered writes in turn, `buffered_run` buffered ones for each synced one.
fn writes(numbers: std::ops::Range<usize>, value_bytes: usize, buffered_run: usize) -> Vec<Step> {
    numbers
        .map(|number| {
            let synced = number % (buffered_run + 1) == buffered_run;
            let durability = if synced { Durability::Sync } else { Durability::Buffered };
            Step::Write(batch(number, value_bytes), durability)
        })
        .collect()
}

/// An empty directory is opened, and closed at once.
#[must_use]
pub fn opening() -> Trace {
    Trace::new("open an empty directory", Settings::LARGE, vec![Step::Reopen])
}

/// The log alone: several segments, nothing flushed by request.
#[must_use]
pub fn rotation() -> Trace {
    let settings = Settings { memtable_bytes: 1 << 20, ..Settings::SMALL };
    Trace::new("log rotation", settings, writes(0..24, 40, 2))
}

/// Records that are cut into chunks over several blocks of the log.
#[must_use]
pub fn large_records() -> Trace {
    let mut steps = writes(0..2, 20, 0);
    steps.push(Step::Write(batch(2, 30_000), Durability::Buffered));
    steps.push(Step::Write(batch(3, 20_000), Durability::Sync));
    steps.push(Step::Write(batch(4, 10), Durability::Buffered));
    Trace::new("large records", Settings::LARGE, steps)
}

/// Flushes between writes.
#[must_use]
pub fn flushes() -> Trace {
    let mut steps = Vec::new();
    for round in 0..4 {
        steps.extend(writes(round * 4..round * 4 + 4, 30, 3));
        steps.push(Step::Flush);
        steps.push(Step::Write(batch(100 + round, 30), Durability::Buffered));
    }
    steps.push(Step::Sync);
    Trace::new("flushes", Settings::LARGE, steps)
}

/// Enough flushes for compactions, asked for and in the background.
#[must_use]
pub fn compactions() -> Trace {
    let mut steps = Vec::new();
    for round in 0..5 {
        steps.extend(writes(round * 4..round * 4 + 4, 100, 1));
        steps.push(Step::Flush);
        steps.push(Step::Work(2));
    }
    steps.push(Step::Compact(0));
    steps.extend(writes(50..53, 20, 2));
    steps.push(Step::Compact(MERGED));
    steps.push(Step::Work(20));
    Trace::new("compactions", Settings::LARGE, steps)
}

/// Checkpoints between everything else, with the log on several segments and tables on several levels.
#[must_use]
pub fn checkpoints() -> Trace {
    let mut steps = Vec::new();
    for round in 0..3 {
        steps.extend(writes(round * 4..round * 4 + 4, 100, 2));
        steps.push(Step::Flush);
        steps.extend(writes(round * 3 + 50..round * 3 + 53, 40, 1));
        steps.push(Step::Checkpoint);
        steps.push(Step::Work(2));
    }
    steps.push(Step::Compact(0));
    steps.push(Step::Checkpoint);
    Trace::new("checkpoints", Settings { log_segment_bytes: 600, ..Settings::LARGE }, steps)
}

/// Every segment but the first two is written into the file of an earlier one, with records as long as those that the file
/// holds, so that old ones lie just where new ones would.
#[must_use]
pub fn recycled_segments() -> Trace {
    let mut steps = Vec::new();
    for round in 0..6 {
        let count = [5, 6, 3, 7, 2, 4][round];
        for number in 0..count {
            let value = format!("{round} {number}").into_bytes();
            let key = format!("k{number}").into_bytes();
            let long = Operation::Put(0, key, [value, vec![b'.'; 250]].concat());
            let durability = if number % 3 == 1 { Durability::Sync } else { Durability::Buffered };
            steps.push(Step::Write(vec![long], durability));
        }
        if round < 5 {
            steps.push(Step::Flush);
        }
    }
    Trace::new("recycled segments", Settings::LARGE, steps)
}

/// Transactions between writes, and over flushes.
#[must_use]
pub fn transactions() -> Trace {
    let mut steps = Vec::new();
    for round in 0..5 {
        steps.extend(writes(round * 2..round * 2 + 2, 30, 1));
        let durability = if round % 2 == 0 { Durability::Sync } else { Durability::Buffered };
        steps.push(Step::Transact(batch(60 + round, 30), durability));
        steps.push(if round == 2 { Step::Flush } else { Step::Work(1) });
    }
    Trace::new("transactions", Settings::SMALL, steps)
}

/// Values in files of their own, which are overwritten, collected and removed.
#[must_use]
pub fn blobs() -> Trace {
    let settings = Settings { separate_from_bytes: Some(40), blob_garbage_percent: 30, ..Settings::LARGE };
    let mut steps = Vec::new();
    for round in 0..4 {
        steps.extend(writes(round * 4..round * 4 + 4, 40 + 60 * (round % 3), 1));
        steps.push(Step::Flush);
        steps.push(Step::Work(4));
    }
    steps.push(Step::Compact(MERGED));
    steps.extend(writes(50..52, 200, 1));
    steps.push(Step::Reopen);
    steps.push(Step::Compact(0));
    steps.push(Step::Work(20));
    Trace::new("blobs", settings, steps)
}

/// What expires: in the log, in tables of every level, before and after its time, and over what it hides.
#[must_use]
pub fn expiry() -> Trace {
    let mut steps = Vec::new();
    let text = |what: &str, number: u64| format!("{what}{number:03}").into_bytes();
    for round in 0..4_u64 {
        for number in 0..3 {
            let expire_at = Millis(20 * round + 7 * number + 10);
            let batch = vec![
                Operation::PutExpiring(0, text("k", number), text("expires", round), expire_at),
                Operation::Put(1, text("k", number), text("stays", round)),
                Operation::Put(EXPIRING, text("e", round + number), text("by default", round)),
            ];
            let durability = if number == 2 { Durability::Sync } else { Durability::Buffered };
            steps.push(Step::Write(batch, durability));
        }
        steps.extend([Step::Flush, Step::Time(Millis(11)), Step::Work(3), Step::Time(Millis(9))]);
        // Something for the next round to hide.
        steps.push(Step::Write(
            vec![Operation::Put(0, text("k", round % 3), text("hidden", round))],
            Durability::Buffered,
        ));
        if round == 1 {
            steps.push(Step::Reopen);
        }
    }
    steps.extend([Step::Compact(0), Step::Time(Millis(100)), Step::Work(20), Step::Compact(EXPIRING)]);
    Trace::new("expiry", Settings::LARGE, steps)
}

/// Keyspaces are dropped and created again, with their entries in the log, in tables, and durable or not.
#[must_use]
pub fn dropped_keyspaces() -> Trace {
    let mut steps = Vec::new();
    for (round, keyspace) in [1, MERGED, 0, 1].into_iter().enumerate() {
        steps.extend(writes(round * 4..round * 4 + 4, 60, 2));
        if round % 2 == 1 {
            steps.extend([Step::Flush, Step::Write(batch(60 + round, 30), Durability::Buffered)]);
        }
        steps.push(Step::Recreate(keyspace));
        steps.extend(writes(round * 2 + 80..round * 2 + 82, 30, 1));
        steps.push(if round == 2 { Step::Reopen } else { Step::Work(2) });
    }
    Trace::new("dropped keyspaces", Settings { log_segment_bytes: 600, ..Settings::LARGE }, steps)
}

/// The manifest is written anew several times.
#[must_use]
pub fn manifest_rolls() -> Trace {
    let settings = Settings { manifest_bytes: 200, ..Settings::LARGE };
    let mut steps = Vec::new();
    for round in 0..6 {
        steps.extend(writes(round * 2..round * 2 + 2, 30, 1));
        steps.push(Step::Flush);
    }
    Trace::new("manifest rolls", settings, steps)
}

/// Closed with and without unsynced writes, and opened again.
#[must_use]
pub fn reopenings() -> Trace {
    let mut steps = writes(0..5, 30, 1);
    steps.push(Step::Reopen);
    steps.extend(writes(5..8, 30, 5));
    steps.push(Step::Reopen);
    steps.push(Step::Reopen);
    steps.push(Step::Flush);
    steps.push(Step::Reopen);
    steps.extend(writes(8..10, 30, 1));
    Trace::new("reopenings", Settings::SMALL, steps)
}
