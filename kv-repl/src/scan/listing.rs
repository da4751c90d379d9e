//! What a replica lists of a range of keys, and what several lists come to.
//!
//! One replica sends records, the others digests. A key of which all of them list the same is settled by them. Any other one has to
//! be read by itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::key::RecordKey;

use crate::digest::digest;

/// The keys that a replica holds in a range, in their order, tombstones and expired ones included; or the first ones of many.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Listing {
    /// Each with what is held of it.
    pub entries: Vec<(RecordKey, Listed)>,
    /// Up to which key this is all there is, when more may follow.
    pub end: Option<RecordKey>,
}

/// What is held of one key.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Listed {
    /// The record.
    Record(Bytes),
    /// Its digest.
    Digest(u128),
}

impl Listing {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |(key, listed): &(RecordKey, Listed)| {
            key.as_bytes().len()
                + match listed {
                    Listed::Record(record) => record.len(),
                    Listed::Digest(_) => size_of::<u128>(),
                }
        };
        self.entries.iter().map(bytes).sum()
    }
}

impl Listed {
    fn digest(&self) -> u128 {
        match self {
            Self::Record(record) => digest(Some(record)),
            Self::Digest(digest) => *digest,
        }
    }
}

/// What several lists come to.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Every key that somebody lists, and its record if all list the same and one has sent it.
    pub(crate) keys: Vec<(RecordKey, Option<Bytes>)>,
    /// Up to which key that is all, when more may follow.
    pub(crate) end: Option<RecordKey>,
}

/// Puts lists of one range together, as far as all of them go.
pub(crate) fn merge(listings: &[&Listing]) -> Merged {
    let listings = if sabotaged!(TrustOneReplica) { one_with_records(listings) } else { listings };
    let end = listings.iter().filter_map(|listing| listing.end.clone()).min();
    let mut keys: BTreeMap<&RecordKey, Vec<&Listed>> = BTreeMap::new();
    for (key, listed) in listings.iter().flat_map(|listing| &listing.entries) {
        if end.as_ref().is_none_or(|end| key <= end) {
            keys.entry(key).or_default().push(listed);
        }
    }
    let settled = |listed: &[&Listed]| {
        let record = listed.iter().find_map(|listed| match listed {
            Listed::Record(record) => Some(record.clone()),
            Listed::Digest(_) => None,
        });
        let digests: BTreeSet<u128> = listed.iter().map(|listed| listed.digest()).collect();
        record.filter(|_| listed.len() == listings.len() && digests.len() == 1)
    };
    let keys = keys.into_iter().map(|(key, listed)| (key.clone(), settled(&listed))).collect();
    Merged { keys, end }
}

fn one_with_records<'a, 'b>(listings: &'a [&'b Listing]) -> &'a [&'b Listing] {
    let of_records = |listing: &&&Listing| matches!(listing.entries.first(), None | Some((_, Listed::Record(_))));
    let at = listings.iter().position(|listing| of_records(&listing)).unwrap_or(0);
    &listings[at..=at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::key::{Key, TableId};

    fn key(sort: u8) -> RecordKey {
        RecordKey::new(TableId(1), &Key::new("p", vec![sort])).expect("a short key")
    }

    fn records(keys: &[(u8, &'static str)], end: Option<u8>) -> Listing {
        let entry =
            |(sort, value): &(u8, &'static str)| (key(*sort), Listed::Record(Bytes::from_static(value.as_bytes())));
        Listing { entries: keys.iter().map(entry).collect(), end: end.map(key) }
    }

    fn digests(listing: &Listing) -> Listing {
        let entries = listing.entries.iter().map(|(key, listed)| (key.clone(), Listed::Digest(listed.digest())));
        Listing { entries: entries.collect(), ..listing.clone() }
    }

    /// Each key with its record, or "?" when it has to be read.
    fn merged(listings: &[&Listing]) -> (Vec<(u8, String)>, Option<u8>) {
        let Merged { keys, end } = merge(listings);
        let shown =
            |record: Option<Bytes>| record.map_or("?".into(), |record| String::from_utf8_lossy(&record).into_owned());
        (
            keys.into_iter().map(|(key, record)| (key.sort_key()[0], shown(record))).collect(),
            end.map(|end| end.sort_key()[0]),
        )
    }

    fn of(keys: &[(u8, &str)]) -> Vec<(u8, String)> {
        keys.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
    }

    #[test]
    fn what_all_list_alike_is_settled_and_the_rest_is_to_be_read() {
        let one = records(&[(1, "a"), (2, "b"), (4, "d")], None);
        let other = digests(&records(&[(1, "a"), (2, "B"), (3, "c"), (4, "d")], None));
        assert_eq!(merged(&[&one, &other]), (of(&[(1, "a"), (2, "?"), (3, "?"), (4, "d")]), None));
        assert_eq!(merged(&[&one]), (of(&[(1, "a"), (2, "b"), (4, "d")]), None));
        assert_eq!(
            merged(&[&digests(&one), &digests(&one)]).0,
            of(&[(1, "?"), (2, "?"), (4, "?")]),
            "nobody has sent it"
        );
    }

    #[test]
    fn nothing_is_said_of_keys_that_a_list_does_not_reach() {
        let long = digests(&records(&[(1, "a"), (2, "b"), (3, "c"), (5, "e")], Some(5)));
        let short = records(&[(1, "a"), (3, "c")], Some(3));
        assert_eq!(merged(&[&long, &short]), (of(&[(1, "a"), (2, "?"), (3, "c")]), Some(3)));
        let whole = records(&[(1, "a")], None);
        assert_eq!(merged(&[&short, &whole]), (of(&[(1, "a"), (3, "?")]), Some(3)));
    }
}
