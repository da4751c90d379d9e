//! What is done to an engine, drawn before the clock starts: so drawing costs nothing there, all engines get the same, and what
//! must be there afterwards is found by going through it once more.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::ledger::Ledger;

/// The skew of the YCSB workloads (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010).
const ZIPF_EXPONENT: f64 = 0.99;

/// The part of the keys that hot reads go to: one in so many.
const HOT_PART: u32 = 100;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    Get,
    /// Of a key that was never written.
    Miss,
    Put,
    Delete,
    /// From a key on, so many entries as the job says.
    Scan,
    /// All keys with the prefix of this one.
    PrefixScan,
    /// A get and then a put.
    Modify,
}

const KINDS: [Kind; 7] = [Kind::Get, Kind::Miss, Kind::Put, Kind::Delete, Kind::Scan, Kind::PrefixScan, Kind::Modify];

/// One operation: its kind in the three upper bits, the number of its key in the others.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) struct Op(u32);

/// Numbers of keys are below this.
pub(crate) const NUMBERS_MAX: u32 = 1 << 29;

impl Op {
    pub(crate) fn new(kind: Kind, number: u32) -> Self {
        assert!(number < NUMBERS_MAX, "key number {number} does not fit beside the kind of an operation");
        Self((kind as u32) << 29 | number)
    }

    pub(crate) const fn kind(self) -> Kind {
        KINDS[(self.0 >> 29) as usize]
    }

    pub(crate) const fn number(self) -> u32 {
        self.0 & (NUMBERS_MAX - 1)
    }
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({})", self.kind(), self.number())
    }
}

/// The operations of one thread.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stream {
    pub(crate) ops: Vec<Op>,
    /// Begins anew at its end, and ends with the other threads: not what is counted, but beside it.
    pub(crate) beside: bool,
}

impl From<Vec<Op>> for Stream {
    fn from(ops: Vec<Op>) -> Self {
        Self { ops, beside: false }
    }
}

/// Writes into the ledger what the first `done` operations of a stream have changed; they began after generation `base`.
pub(crate) fn replay(ops: &[Op], done: u64, base: u32, ledger: &mut Ledger) {
    for (generation, op) in (base + 1..).zip(ops.iter().cycle().take(usize::try_from(done).unwrap_or(usize::MAX))) {
        match op.kind() {
            Kind::Put | Kind::Modify => ledger.put(op.number(), generation),
            Kind::Delete => ledger.delete(op.number(), generation),
            Kind::Get | Kind::Miss | Kind::Scan | Kind::PrefixScan => {}
        }
    }
}

pub(crate) fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A put of each number in order.
pub(crate) fn sequential(numbers: u32) -> Vec<Op> {
    (0..numbers).map(|number| Op::new(Kind::Put, number)).collect()
}

/// One operation on each number, in random order.
pub(crate) fn shuffled(kind: Kind, numbers: u32, random: &mut StdRng) -> Vec<Op> {
    let mut ops: Vec<Op> = (0..numbers).map(|number| Op::new(kind, number)).collect();
    ops.shuffle(random);
    ops
}

/// Operations on numbers that are drawn anew each time.
pub(crate) fn uniform(kind: Kind, count: u64, numbers: u32, random: &mut StdRng) -> Vec<Op> {
    (0..count).map(|_| Op::new(kind, random.random_range(0..numbers))).collect()
}

/// Gets of one key in a hundred, which lie scattered.
pub(crate) fn hot(count: u64, numbers: u32, random: &mut StdRng) -> Vec<Op> {
    let hot = numbers.div_ceil(HOT_PART);
    (0..count).map(|_| Op::new(Kind::Get, scatter(random.random_range(0..hot), numbers))).collect()
}

/// A workload of YCSB, over numbers that are all there.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Ycsb {
    /// Half reads, half updates.
    A,
    /// Reads with one update in twenty.
    B,
    /// Reads.
    C,
    /// Reads of what was inserted last, with one insert in twenty.
    D,
    /// Scans of up to a hundred entries, with one insert in twenty.
    E,
    /// Half reads, half reads that are followed by a write of the same.
    F,
}

pub(crate) fn ycsb(letter: Ycsb, count: u64, mut numbers: u32, random: &mut StdRng) -> Vec<Op> {
    let zipf = Zipf::new(f64::from(numbers), ZIPF_EXPONENT).expect("there are keys, and the exponent is positive");
    let mut ops = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        // Ranks begin at one.
        let rank = zipf.sample(random) as u32 - 1;
        let popular = scatter(rank, numbers);
        let chance = random.random_range(0..100);
        let (kind, number) = match letter {
            Ycsb::A if chance < 50 => (Kind::Put, popular),
            Ycsb::B if chance < 5 => (Kind::Put, popular),
            Ycsb::F if chance < 50 => (Kind::Modify, popular),
            Ycsb::D | Ycsb::E if chance < 5 => {
                numbers += 1;
                (Kind::Put, numbers - 1)
            }
            Ycsb::D => (Kind::Get, numbers - 1 - rank.min(numbers - 1)),
            Ycsb::E => (Kind::Scan, popular),
            Ycsb::A | Ycsb::B | Ycsb::C | Ycsb::F => (Kind::Get, popular),
        };
        ops.push(Op::new(kind, number));
    }
    ops
}

/// Spreads ranks over all numbers, so that what is popular does not lie together. Two ranks may meet, as in YCSB.
fn scatter(rank: u32, numbers: u32) -> u32 {
    // Fibonacci hashing; the upper half of the product is where the mixing is.
    let mixed = u64::from(rank).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from((mixed * u64::from(numbers)) >> 32).expect("the product of a fraction and a 32-bit number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_keeps_its_kind_and_its_number() {
        for kind in KINDS {
            for number in [0, 1, NUMBERS_MAX - 1] {
                let op = Op::new(kind, number);
                assert_eq!((op.kind(), op.number()), (kind, number));
            }
        }
    }

    #[test]
    fn a_replay_ends_where_the_driver_did_also_in_a_later_turn() {
        let ops = [Op::new(Kind::Put, 0), Op::new(Kind::Get, 1), Op::new(Kind::Delete, 0), Op::new(Kind::Modify, 2)];
        let mut ledger = Ledger::default();
        replay(&ops, 3, 10, &mut ledger);
        assert_eq!(ledger.live(), 0);
        replay(&ops, 5, 10, &mut ledger);
        assert_eq!(ledger.entries().collect::<Vec<_>>(), [(0, 15), (2, 14)]);
    }

    #[test]
    fn workloads_are_mixed_as_ycsb_says() {
        for (letter, kind, percent) in [
            (Ycsb::A, Kind::Put, 50),
            (Ycsb::B, Kind::Put, 5),
            (Ycsb::C, Kind::Put, 0),
            (Ycsb::D, Kind::Put, 5),
            (Ycsb::E, Kind::Scan, 95),
            (Ycsb::F, Kind::Modify, 50),
        ] {
            let ops = ycsb(letter, 20_000, 10_000, &mut random(1));
            let share = ops.iter().filter(|op| op.kind() == kind).count() as f64 / 200.0;
            assert!((share - f64::from(percent)).abs() < 1.0, "{letter:?}: {share} % are {kind:?}");
        }
    }

    #[test]
    fn inserts_go_on_where_the_keys_end_and_reads_of_the_latest_find_them() {
        let mut numbers = 1000;
        let mut young = 0;
        for op in ycsb(Ycsb::D, 20_000, numbers, &mut random(2)) {
            if op.kind() == Kind::Put {
                assert_eq!(op.number(), numbers);
                numbers += 1;
            } else {
                assert!(op.number() < numbers);
                young += u32::from(op.number() + 100 >= numbers);
            }
        }
        assert!(young > 10_000, "only {young} of 19,000 reads went to the hundred youngest");
    }

    #[test]
    fn a_few_keys_are_popular_and_lie_apart() {
        let mut counts = vec![0u32; 10_000];
        for op in ycsb(Ycsb::C, 100_000, 10_000, &mut random(3)) {
            counts[op.number() as usize] += 1;
        }
        let mut by_count: Vec<usize> = (0..counts.len()).collect();
        by_count.sort_by_key(|number| std::cmp::Reverse(counts[*number]));
        let hot: u32 = by_count[..100].iter().map(|number| counts[*number]).sum();
        // The harmonic sums say 53 of a hundred.
        assert!((45_000..62_000).contains(&hot), "the hundred most popular got {hot} of 100,000");
        assert!(by_count[0].abs_diff(by_count[1]) > 100);
    }
}
