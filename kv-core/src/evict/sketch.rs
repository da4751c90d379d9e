//! How often keys were seen lately, in half a byte times four.
//!
//! Source: TinyLFU (Einziger, Friedman and Manes, ACM Transactions on Storage 2017): a count-min sketch of four-bit
//! counters, all of which are halved each time a certain number of uses has been counted. As in Caffeine the four
//! counters of a key are in one block of 64 bytes, so that a use touches one cache line.
//!
//! The sketch is four times as wide as Caffeine's, and halved after some 24 uses for each entry, not ten. On skewed
//! and looping traces that is worth half a point to a point of hits, which is what divides the good policies; it costs
//! 24 bytes for each entry, and makes the cache slower to follow when all that was popular changes at once.

const WORDS_PER_BLOCK: usize = 8;
const COUNTER_MAX: u64 = 15;
/// All counters but their lowest bits, after a shift by one.
const HALVED: u64 = 0x7777_7777_7777_7777;
const LOWEST_BITS: u64 = 0x1111_1111_1111_1111;
/// At least; the number of words is a power of two.
const WORDS_PER_ENTRY: usize = 4;
const USES_PER_WORD: u64 = 6;

#[derive(Debug)]
pub(super) struct Sketch {
    words: Vec<u64>,
    /// Uses counted since the last halving, itself halved then.
    counted: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { words: vec![0; WORDS_PER_BLOCK], counted: 0 }
    }
}

impl Sketch {
    /// Makes the sketch wide enough for so many entries. Growing keeps every estimate: the new half is a copy of
    /// the old one, and what a further bit of the hash tells apart was counted together until now.
    pub(super) fn make_room(&mut self, entries: usize) {
        while self.words.len() < entries * WORDS_PER_ENTRY {
            self.words.extend_from_within(..);
        }
    }

    /// Counts uses of one key.
    pub(super) fn count(&mut self, hash: u64, uses: u8) {
        let mut raised = 0;
        for (word, shift) in self.counters(hash) {
            let room = COUNTER_MAX - ((self.words[word] >> shift) & COUNTER_MAX);
            let added = room.min(u64::from(uses));
            self.words[word] += added << shift;
            raised = added.max(raised);
        }
        if raised > 0 {
            self.counted += raised;
            if self.counted >= USES_PER_WORD * self.words.len() as u64 {
                self.halve();
            }
        }
    }

    pub(super) fn estimate(&self, hash: u64) -> u64 {
        self.counters(hash)
            .map(|(word, shift)| (self.words[word] >> shift) & COUNTER_MAX)
            .into_iter()
            .min()
            .unwrap_or(0)
    }

    /// Each half use that is lost to rounding, in four counters of one key, is taken off the count as well.
    fn halve(&mut self) {
        let mut odd = 0;
        for word in &mut self.words {
            odd += u64::from((*word & LOWEST_BITS).count_ones());
            *word = (*word >> 1) & HALVED;
        }
        self.counted = (self.counted - (odd / 4).min(self.counted)) / 2;
    }

    /// Word and shift of four counters, each in a pair of words of its own.
    fn counters(&self, hash: u64) -> [(usize, u32); 4] {
        // Shards and tables are chosen by bits of the same hash, so these are mixed again.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let blocks = (self.words.len() / WORDS_PER_BLOCK) as u64;
        let block = usize::try_from((mixed >> 32) & (blocks - 1)).expect("an index");
        let within = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        std::array::from_fn(|row| {
            let bits = within >> (row * 8);
            let word = block * WORDS_PER_BLOCK + row * 2 + usize::from(bits & 1 == 1);
            let counter = u32::try_from((bits >> 1) & 15).expect("four bits");
            (word, counter * 4)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::seeded;

    fn key(number: u64) -> u64 {
        seeded(&number.to_le_bytes(), 0)
    }

    #[test]
    fn estimates_are_never_below_the_count_and_seldom_above() {
        let mut sketch = Sketch::default();
        sketch.make_room(1024);
        for number in 0..400 {
            for _ in 0..number % 8 {
                sketch.count(key(number), 1);
            }
        }
        let above = (0..400).filter(|number| {
            let estimate = sketch.estimate(key(*number));
            assert!(estimate >= number % 8);
            estimate > number % 8
        });
        assert!(above.count() < 20);
    }

    #[test]
    fn what_is_not_used_any_more_fades() {
        let mut sketch = Sketch::default();
        sketch.make_room(64);
        for _ in 0..20 {
            sketch.count(key(0), 1);
        }
        assert_eq!(sketch.estimate(key(0)), COUNTER_MAX);
        for number in 0..4000 {
            sketch.count(key(1 + number % 300), 1);
        }
        assert!(sketch.estimate(key(0)) < COUNTER_MAX);
    }

    #[test]
    fn growing_keeps_every_estimate() {
        let mut sketch = Sketch::default();
        for number in 0..10 {
            sketch.count(key(number), 1);
            sketch.count(key(0), 1);
        }
        let before: Vec<u64> = (0..10).map(|number| sketch.estimate(key(number))).collect();
        sketch.make_room(5000);
        assert_eq!(before, (0..10).map(|number| sketch.estimate(key(number))).collect::<Vec<_>>());
    }
}
