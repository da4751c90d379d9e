//! Who asks for what: seeded traces of key numbers.

/// Draws key numbers with probabilities that fall as a power of the rank.
pub(crate) struct Zipf {
    /// Chance that the rank is at most the index.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|chance| *chance /= sum);
        Self { cumulative }
    }

    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> u32 {
        let drawn = random.f64();
        let rank = self.cumulative.partition_point(|chance| *chance < drawn).min(self.cumulative.len() - 1);
        u32::try_from(rank).expect("few keys")
    }
}

/// A name, and key numbers in the order in which they are asked for.
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) keys: Vec<u32>,
}

const KEYS: usize = 100_000;
const LENGTH: usize = 600_000;
/// Key numbers above are those of scans, each of which is seen once.
const SCANNED: u32 = 1 << 24;

fn zipf(exponent: f64) -> Trace {
    let (zipf, mut random) = (Zipf::new(KEYS, exponent), fastrand::Rng::with_seed(1));
    let keys = (0..LENGTH).map(|_| zipf.draw(&mut random)).collect();
    Trace { name: format!("zipf {exponent}"), keys }
}

/// After every `between` draws a scan over `length` keys that nobody asks for again.
fn scanned(exponent: f64, between: usize, length: u32) -> Trace {
    let (zipf, mut random) = (Zipf::new(KEYS, exponent), fastrand::Rng::with_seed(2));
    let mut keys = Vec::with_capacity(LENGTH + length as usize);
    let mut next = SCANNED;
    while keys.len() < LENGTH {
        keys.extend((0..between).map(|_| zipf.draw(&mut random)));
        keys.extend(next..next + length);
        next += length;
    }
    Trace { name: format!("zipf {exponent}, scans of {length}"), keys }
}

/// Round and round over more than fits.
fn looped(keys: u32) -> Trace {
    Trace { name: format!("loop over {keys}"), keys: (0..keys).cycle().take(LENGTH).collect() }
}

/// A loop, and a skewed part beside it.
fn looped_and_skewed(keys: u32) -> Trace {
    let (zipf, mut random) = (Zipf::new(KEYS, 0.99), fastrand::Rng::with_seed(3));
    let around = (0..keys).cycle().map(|number| SCANNED + number);
    let keys_asked = around.take(LENGTH / 2).flat_map(|looped| [looped, zipf.draw(&mut random)]).collect();
    Trace { name: format!("loop over {keys} + zipf 0.99"), keys: keys_asked }
}

/// What is popular changes completely, six times.
fn shifting() -> Trace {
    let (zipf, mut random) = (Zipf::new(KEYS, 0.99), fastrand::Rng::with_seed(4));
    let stages = (0..6).flat_map(|stage| std::iter::repeat_n(stage * SCANNED, LENGTH / 6));
    let keys = stages.map(|base| base + zipf.draw(&mut random)).collect();
    Trace { name: "zipf 0.99, shifting".into(), keys }
}

pub(crate) fn all() -> Vec<Trace> {
    vec![
        zipf(0.6),
        zipf(0.8),
        zipf(0.99),
        zipf(1.2),
        scanned(0.8, 10_000, 10_000),
        scanned(0.99, 10_000, 10_000),
        scanned(0.99, 20_000, 2_000),
        looped(1_500),
        looped(15_000),
        looped_and_skewed(15_000),
        shifting(),
    ]
}
