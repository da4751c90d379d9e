//! The keys that were evicted lately, without their values.

use std::collections::VecDeque;

use hashbrown::HashTable;

/// A first-in first-out set of key hashes. Thirty-two bits of a hash are kept: two keys that share them are taken for
/// each other, which costs a wrong guess once in a few billion.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Oldest first. One whose number is not that in `known` has been taken out, or has come in again since.
    order: VecDeque<Ghost>,
    known: HashTable<Ghost>,
    next_number: u32,
}

#[derive(Copy, Clone, Debug)]
struct Ghost {
    print: u32,
    number: u32,
}

impl Ghosts {
    /// Remembers a key, and forgets the oldest beyond `most`.
    pub(super) fn push(&mut self, hash: u64, most: usize) {
        let ghost = Ghost { print: print(hash), number: self.next_number };
        self.next_number = self.next_number.wrapping_add(1);
        match self.known.find_mut(spread(ghost.print), |known| known.print == ghost.print) {
            Some(known) => *known = ghost,
            None => {
                self.known.insert_unique(spread(ghost.print), ghost, |known| spread(known.print));
            }
        }
        self.order.push_back(ghost);
        while self.order.len() > most.max(1) {
            let oldest = self.order.pop_front().expect("it is longer than one");
            if let Ok(known) = self
                .known
                .find_entry(spread(oldest.print), |known| known.print == oldest.print && known.number == oldest.number)
            {
                known.remove();
            }
        }
    }

    /// Whether a key is remembered, which it is not from then on.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let print = print(hash);
        match self.known.find_entry(spread(print), |known| known.print == print) {
            Ok(known) => {
                known.remove();
                true
            }
            Err(_) => false,
        }
    }
}

/// Not the lowest or the highest bits, which choose shards and buckets elsewhere.
fn print(hash: u64) -> u32 {
    u32::try_from((hash >> 16) & u64::from(u32::MAX)).expect("it is masked")
}

/// The table wants bits at both ends of the word.
fn spread(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
