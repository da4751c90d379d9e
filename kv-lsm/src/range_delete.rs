//! Deleted ranges, cut into fragments that do not overlap, so that one binary search answers which of them cover a key.

use std::sync::Arc;

/// Deletes every version of the keys from `start` up to, but not including, `end` that is older than `sequence`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct RangeDelete {
    pub(crate) start: Arc<[u8]>,
    pub(crate) end: Arc<[u8]>,
    pub(crate) sequence: u64,
}

impl RangeDelete {
    /// What one costs beside its keys.
    const OWN_BYTES: u64 = 128;

    /// Memory that it takes before it is in a table, about: once in a list, once among the fragments.
    pub(crate) fn bytes(&self) -> u64 {
        2 * (self.start.len() + self.end.len()) as u64 + Self::OWN_BYTES
    }
}

/// A range of keys with the numbers of all deletes that cover the whole of it, newest first.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Fragment {
    pub(crate) start: Arc<[u8]>,
    pub(crate) end: Arc<[u8]>,
    pub(crate) sequences: Vec<u64>,
}

/// A set of deleted ranges, ready for look-ups.
#[derive(Clone, Default, Debug)]
pub(crate) struct RangeDeletes {
    fragments: Vec<Fragment>,
}

impl RangeDeletes {
    pub(crate) fn new(mut deletes: Vec<RangeDelete>) -> Self {
        deletes.retain(|delete| delete.start < delete.end);
        deletes.sort_by(|a, b| a.start.cmp(&b.start));
        let mut edges: Vec<Arc<[u8]>> =
            deletes.iter().flat_map(|delete| [Arc::clone(&delete.start), Arc::clone(&delete.end)]).collect();
        edges.sort();
        edges.dedup();
        let mut fragments: Vec<Fragment> = Vec::new();
        let mut arriving = deletes.into_iter().peekable();
        let mut open: Vec<RangeDelete> = Vec::new();
        for pair in edges.windows(2) {
            open.retain(|delete| delete.end > pair[0]);
            while let Some(delete) = arriving.next_if(|delete| delete.start <= pair[0]) {
                open.push(delete);
            }
            if open.is_empty() {
                continue;
            }
            let mut sequences: Vec<u64> = open.iter().map(|delete| delete.sequence).collect();
            sequences.sort_unstable_by(|a, b| b.cmp(a));
            sequences.dedup();
            match fragments.last_mut() {
                Some(last) if last.end == pair[0] && last.sequences == sequences => last.end = Arc::clone(&pair[1]),
                _ => fragments.push(Fragment { start: Arc::clone(&pair[0]), end: Arc::clone(&pair[1]), sequences }),
            }
        }
        Self { fragments }
    }

    /// Memory in use, about.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |fragment: &Fragment| 96 + fragment.start.len() + fragment.end.len() + 8 * fragment.sequences.len();
        self.fragments.iter().map(of).sum::<usize>() as u64
    }

    /// In the order of their keys.
    pub(crate) fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The deletes as they could have been given.
    pub(crate) fn deletes(&self) -> impl Iterator<Item = RangeDelete> + '_ {
        self.fragments.iter().flat_map(|fragment| {
            fragment.sequences.iter().map(|&sequence| RangeDelete {
                start: Arc::clone(&fragment.start),
                end: Arc::clone(&fragment.end),
                sequence,
            })
        })
    }

    /// Numbers of the deletes that cover `key`, newest first.
    pub(crate) fn covering(&self, key: &[u8]) -> &[u64] {
        let behind = self.fragments.partition_point(|fragment| *fragment.start <= *key);
        match behind.checked_sub(1).map(|index| &self.fragments[index]) {
            Some(fragment) if *key < *fragment.end => &fragment.sequences,
            _ => &[],
        }
    }

    /// Number of the newest delete that covers any key from `start` up to, but not including, `end`, or to the last one; zero
    /// when there is none.
    pub(crate) fn newest_within(&self, start: &[u8], end: Option<&[u8]>) -> u64 {
        let first = self.fragments.partition_point(|fragment| *fragment.end <= *start);
        let within = self.fragments[first..].iter().take_while(|fragment| end.is_none_or(|end| *fragment.start < *end));
        within.map(|fragment| fragment.sequences[0]).max().unwrap_or(0)
    }

    /// Number of the newest delete that covers `key` and that a read at `sequence` sees; zero when there is none.
    pub(crate) fn newest(&self, key: &[u8], sequence: u64) -> u64 {
        self.covering(key).iter().copied().find(|&delete| delete <= sequence).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(start: &str, end: &str, sequence: u64) -> RangeDelete {
        RangeDelete { start: start.as_bytes().into(), end: end.as_bytes().into(), sequence }
    }

    #[test]
    fn fragments_answer_as_the_ranges_they_came_from() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let deletes: Vec<RangeDelete> = (1..=random(9))
                .map(|sequence| delete(&format!("{}", random(10)), &format!("{}", random(10)), sequence))
                .collect();
            let set = RangeDeletes::new(deletes.clone());
            let again = RangeDeletes::new(set.deletes().collect());
            for key in 0..10 {
                let key = format!("{key}");
                for sequence in 0..10 {
                    let expected = deletes
                        .iter()
                        .filter(|d| *d.start <= *key.as_bytes() && *key.as_bytes() < *d.end && d.sequence <= sequence)
                        .map(|d| d.sequence)
                        .max()
                        .unwrap_or(0);
                    assert_eq!(set.newest(key.as_bytes(), sequence), expected, "{deletes:?} {key}@{sequence}");
                    assert_eq!(again.newest(key.as_bytes(), sequence), expected);
                }
            }
            for pair in set.fragments().windows(2) {
                assert!(pair[0].end <= pair[1].start, "fragments are apart and in order");
            }
        }
    }
}
