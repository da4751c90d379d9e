//! Maps whose keys are removed as observed.
//!
//! ```text
//! map := count:varint  (key  store)*      in the order of keys
//! ```

use std::collections::BTreeMap;

use super::dots::{Dots, store_as_its_field};
use super::dotted::{DotStore, Dotted, Scope};
use super::element::Element;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::hlc::Stamp;
use crate::version::{Dot, VersionVector};

/// A map from keys to other replicated data types.
///
/// A key is there while what stands under it is live. Removing it removes what the remover had observed of it: a
/// concurrent update survives, with what it alone brought (the value is reset, not remembered).
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct OrMap<K, S> {
    entries: BTreeMap<K, S>,
}

impl<K, S> Default for OrMap<K, S> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<K: Element, S: DotStore> OrMap<K, S> {
    /// What stands under `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&S> {
        self.entries.get(key).filter(|store| store.is_live())
    }

    /// The keys and what stands under them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S)> {
        self.entries.iter().filter(|(_, store)| store.is_live())
    }

    /// The change that `change` makes to what stands under `key`. Give it the dot of the change to the whole map: one dot
    /// names one change, however deep.
    #[must_use]
    pub fn update(&self, key: K, change: impl FnOnce(&S) -> Dotted<S>) -> Dotted<Self>
    where
        S: Default,
    {
        let (value, context) = change(self.entries.get(&key).unwrap_or(&S::default())).into_parts();
        self.wrap(key, value, context)
    }

    /// [`OrMap::update`] of what may fail, and of stores that do not say what an empty one is.
    pub(crate) fn try_update<E>(
        &self,
        key: K,
        empty: &S,
        change: impl FnOnce(&S) -> Result<Dotted<S>, E>,
    ) -> Result<Dotted<Self>, E> {
        let (value, context) = change(self.entries.get(&key).unwrap_or(empty))?.into_parts();
        Ok(self.wrap(key, value, context))
    }

    fn wrap(&self, key: K, value: S, context: VersionVector) -> Dotted<Self> {
        let mut change = Self::default();
        if !value.is_bottom() {
            change.entries.insert(key, value);
        }
        Dotted::of(change, context)
    }

    /// The change that removes what is held here under `key` and seen in `seen`.
    #[must_use]
    pub fn remove(&self, key: &K, seen: &VersionVector) -> Dotted<Self> {
        let mut removed = Vec::new();
        let mut change = Self::default();
        if let Some((key, store)) = self.entries.get_key_value(key) {
            let traces = store.clear(seen, &mut removed);
            if !traces.is_bottom() {
                change.entries.insert(key.clone(), traces);
            }
        }
        Dotted::of(change, removed.into_iter().collect())
    }

    /// What is kept under `key`, live or not.
    pub(crate) fn kept(&self, key: &K) -> Option<&S> {
        self.entries.get(key)
    }

    /// Whether all keys fit what is kept under them.
    pub(crate) fn all_kept(&self, mut fits: impl FnMut(&K, &S) -> bool) -> bool {
        self.entries.iter().all(|(key, store)| fits(key, store))
    }
}

impl<K: Element, S: DotStore> DotStore for OrMap<K, S> {
    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_live(&self) -> bool {
        self.iter().next().is_some()
    }

    fn join(&mut self, seen: &VersionVector, other: &Self, other_seen: &VersionVector) {
        for (key, theirs) in &other.entries {
            if let Some(mine) = self.entries.get_mut(key) {
                mine.join(seen, theirs, other_seen);
            } else {
                let mut news = theirs.clone();
                news.forget(seen);
                self.entries.insert(key.clone(), news);
            }
        }
        self.entries.retain(|key, mine| {
            if !other.entries.contains_key(key) {
                mine.forget(other_seen);
            }
            !mine.is_bottom()
        });
    }

    fn forget(&mut self, other_seen: &VersionVector) {
        self.entries.retain(|_, store| {
            store.forget(other_seen);
            !store.is_bottom()
        });
    }

    fn clear(&self, seen: &VersionVector, removed: &mut Vec<Dot>) -> Self {
        let traces = self.entries.iter().map(|(key, store)| (key, store.clear(seen, removed)));
        let kept = traces.filter(|(_, trace)| !trace.is_bottom());
        Self { entries: kept.map(|(key, trace)| (key.clone(), trace)).collect() }
    }

    fn encode(&self, scope: Scope<'_>, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for (key, store) in &self.entries {
            key.encode(out);
            store.encode(scope, out);
        }
    }

    fn decode(reader: &mut Reader<'_>, scope: Scope<'_>) -> Result<Self, DecodeError> {
        let inner = scope.deeper(reader)?;
        // A key has at least a byte, and so has a store, which is not empty.
        let count = reader.count(2)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = K::decode(reader)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(reader.error("keys out of order"));
            }
            let store = S::decode(reader, inner)?;
            if store.is_bottom() {
                return Err(reader.error("a key with nothing under it"));
            }
            entries.insert(key, store);
        }
        Ok(Self { entries })
    }
}

/// A map from keys to values, of which the latest write stands.
///
/// A put replaces what its replica had observed under the key; of concurrent puts the one with the greater stamp is read, ties
/// going to the actor and then its count. The others are kept unread until a later put or a removal has observed them, because a
/// removal takes only what it observed: one that never saw the loser leaves it to be read. A put that a removal has not
/// observed survives it, whatever their stamps.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LwwMap<K, V>(OrMap<K, Dots<(Stamp, V)>>);

impl<K, V> Default for LwwMap<K, V> {
    fn default() -> Self {
        Self(OrMap::default())
    }
}

impl<K: Element, V: Element> LwwMap<K, V> {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).and_then(latest)
    }

    /// Keys and values, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().filter_map(|(key, writes)| latest(writes).map(|value| (key, value)))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().count()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.is_live()
    }

    /// The stamp that a put of `key` must top to be read: the greatest under it, or zero. Give it to
    /// [`Hlc::mint`](crate::Hlc::mint).
    #[must_use]
    pub fn stamp(&self, key: &K) -> Stamp {
        let writes = self.0.get(key).into_iter().flat_map(Dots::iter);
        writes.map(|(_, (stamp, _))| *stamp).max().unwrap_or(Stamp::ZERO)
    }

    /// The change that sets `key` to `value` as of `stamp`.
    #[must_use]
    pub fn put(&self, dot: Dot, stamp: Stamp, key: K, value: V) -> Dotted<Self> {
        self.0.update(key, |writes| writes.put(dot, (stamp, value), |_| true)).map(Self)
    }

    /// The change that removes what is held here under `key` and seen in `seen`.
    #[must_use]
    pub fn remove(&self, key: &K, seen: &VersionVector) -> Dotted<Self> {
        self.0.remove(key, seen).map(Self)
    }
}

fn latest<V: Element>(writes: &Dots<(Stamp, V)>) -> Option<&V> {
    writes.iter().max_by_key(|(dot, (stamp, _))| (*stamp, *dot)).map(|(_, (_, value))| value)
}

store_as_its_field!(LwwMap<K, V>);
