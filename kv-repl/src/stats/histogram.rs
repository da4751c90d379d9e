//! How often which magnitude was met: of times and of sizes.
//!
//! Buckets are those of Tene's HdrHistogram: linear within each power of two, 128 of them, so a value is known to within 0.8 %
//! whatever its size. The sum, the least and the greatest value are exact. Nothing is allocated before the first value, and no more
//! than 27 KiB ever.

use std::fmt;
use std::time::Duration;

use kv_core::export::Distribution;

/// Two significant digits: what is more than a reader of such figures wants, and little memory.
const SIGNIFICANT_DIGITS: u8 = 2;
/// What is more counts as this, in the buckets: an hour of microseconds.
const VALUE_MAX: u64 = 3_600_000_000;
const MICROSECONDS: f64 = 1e6;
/// What is exported of the quantiles.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Values of one sort. Times are in microseconds.
#[derive(Clone, PartialEq, Default)]
pub struct Histogram {
    counts: Option<Box<hdrhistogram::Histogram<u64>>>,
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Histogram {
    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        let counts = self.counts.get_or_insert_with(|| {
            Box::new(hdrhistogram::Histogram::new(SIGNIFICANT_DIGITS).expect("one to five digits are possible"))
        });
        counts.record(value.min(VALUE_MAX)).expect("it grows as far as its greatest value");
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds a time.
    pub fn record_time(&mut self, span: Duration) {
        self.record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all values of another one.
    pub fn merge(&mut self, other: &Self) {
        let Some(others) = &other.counts else { return };
        match &mut self.counts {
            None => *self = other.clone(),
            Some(counts) => {
                counts.add(&**others).expect("it grows as far as the other one has");
                self.min = self.min.min(other.min);
                self.max = self.max.max(other.max);
                self.count += other.count;
                self.sum = self.sum.saturating_add(other.sum);
            }
        }
    }

    /// How many values there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// All of them added up.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// The least of them. Zero when there are none.
    #[must_use]
    pub const fn min(&self) -> u64 {
        self.min
    }

    /// The greatest of them. Zero when there are none.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// Their mean. Zero when there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// A value that so large a part of them does not exceed: 0.99 for all but one in a hundred. Zero when there are none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> u64 {
        self.counts.as_ref().map_or(0, |counts| counts.value_at_quantile(part).clamp(self.min, self.max))
    }

    /// How many do not exceed a value.
    #[must_use]
    pub fn count_up_to(&self, value: u64) -> u64 {
        match &self.counts {
            Some(_) if value >= self.max => self.count,
            Some(counts) => counts.count_between(0, value.min(VALUE_MAX)),
            None => 0,
        }
    }

    /// In seconds, for what measures times.
    pub(super) fn seconds(&self, bounds_us: &[u64]) -> Distribution {
        self.distribution(bounds_us, MICROSECONDS)
    }

    /// As they are, for what measures sizes.
    pub(super) fn sizes(&self, bounds: &[u64]) -> Distribution {
        self.distribution(bounds, 1.0)
    }

    fn distribution(&self, bounds: &[u64], unit: f64) -> Distribution {
        Distribution {
            buckets: bounds.iter().map(|bound| (*bound as f64 / unit, self.count_up_to(*bound))).collect(),
            quantiles: QUANTILES.map(|part| (part, self.quantile(part) as f64 / unit)).to_vec(),
            sum: self.sum as f64 / unit,
            count: self.count,
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, sum, min, max, .. } = self;
        let (half, most) = (self.quantile(0.5), self.quantile(0.99));
        write!(f, "Histogram {{ count: {count}, sum: {sum}, min: {min}, p50: {half}, p99: {most}, max: {max} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn quantiles_are_near_and_the_rest_is_exact() {
        let empty = Histogram::default();
        assert_eq!(
            (empty.count(), empty.min(), empty.max(), empty.quantile(0.5), empty.count_up_to(9)),
            (0, 0, 0, 0, 0)
        );
        let values = of(1..=100_000);
        assert_eq!((values.count(), values.min(), values.max()), (100_000, 1, 100_000));
        assert_eq!(values.sum(), 100_000 * 100_001 / 2);
        for part in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (found, exact) = (values.quantile(part) as f64, part * 100_000.0);
            assert!((found - exact).abs() <= 0.008 * exact + 1.0, "{part}: {found} for {exact}");
        }
        for bound in [1, 7, 250, 1000, 99_999] {
            let found = values.count_up_to(bound);
            assert!(found.abs_diff(bound) as f64 <= 0.008 * bound as f64 + 1.0, "{found} for {bound}");
        }
        assert_eq!(values.count_up_to(100_000), 100_000);
    }

    #[test]
    fn what_is_too_long_is_counted_and_takes_no_more_memory() {
        let mut values = of([0, 5, u64::MAX, VALUE_MAX + 1]);
        assert_eq!((values.count(), values.min(), values.max(), values.sum()), (4, 0, u64::MAX, u64::MAX));
        assert_eq!((values.count_up_to(5), values.count_up_to(VALUE_MAX - (1 << 26))), (2, 2));
        assert!(values.quantile(0.99) >= VALUE_MAX);
        values.record_time(Duration::from_millis(3));
        assert_eq!(values.count_up_to(3_000), 3, "times are in microseconds");
        assert!(values.counts.unwrap().distinct_values() * size_of::<u64>() <= 27 << 10);
    }

    #[test]
    fn histograms_add_up() {
        let mut low = of(1..=500);
        let high = of(501..=20_000);
        let mut none = Histogram::default();
        none.merge(&high);
        assert_eq!(none, high);
        low.merge(&Histogram::default());
        low.merge(&high);
        assert_eq!(low, of(1..=20_000));
    }

    #[test]
    fn seconds_are_exported_with_growing_counts() {
        let Distribution { buckets, quantiles, sum, count } =
            of([100, 900, 3_000_000]).seconds(&[250, 1_000, 1_000_000]);
        assert_eq!(buckets, [(0.000_25, 1), (0.001, 2), (1.0, 2)]);
        assert_eq!((sum, count), (3.001, 3));
        assert_eq!(quantiles.last(), Some(&(0.999, 3.0)));
    }
}
