//! Scripts of what a program does to a database.

use kv_lsm::Durability;

use super::engine::Sizes;
use super::model::{MERGED, Operation};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Vec<Operation>, Durability),
    Sync,
    Flush,
    /// Compacts the whole of a keyspace.
    Compact(usize),
    /// Does pieces of background work, as many as there are up to so many.
    Work(u32),
    /// Makes a checkpoint, under a name of its own for each state.
    Checkpoint,
    /// Closes the database and opens it again.
    Reopen,
}

#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) sizes: Sizes,
    pub(crate) steps: Vec<Step>,
}

impl Trace {
    fn new(name: impl Into<String>, sizes: Sizes, steps: Vec<Step>) -> Self {
        Self { name: name.into(), sizes, steps }
    }
}

/// A batch over all keyspaces, different from every other number's.
pub(crate) fn batch(number: usize, value_bytes: usize) -> Vec<Operation> {
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
pub(crate) fn opening() -> Trace {
    Trace::new("open an empty directory", Sizes::LARGE, vec![Step::Reopen])
}

/// The log alone: several segments, nothing flushed by request.
pub(crate) fn rotation() -> Trace {
    let sizes = Sizes { memtable_bytes: 1 << 20, ..Sizes::SMALL };
    Trace::new("log rotation", sizes, writes(0..24, 40, 2))
}

/// Records that are cut into chunks over several blocks of the log.
pub(crate) fn large_records() -> Trace {
    let mut steps = writes(0..2, 20, 0);
    steps.push(Step::Write(batch(2, 30_000), Durability::Buffered));
    steps.push(Step::Write(batch(3, 20_000), Durability::Sync));
    steps.push(Step::Write(batch(4, 10), Durability::Buffered));
    Trace::new("large records", Sizes::LARGE, steps)
}

/// Flushes between writes.
pub(crate) fn flushes() -> Trace {
    let mut steps = Vec::new();
    for round in 0..4 {
        steps.extend(writes(round * 4..round * 4 + 4, 30, 3));
        steps.push(Step::Flush);
        steps.push(Step::Write(batch(100 + round, 30), Durability::Buffered));
    }
    steps.push(Step::Sync);
    Trace::new("flushes", Sizes::LARGE, steps)
}

/// Enough flushes for compactions, asked for and in the background.
pub(crate) fn compactions() -> Trace {
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
    Trace::new("compactions", Sizes::LARGE, steps)
}

/// Checkpoints between everything else, with the log on several segments and tables on several levels.
pub(crate) fn checkpoints() -> Trace {
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
    Trace::new("checkpoints", Sizes { log_segment_bytes: 600, ..Sizes::LARGE }, steps)
}

/// The manifest is written anew several times.
pub(crate) fn manifest_rolls() -> Trace {
    let sizes = Sizes { manifest_bytes: 200, ..Sizes::LARGE };
    let mut steps = Vec::new();
    for round in 0..6 {
        steps.extend(writes(round * 2..round * 2 + 2, 30, 1));
        steps.push(Step::Flush);
    }
    Trace::new("manifest rolls", sizes, steps)
}

/// Closed with and without unsynced writes, and opened again.
pub(crate) fn reopenings() -> Trace {
    let mut steps = writes(0..5, 30, 1);
    steps.push(Step::Reopen);
    steps.extend(writes(5..8, 30, 5));
    steps.push(Step::Reopen);
    steps.push(Step::Reopen);
    steps.push(Step::Flush);
    steps.push(Step::Reopen);
    steps.extend(writes(8..10, 30, 1));
    Trace::new("reopenings", Sizes::SMALL, steps)
}

/// Everything at once, chosen by a seed.
pub(crate) fn mixed(seed: u64, steps: usize) -> Trace {
    let mut random = Random::new(seed);
    let mut script = Vec::new();
    for number in 0..steps {
        script.push(match random.below(20) {
            0 => Step::Sync,
            1 => Step::Flush,
            2 => Step::Compact(random.index(3)),
            3..=5 => Step::Work(u32::try_from(random.below(3) + 1).expect("small")),
            6 => Step::Reopen,
            7 if number % 3 == 0 => Step::Checkpoint,
            choice => {
                let durability = if choice % 3 == 0 { Durability::Sync } else { Durability::Buffered };
                let value_bytes = if random.below(8) == 0 { 700 } else { 60 };
                Step::Write(batch(number, value_bytes), durability)
            }
        });
    }
    Trace::new(format!("mixed, seed {seed}"), Sizes::SMALL, script)
}

/// SplitMix64, for choices that are the same in every run.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }
}
