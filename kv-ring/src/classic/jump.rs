//! Jump consistent hashing.

use kv_core::{
    NodeId,
    hash::{Token, seeded},
};

use super::Strategy;

/// Part of the strategy: another seed is another order of second choices.
const SEED: u64 = 0x6b76_5f6a_756d_7021;

/// The bucket, from 0 to `buckets - 1`, of a key that is a hash already. When a bucket is added at the end, a key stays or moves
/// to the new one.
///
/// Lamping and Veach, *A Fast, Minimal Memory, Consistent Hash Algorithm*, 2014; gives the same buckets as the paper's code.
///
/// # Panics
/// When there are no buckets.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a jump is positive, and too far a one saturates"
)]
pub fn jump_hash(key: u64, buckets: u32) -> u32 {
    assert!(buckets > 0, "a key needs a bucket");
    let mut state = key;
    let mut bucket = 0;
    let mut next = 0_u64;
    while next < u64::from(buckets) {
        bucket = next;
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let uniform = (1_u64 << 31) as f64 / ((state >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * uniform) as u64;
    }
    bucket as u32
}

/// [`jump_hash`] over a list of nodes, all of one weight. A node joins at the end of the list, and only the last can leave
/// without moving others' keys.
#[derive(Clone, Debug)]
pub struct Jump {
    nodes: Box<[NodeId]>,
}

impl Jump {
    /// Here the order of nodes is what places keys. A node that is given twice counts where it is first.
    ///
    /// # Panics
    /// When there are 2^32 nodes or more.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        let nodes: Box<[NodeId]> = nodes.into_iter().filter(|&node| seen.insert(node)).collect();
        assert!(u32::try_from(nodes.len()).is_ok(), "buckets are counted in 32 bits");
        Self { nodes }
    }
}

impl Strategy for Jump {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        out.clear();
        let wanted = count.min(self.nodes.len());
        // The next choice is a jump with another hash of the token. After many of them have only met nodes that are there already,
        // as they do when nearly all nodes are wanted, the rest comes in the order of the list.
        for attempt in 0..8 * wanted as u64 {
            if out.len() == wanted {
                return;
            }
            let key = if attempt == 0 { token.0 } else { seeded(&token.0.to_le_bytes(), SEED ^ attempt) };
            let buckets = u32::try_from(self.nodes.len()).expect("counted when it was built");
            let node = self.nodes[jump_hash(key, buckets) as usize];
            if !out.contains(&node) {
                out.push(node);
            }
        }
        for &node in &self.nodes {
            if out.len() == wanted {
                return;
            }
            if !out.contains(&node) {
                out.push(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        // From the test suites of the reference's ports (python-jump-consistent-hash, ClickHouse).
        for (key, buckets, bucket) in [
            (1, 1, 0),
            (42, 57, 43),
            (256, 1024, 520),
            (0xdead_10cc, 1, 0),
            (0xdead_10cc, 666, 361),
            (0xdead_beef_dead_beef, 255, 237),
        ] {
            assert_eq!(jump_hash(key, buckets), bucket, "key {key:#x}, {buckets} buckets");
        }
    }

    #[test]
    fn a_key_stays_or_moves_to_the_new_bucket() {
        for key in (0..1000_u64).map(|number| seeded(&number.to_le_bytes(), 7)) {
            let mut at = jump_hash(key, 1);
            for buckets in 2..200 {
                let now = jump_hash(key, buckets);
                assert!(now == at || now == buckets - 1, "key {key:#x}, {buckets} buckets");
                at = now;
            }
        }
    }

    #[test]
    fn the_largest_number_of_buckets_ends() {
        assert!(jump_hash(u64::MAX, u32::MAX) < u32::MAX);
        assert!(jump_hash(0, u32::MAX) < u32::MAX);
    }
}
