//! Values under numbers that the node itself has given out: requests under way, and who waits for them.
//!
//! A table rather than a tree: each request is entered and taken out in each of several of these. The hash has no seed, since nobody
//! outside chooses the numbers; and the order of the values is that of their numbers, or does not show.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// Values by number.
#[derive(Clone, Debug)]
pub(crate) struct ByNumber<V> {
    values: HashMap<u64, V, BuildHasherDefault<NumberHasher>>,
}

impl<V> ByNumber<V> {
    pub(crate) const fn new() -> Self {
        Self { values: HashMap::with_hasher(BuildHasherDefault::new()) }
    }

    pub(crate) fn insert(&mut self, number: u64, value: V) {
        self.values.insert(number, value);
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        self.values.remove(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.values.get_mut(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }

    /// The numbers of those that fit, ascending.
    pub(crate) fn numbers(&self, fits: impl Fn(&V) -> bool) -> Vec<u64> {
        let fitting = self.values.iter().filter(|(_, value)| fits(value));
        let mut numbers: Vec<u64> = fitting.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// All values, for what does not depend on their order.
    pub(crate) fn in_any_order(&self) -> impl Iterator<Item = &V> {
        self.values.values()
    }

    /// The same, to be changed each by itself.
    pub(crate) fn in_any_order_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.values_mut()
    }
}

/// Spreads a number: the multiplier of Fibonacci hashing (Knuth, "The Art of Computer Programming", volume 3, 6.4). Numbers that
/// follow one another differ in the lowest bits, which choose the place, and in the highest, which tell apart what shares one.
#[derive(Default, Debug)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_numbers_are_in_order() {
        let mut values = ByNumber::new();
        let numbers = (0..1000_u64).map(|at| (at << 63) | (at * 7));
        for number in numbers.clone() {
            values.insert(number, number);
        }
        assert_eq!(values.len(), 1000);
        let mut sorted: Vec<u64> = numbers.clone().collect();
        sorted.sort_unstable();
        assert_eq!(values.numbers(|_| true), sorted);
        assert_eq!(values.numbers(|number| *number < 15), [0, 14]);
        for number in numbers {
            assert_eq!((values.remove(number), values.remove(number)), (Some(number), None));
        }
        assert_eq!(values.len(), 0);
    }

    #[test]
    fn numbers_that_follow_one_another_have_places_of_their_own() {
        let hash = |number| {
            let mut hasher = NumberHasher::default();
            hasher.write_u64(number);
            hasher.finish()
        };
        let first = (1 << 63) | (5 << 40);
        let places: std::collections::BTreeSet<u64> = (first..first + 1024).map(|number| hash(number) % 1024).collect();
        assert_eq!(places.len(), 1024);
    }
}
