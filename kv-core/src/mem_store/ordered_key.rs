//! Keys of the ordered map. Sixteen bytes of each lie in the map itself and tell almost all keys apart, so that a search follows
//! almost no pointer (normalised heads: Graefe and Larson, "B-tree indexes and CPU caches", ICDE 2001).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A key that the map holds. Ordered as its bytes are.
#[derive(Clone)]
pub(super) struct OrderedKey {
    head: u128,
    bytes: Arc<[u8]>,
}

/// A key that is looked for.
pub(super) struct Sought<'a> {
    head: u128,
    bytes: &'a [u8],
}

/// What both kinds of keys are compared by.
pub(super) trait Ordered {
    /// The first sixteen bytes as a big-endian number, filled up with zeros: where those of two keys differ, the order is theirs.
    fn head(&self) -> u128;
    fn bytes(&self) -> &[u8];
}

fn head_of(key: &[u8]) -> u128 {
    match key.first_chunk() {
        Some(head) => u128::from_be_bytes(*head),
        None => {
            let mut head = [0; size_of::<u128>()];
            head[..key.len()].copy_from_slice(key);
            u128::from_be_bytes(head)
        }
    }
}

impl OrderedKey {
    pub(super) fn of(key: &[u8]) -> Self {
        Self { head: head_of(key), bytes: key.into() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<OrderedKey> for Box<[u8]> {
    fn from(key: OrderedKey) -> Self {
        key.as_bytes().into()
    }
}

impl<'a> Sought<'a> {
    pub(super) fn of(key: &'a [u8]) -> Self {
        Self { head: head_of(key), bytes: key }
    }
}

impl Ordered for OrderedKey {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Ordered for Sought<'_> {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl<'a> Borrow<dyn Ordered + 'a> for OrderedKey {
    fn borrow(&self) -> &(dyn Ordered + 'a) {
        self
    }
}

fn compare(a: &(impl Ordered + ?Sized), b: &(impl Ordered + ?Sized)) -> Ordering {
    a.head().cmp(&b.head()).then_with(|| a.bytes().cmp(b.bytes()))
}

impl Ord for dyn Ordered + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for dyn Ordered + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Ordered + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Ordered + '_ {}

impl Ord for OrderedKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for OrderedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedKey {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes_are(
            common in prop::collection::vec(0_u8..2, 0..18),
            a in prop::collection::vec(0_u8..3, 0..4),
            b in prop::collection::vec(0_u8..3, 0..4),
        ) {
            let (a, b) = ([common.clone(), a].concat(), [common, b].concat());
            prop_assert_eq!(OrderedKey::of(&a).cmp(&OrderedKey::of(&b)), a.cmp(&b));
            let (sought_a, sought_b) = (Sought::of(&a), Sought::of(&b));
            prop_assert_eq!((&sought_a as &dyn Ordered).cmp(&sought_b as &dyn Ordered), a.cmp(&b));
        }
    }
}
