//! Random operations and traces, from a seed.

use kv_core::time::Millis;

use super::clock;
use super::content::{EXPIRING, KEYSPACES, MERGED, Operation, RESET};
use super::random::Random;
use super::settings::Settings;
use super::trace::{Step, Trace};
use crate::options::Durability;

/// Makes operations, no two of which write the same value.
#[derive(Clone, Debug)]
pub struct Generator {
    /// Where all choices come from.
    pub random: Random,
    keys: u64,
    value_bytes: u64,
    written: u64,
    /// What expires does so some time after this.
    pub now: Millis,
    keyspaces: &'static [usize],
    is_uniform: bool,
}

/// How long values are that are all as long as each other: half a sector and alike at their ends, so that what is torn may have
/// an end that fits.
const UNIFORM_VALUE_BYTES: usize = 250;

impl Generator {
    /// Operations on so many keys in each keyspace, with values that are rarely longer than `value_bytes`.
    #[must_use]
    pub const fn new(random: Random, keys: u64, value_bytes: u64) -> Self {
        Self {
            random,
            keys,
            value_bytes,
            written: 0,
            now: clock::START,
            keyspaces: &[0, 1, MERGED, EXPIRING],
            is_uniform: false,
        }
    }

    /// Instead of everything, puts of one length and one at a time, so that records of the log lie where others lay in the
    /// file that is written again.
    #[must_use]
    pub const fn uniform(self, is_uniform: bool) -> Self {
        Self { is_uniform, ..self }
    }

    /// The same on these keyspaces only.
    #[must_use]
    pub const fn on(self, keyspaces: &'static [usize]) -> Self {
        Self { keyspaces, ..self }
    }

    /// The same, with values that differ from the first `written`.
    #[must_use]
    pub const fn starting_at(self, written: u64) -> Self {
        Self { written, ..self }
    }

    /// Any of the keys. Some are prefixes of others, some hold zeros, some are longer than what comparisons look at first.
    pub fn key(&mut self) -> Vec<u8> {
        let number = self.random.below(self.keys);
        let stem = format!("k{:03}", number / 3);
        match number % 3 {
            0 => stem.into_bytes(),
            1 => [stem.as_bytes(), &[0]].concat(),
            _ => [stem.as_bytes(), b"/a-longer-tail-than-eight"].concat(),
        }
    }

    /// Two keys, mostly near each other, in order.
    pub fn range(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (self.key(), self.key());
        if a <= b { (a, b) } else { (b, a) }
    }

    fn value(&mut self) -> Vec<u8> {
        self.written += 1;
        let mut value = format!("v{}", self.written).into_bytes();
        let bytes = match self.random.below(40) {
            0 => self.value_bytes * 20,
            1..=4 => self.value_bytes * 3,
            _ => self.random.below(self.value_bytes + 1),
        };
        let bytes = usize::try_from(bytes).expect("values are small");
        // Half of a value is noise, so that compression has something to do and does not make everything tiny.
        while value.len() < bytes {
            if value.len().is_multiple_of(2) {
                value.push(b'.');
            } else {
                value.push(b'a' + u8::try_from(self.random.below(26)).expect("a letter"));
            }
        }
        value
    }

    fn operand(&mut self) -> Vec<u8> {
        self.written += 1;
        let mut operand = format!("{},", self.written).into_bytes();
        if self.random.one_in(12) {
            operand.insert(0, RESET);
        } else if self.random.one_in(12) {
            operand.push(RESET);
        }
        operand
    }

    /// One write.
    pub fn operation(&mut self) -> Operation {
        let keyspace = self.random.pick(self.keyspaces);
        match self.random.below(20) {
            0..=1 if self.random.one_in(2) => {
                let (start, end) = self.range();
                Operation::DeleteRange(keyspace, start, end)
            }
            0..=4 => Operation::Delete(keyspace, self.key()),
            5..=16 if keyspace == MERGED => Operation::Merge(self.key(), self.operand()),
            5..=9 if keyspace != MERGED => {
                // Now and then one that has expired already.
                let expire_at = Millis((self.now.0 + self.random.below(120)).saturating_sub(5));
                Operation::PutExpiring(keyspace, self.key(), self.value(), expire_at)
            }
            _ => Operation::Put(keyspace, self.key(), self.value()),
        }
    }

    fn uniform_put(&mut self) -> Operation {
        self.written += 1;
        let mut value = format!("v{}", self.written).into_bytes();
        value.resize(UNIFORM_VALUE_BYTES, b'.');
        Operation::Put(self.random.index(2), format!("k{}", self.random.below(10)).into_bytes(), value)
    }

    /// One to six writes.
    pub fn batch(&mut self) -> Vec<Operation> {
        if self.is_uniform {
            return vec![self.uniform_put()];
        }
        let count = if self.random.one_in(2) { 1 } else { 1 + self.random.below(6) };
        (0..count).map(|_| self.operation()).collect()
    }

    /// A durability; one write in so many is synced.
    pub fn durability(&mut self, synced_one_in: u64) -> Durability {
        if self.random.one_in(synced_one_in) { Durability::Sync } else { Durability::Buffered }
    }
}

/// Everything at once, chosen by a seed: settings, keys, values, steps.
#[must_use]
pub fn random_trace(seed: u64, steps: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut settings = Settings::random(&mut random);
    let keys = random.pick(&[3, 12, 40]);
    let synced_one_in = random.pick(&[1, 2, 5, 20]);
    let is_uniform = random.one_in(6);
    if is_uniform {
        // Segments end where a flush ends them, and their files are written again.
        settings = Settings { memtable_bytes: 100_000, log_segment_bytes: 100_000, ..settings };
    }
    let mut generator = Generator::new(random, keys, 60).uniform(is_uniform);
    let mut script = Vec::new();
    for _ in 0..steps {
        let step = match generator.random.below(24) {
            0 => Step::Sync,
            1..=2 => Step::Flush,
            7 if is_uniform => Step::Flush,
            3 => Step::Compact(generator.random.index(KEYSPACES.len())),
            4..=6 => Step::Work(u32::try_from(generator.random.below(3) + 1).expect("small")),
            7 => Step::Reopen,
            8 if generator.random.one_in(2) => Step::Checkpoint,
            8 if generator.random.one_in(2) => Step::Recreate(generator.random.index(KEYSPACES.len())),
            9..=10 => {
                let span = Millis(generator.random.below(40));
                generator.now = generator.now.saturating_add(span);
                Step::Time(span)
            }
            _ => {
                let batch = generator.batch();
                let durability = generator.durability(synced_one_in);
                if !is_uniform && generator.random.one_in(8) {
                    Step::Transact(batch, durability)
                } else {
                    Step::Write(batch, durability)
                }
            }
        };
        script.push(step);
    }
    Trace { name: format!("random, seed {seed}"), settings, steps: script }
}
