//! Ranges of keys as callers write them.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of keys: any of Rust's ranges over something that is bytes, or a pair of bounds. (`RangeBounds` would leave the
/// type of the keys open in `..`.)
pub trait KeyBounds {
    /// Where it begins and ends.
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

impl KeyBounds for RangeFull {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyBounds for Range<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(self.start.as_ref()), Bound::Excluded(self.end.as_ref()))
    }
}

impl<K: AsRef<[u8]>> KeyBounds for RangeInclusive<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(self.start().as_ref()), Bound::Included(self.end().as_ref()))
    }
}

impl<K: AsRef<[u8]>> KeyBounds for RangeFrom<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(self.start.as_ref()), Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyBounds for RangeTo<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Excluded(self.end.as_ref()))
    }
}

impl<K: AsRef<[u8]>> KeyBounds for RangeToInclusive<K> {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Included(self.end.as_ref()))
    }
}

impl<K: AsRef<[u8]>> KeyBounds for (Bound<K>, Bound<K>) {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.0.as_ref().map(K::as_ref), self.1.as_ref().map(K::as_ref))
    }
}

/// The same range, owning its ends.
pub(crate) fn owned(range: &impl KeyBounds) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let (start, end) = range.bounds();
    (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_can_be_given() {
        #[expect(clippy::needless_pass_by_value, reason = "as the methods that take ranges")]
        fn ends(range: impl KeyBounds) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
            owned(&range)
        }
        let key = |key: &str| key.as_bytes().to_vec();
        assert_eq!(ends(..), (Bound::Unbounded, Bound::Unbounded));
        assert_eq!(ends("a".."b"), (Bound::Included(key("a")), Bound::Excluded(key("b"))));
        assert_eq!(ends(b"a"..=b"b"), (Bound::Included(key("a")), Bound::Included(key("b"))));
        assert_eq!(ends(vec![b'a']..), (Bound::Included(key("a")), Bound::Unbounded));
        assert_eq!(ends(.."b".to_owned()), (Bound::Unbounded, Bound::Excluded(key("b"))));
        assert_eq!(ends(..="b"), (Bound::Unbounded, Bound::Included(key("b"))));
        assert_eq!(ends((Bound::Excluded("a"), Bound::Unbounded)), (Bound::Excluded(key("a")), Bound::Unbounded));
    }
}
