//! What a database should hold: a sorted map for each keyspace, and what each operation does to it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use kv_core::time::Millis;

use super::clock;

/// The keyspaces of every run: two plain ones, one whose merges append, and one where everything expires.
pub const KEYSPACES: [&str; 4] = ["plain", "other", "merged", "expiring"];
/// Index of the one with a merge operator.
pub const MERGED: usize = 2;
/// Index of the one with a default time to live.
pub const EXPIRING: usize = 3;
/// That time.
pub const DEFAULT_TTL: Millis = Millis(40);

/// One write of a batch; keyspaces by their index in [`KEYSPACES`].
#[derive(Clone, Debug)]
pub enum Operation {
    /// Keyspace, key, value.
    Put(usize, Vec<u8>, Vec<u8>),
    /// Keyspace, but not [`MERGED`], key, value, and when it expires.
    PutExpiring(usize, Vec<u8>, Vec<u8>, Millis),
    /// Keyspace, key.
    Delete(usize, Vec<u8>),
    /// Keyspace, first key, key behind the last.
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    /// In [`MERGED`] only: key, operand. See [`join`].
    Merge(Vec<u8>, Vec<u8>),
}

/// Everything in a database, as of a time. Clones share keys and values.
#[derive(Clone, Default)]
pub struct Content {
    keyspaces: [BTreeMap<Bytes, Bytes>; KEYSPACES.len()],
    /// When those of the entries expire that do.
    expiries: BTreeMap<(usize, Bytes), Millis>,
    now: Millis,
}

/// Two contents are the same when they read the same now.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.keyspaces == other.keyspaces
    }
}

impl Eq for Content {}

impl Content {
    /// Nothing, now.
    #[must_use]
    pub fn new() -> Self {
        Self { now: clock::now(), ..Self::default() }
    }

    /// Time passes: what has expired by then is gone.
    pub fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
        let now = self.now;
        let Self { expiries, keyspaces, .. } = self;
        expiries.retain(|(keyspace, key), expire_at| {
            let expired = *expire_at <= now;
            if expired {
                keyspaces[*keyspace].remove(key);
            }
            !expired
        });
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, keyspace: usize, key: &[u8]) -> Option<&[u8]> {
        self.keyspaces[keyspace].get(key).map(|value| &**value)
    }

    /// The map of one keyspace.
    #[must_use]
    pub const fn keyspace(&self, keyspace: usize) -> &BTreeMap<Bytes, Bytes> {
        &self.keyspaces[keyspace]
    }

    /// Puts a value.
    pub fn insert(&mut self, keyspace: usize, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let key = key.into();
        self.forget_expiry(keyspace, &key);
        self.keyspaces[keyspace].insert(key, value.into());
    }

    /// Puts a value that expires.
    pub fn insert_expiring(
        &mut self,
        keyspace: usize,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        expire_at: Millis,
    ) {
        let key = key.into();
        if expire_at <= self.now {
            return self.remove(keyspace, &key);
        }
        self.expiries.insert((keyspace, key.clone()), expire_at);
        self.keyspaces[keyspace].insert(key, value.into());
    }

    /// The keyspace is dropped, and created anew.
    pub fn clear(&mut self, keyspace: usize) {
        self.keyspaces[keyspace].clear();
        self.expiries.retain(|(other, _), _| *other != keyspace);
    }

    fn remove(&mut self, keyspace: usize, key: &Bytes) {
        self.forget_expiry(keyspace, key);
        self.keyspaces[keyspace].remove(key);
    }

    fn forget_expiry(&mut self, keyspace: usize, key: &Bytes) {
        if !self.expiries.is_empty() {
            self.expiries.remove(&(keyspace, key.clone()));
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyspaces.iter().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every keyspace, key and value.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &Bytes, &Bytes)> {
        self.keyspaces
            .iter()
            .enumerate()
            .flat_map(|(index, map)| map.iter().map(move |(key, value)| (index, key, value)))
    }

    /// Applies one operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Put(EXPIRING, key, value) => {
                let expire_at = self.now.saturating_add(DEFAULT_TTL);
                self.insert_expiring(EXPIRING, key.clone(), value.clone(), expire_at);
            }
            Operation::Put(keyspace, key, value) => self.insert(*keyspace, key.clone(), value.clone()),
            Operation::PutExpiring(keyspace, key, value, expire_at) => {
                self.insert_expiring(*keyspace, key.clone(), value.clone(), *expire_at);
            }
            Operation::Delete(keyspace, key) => self.remove(*keyspace, &key.clone().into()),
            Operation::DeleteRange(keyspace, start, end) => {
                if start < end {
                    let range = self.keyspaces[*keyspace].range(Bytes::from(start.clone())..Bytes::from(end.clone()));
                    let gone: Vec<Bytes> = range.map(|(key, _)| key.clone()).collect();
                    gone.iter().for_each(|key| self.remove(*keyspace, key));
                }
            }
            Operation::Merge(key, operand) => {
                let base = self.get(MERGED, key);
                match join(base, &[operand]) {
                    Some(value) => self.insert(MERGED, key.clone(), value),
                    None => drop(self.keyspaces[MERGED].remove(key.as_slice())),
                }
            }
        }
    }

    /// The keys on which two contents differ, for a message.
    #[must_use]
    pub fn difference(&self, found: &Self) -> Vec<String> {
        let show = |value: Option<&[u8]>| {
            value.map(|value| {
                let text = String::from_utf8_lossy(value);
                let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
                format!("{} ({} bytes)", &text[..end], value.len())
            })
        };
        let mut lines = Vec::new();
        for (index, name) in KEYSPACES.iter().enumerate() {
            let mut keys: Vec<_> = self.keyspaces[index].keys().chain(found.keyspaces[index].keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys.into_iter().filter(|key| self.get(index, key) != found.get(index, key)) {
                let (wanted, found) = (show(self.get(index, key)), show(found.get(index, key)));
                lines.push(format!("{name}/{}: wanted {wanted:?}, found {found:?}", String::from_utf8_lossy(key)));
            }
        }
        lines
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.len())
    }
}

/// Empties the value; at the end of it, the key is absent.
pub const RESET: u8 = b'!';

/// What the merge operator makes of a base and operands: all of them in a row, from behind the last [`RESET`] on, so that the
/// order shows and nothing is ever the same twice. `None` when nothing follows the last reset.
#[must_use]
pub fn join(base: Option<&[u8]>, oldest_first: &[&[u8]]) -> Option<Vec<u8>> {
    let mut value = base.unwrap_or_default().to_vec();
    for operand in oldest_first {
        value.extend_from_slice(operand);
    }
    match value.iter().rposition(|&byte| byte == RESET) {
        Some(at) if at + 1 == value.len() => None,
        Some(at) => Some(value.split_off(at + 1)),
        None => Some(value),
    }
}
