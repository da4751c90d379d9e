//! What is written: generated keys, some of them again, or the lines of a file.

use bytes::Bytes;
use fastrand::Rng;

use crate::input_file::{InputError, InputFile};

/// One value for one key.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// Its value, in place of any earlier one.
    pub value: Bytes,
}

/// The shortest value that has room for the numbers of its key and of the write.
pub const VALUE_BYTES_MIN: usize = 32;

/// After how many new keys, on average, an earlier one is written again.
const KEYS_PER_REWRITE: u64 = 10;

/// Writes, in order.
pub enum Workload {
    /// Made up from a seed.
    Generated(Generated),
    /// Read from a file.
    File(InputFile),
}

impl Workload {
    /// How much of it was given out, and how much there is: keys, or bytes of the file.
    #[must_use]
    pub const fn progress(&self) -> (u64, u64) {
        match self {
            Self::Generated(generated) => (generated.next_key, generated.keys),
            Self::File(file) => (file.position(), file.length()),
        }
    }
}

impl Iterator for Workload {
    type Item = Result<Write, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Generated(generated) => generated.next().map(Ok),
            Self::File(file) => file.next(),
        }
    }
}

/// Keys in order, each with a value that names it, and now and then an earlier key with another value.
#[derive(Clone, Debug)]
pub struct Generated {
    keys: u64,
    next_key: u64,
    writes: u64,
    value_bytes: usize,
    random: Rng,
}

impl Generated {
    /// The same seed gives the same writes.
    #[must_use]
    pub fn new(keys: u64, value_bytes: usize, seed: u64) -> Self {
        Self { keys, next_key: 0, writes: 0, value_bytes, random: Rng::with_seed(seed) }
    }

    fn write(&mut self, key: u64) -> Write {
        self.writes += 1;
        // No two values are alike, so an answer that belongs to another key or an earlier write is noticed.
        let mut value = format!("key={key} write={} ", self.writes).into_bytes();
        value.resize_with(self.value_bytes.max(value.len()), || {
            u8::try_from(self.random.lowercase()).expect("a lowercase letter is one byte")
        });
        Write { key: format!("key-{key:09}").into(), value: value.into() }
    }
}

impl Iterator for Generated {
    type Item = Write;

    fn next(&mut self) -> Option<Write> {
        if self.next_key == self.keys {
            return None;
        }
        if self.next_key > 0 && self.random.u64(..=KEYS_PER_REWRITE) == 0 {
            let again = self.random.u64(..self.next_key);
            return Some(self.write(again));
        }
        self.next_key += 1;
        Some(self.write(self.next_key - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let writes: Vec<Write> = Generated::new(500, 64, 7).collect();
        assert_eq!(writes, Generated::new(500, 64, 7).collect::<Vec<_>>());
        assert_ne!(writes, Generated::new(500, 64, 8).collect::<Vec<_>>());
    }

    #[test]
    fn every_key_is_written_and_some_are_written_again_each_time_with_a_value_of_its_own() {
        let writes: Vec<Write> = Generated::new(1_000, 100, 1).collect();
        let keys: HashSet<&Bytes> = writes.iter().map(|write| &write.key).collect();
        let values: HashSet<&Bytes> = writes.iter().map(|write| &write.value).collect();
        assert_eq!(keys.len(), 1_000);
        assert_eq!(values.len(), writes.len());
        assert!((1_050..1_200).contains(&writes.len()), "{} writes", writes.len());
        assert!(writes.iter().all(|write| write.value.len() == 100));
    }

    #[test]
    fn the_shortest_value_has_room_for_its_numbers() {
        let longest = format!("key={} write={} ", 999_999_999_u64, 1_099_999_999_u64);
        assert!(longest.len() <= VALUE_BYTES_MIN, "{} bytes", longest.len());
    }
}
