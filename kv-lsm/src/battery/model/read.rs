//! Reads of every kind: what a database answers, and what it should.

use std::ops::Bound;

use bytes::Bytes;
use kv_core::store::KeyRange;

use super::super::content::{Content, KEYSPACES};
use super::super::generate::Generator;
use super::super::random::Random;
use super::super::subject::Subject;
use crate::error::Error;
use crate::slice::Slice;
use crate::snapshot::Snapshot;

/// What is read.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Get(usize, Vec<u8>),
    Presence(usize, Vec<u8>),
    MultiGet(usize, Vec<Vec<u8>>),
    Scan { keyspace: usize, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>), how: Walk, limit: usize },
    Prefix(usize, Vec<u8>),
    Everything,
}

/// From where a scan takes its entries.
#[derive(Copy, Clone, Debug)]
pub(super) enum Walk {
    Forward,
    Backward,
    /// From both ends, as these bits say.
    BothEnds(u64),
}

pub(super) fn owned((key, value): (Slice, Slice)) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))
}

fn borrowed(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice))
}

/// Keys and values, with those that were asked for and are not there.
pub(super) type Answer = Vec<(Bytes, Option<Bytes>)>;

impl Read {
    /// Any read.
    pub(super) fn random(generator: &mut Generator) -> Self {
        let keyspace = generator.random.index(KEYSPACES.len());
        match generator.random.below(50) {
            0..=3 => Self::Presence(keyspace, generator.key()),
            4..=39 => Self::Get(keyspace, generator.key()),
            40..=43 => Self::MultiGet(keyspace, (0..generator.random.below(6)).map(|_| generator.key()).collect()),
            44..=45 => {
                let key = generator.key();
                let bytes = generator.random.index(key.len() + 1);
                Self::Prefix(keyspace, key[..bytes].to_vec())
            }
            _ => {
                let (start, end) = generator.range();
                let bound = |key, choice| match choice {
                    0 => Bound::Unbounded,
                    1 => Bound::Excluded(key),
                    _ => Bound::Included(key),
                };
                let random = &mut generator.random;
                let bounds = (bound(start, random.below(5)), bound(end, random.below(5)));
                let how = match random.below(3) {
                    0 => Walk::Forward,
                    1 => Walk::Backward,
                    _ => Walk::BothEnds(random.next()),
                };
                Self::Scan { keyspace, bounds, how, limit: random.index(30) }
            }
        }
    }

    /// What a database answers, at a snapshot or now.
    pub(super) fn ask(&self, subject: &Subject, snapshot: Option<&Snapshot>) -> Answer {
        let fail = |error: Error| -> ! { panic!("{self:?}: {error}") };
        let get = |keyspace: usize, key: &[u8]| {
            let keyspace = &subject.keyspaces[keyspace];
            let found = match snapshot {
                Some(snapshot) => snapshot.get(keyspace, key),
                None => keyspace.get(key),
            };
            let found = found.unwrap_or_else(|error| fail(error));
            (Bytes::copy_from_slice(key), found.map(|value| Bytes::copy_from_slice(&value)))
        };
        let entry = |entry: Result<(Slice, Slice), Error>| {
            let (key, value) = owned(entry.unwrap_or_else(|error| fail(error)));
            (key, Some(value))
        };
        match self {
            Self::Get(keyspace, key) => vec![get(*keyspace, key)],
            Self::Presence(keyspace, key) => {
                let keyspace = &subject.keyspaces[*keyspace];
                let found = match snapshot {
                    Some(snapshot) => snapshot.contains_key(keyspace, key),
                    None => keyspace.contains_key(key),
                };
                let found = found.unwrap_or_else(|error| fail(error));
                vec![(Bytes::copy_from_slice(key), found.then(Bytes::new))]
            }
            Self::MultiGet(keyspace, keys) if snapshot.is_none() => {
                let values = subject.keyspaces[*keyspace].multi_get(keys).unwrap_or_else(|error| fail(error));
                let values = values.into_iter().map(|value| value.map(|value| Bytes::copy_from_slice(&value)));
                keys.iter().map(|key| Bytes::copy_from_slice(key)).zip(values).collect()
            }
            Self::MultiGet(keyspace, keys) => keys.iter().map(|key| get(*keyspace, key)).collect(),
            Self::Scan { keyspace, bounds, how, limit } => {
                let keyspace = &subject.keyspaces[*keyspace];
                let entries = match snapshot {
                    Some(snapshot) => snapshot.range(keyspace, borrowed(bounds)),
                    None => keyspace.range(borrowed(bounds)),
                };
                walk(entries, *how, *limit).into_iter().map(entry).collect()
            }
            Self::Prefix(keyspace, prefix) => {
                let keyspace = &subject.keyspaces[*keyspace];
                let entries = match snapshot {
                    Some(snapshot) => snapshot.prefix(keyspace, prefix),
                    None => keyspace.prefix(prefix),
                };
                entries.map(entry).collect()
            }
            Self::Everything => {
                let content = subject.content_at(snapshot).unwrap_or_else(|error| fail(error));
                Self::Everything.expect(&content)
            }
        }
    }

    /// What it should answer.
    pub(super) fn expect(&self, content: &Content) -> Answer {
        let present = |(key, value): (&Bytes, &Bytes)| (key.clone(), Some(value.clone()));
        let get =
            |keyspace: usize, key: &[u8]| (Bytes::copy_from_slice(key), content.keyspace(keyspace).get(key).cloned());
        match self {
            Self::Get(keyspace, key) => vec![get(*keyspace, key)],
            Self::Presence(keyspace, key) => {
                let (key, value) = get(*keyspace, key);
                vec![(key, value.map(|_| Bytes::new()))]
            }
            Self::MultiGet(keyspace, keys) => keys.iter().map(|key| get(*keyspace, key)).collect(),
            Self::Scan { keyspace, bounds, how, limit } => {
                let (start, end) = borrowed(bounds);
                if (KeyRange { start, end }).is_empty() {
                    return Vec::new();
                }
                let range = content.keyspace(*keyspace).range::<[u8], _>(borrowed(bounds));
                walk(range, *how, *limit).into_iter().map(present).collect()
            }
            Self::Prefix(keyspace, prefix) => {
                let map = content.keyspace(*keyspace);
                let from = map.range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded));
                from.take_while(|(key, _)| key.starts_with(prefix)).map(present).collect()
            }
            Self::Everything => content.entries().map(|(_, key, value)| present((key, value))).collect(),
        }
    }
}

/// The first items from either end, those from the front first.
fn walk<I: DoubleEndedIterator>(mut entries: I, how: Walk, limit: usize) -> Vec<I::Item> {
    match how {
        Walk::Forward => entries.take(limit).collect(),
        Walk::Backward => entries.rev().take(limit).collect(),
        Walk::BothEnds(bits) => {
            let mut random = Random::new(bits);
            let mut items = Vec::new();
            while items.len() < limit {
                let item = if random.one_in(2) { entries.next() } else { entries.next_back() };
                match item {
                    Some(item) => items.push(item),
                    None => break,
                }
            }
            items
        }
    }
}
