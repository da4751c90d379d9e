//! Values under dots: the part of the store that sets, flags and registers are made of.
//!
//! ```text
//! dots := count:varint  (dot  value)*     in the order of dots
//! ```

use super::dotted::{DotStore, Dotted, Scope};
use super::element::Element;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::version::{Dot, VersionVector, join_entries};

/// Values under dots, none of which has seen another.
///
/// What the delta papers call a dot function; over `()` it is their dot set.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Dots<V> {
    entries: Vec<(Dot, V)>,
}

impl<V> Default for Dots<V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<V: Element> Dots<V> {
    /// The values, in the order of dots.
    pub fn iter(&self) -> impl Iterator<Item = (Dot, &V)> {
        self.entries.iter().map(|(dot, value)| (*dot, value))
    }

    /// The change that puts `value` under `dot` and replaces what is here and passes `replaces`.
    #[must_use]
    pub fn put(&self, dot: Dot, value: V, replaces: impl Fn(&V) -> bool) -> Dotted<Self> {
        self.put_over(dot, value, |_, held, _| replaces(held))
    }

    /// The change that puts `value` under `dot` and replaces what is here and was seen in `seen`, or is the same value: a write that
    /// is asked for again does not stand beside itself.
    #[must_use]
    pub fn put_seen(&self, dot: Dot, value: V, seen: &VersionVector) -> Dotted<Self> {
        self.put_over(dot, value, |under, held, value| seen.contains(under) || held == value)
    }

    fn put_over(&self, dot: Dot, value: V, replaces: impl Fn(Dot, &V, &V) -> bool) -> Dotted<Self> {
        let replaced = self.entries.iter().filter(|(under, held)| replaces(*under, held, &value));
        let context = replaced.map(|(under, _)| *under).chain([dot]).collect();
        Dotted::of(Self { entries: vec![(dot, value)] }, context)
    }
}

impl<V: Element> DotStore for Dots<V> {
    fn is_bottom(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_live(&self) -> bool {
        !self.is_bottom()
    }

    fn join(&mut self, seen: &VersionVector, other: &Self, other_seen: &VersionVector) {
        if other.is_bottom() {
            self.forget(other_seen);
        } else {
            self.entries = join_entries((&self.entries, seen), (&other.entries, other_seen));
        }
    }

    fn forget(&mut self, other_seen: &VersionVector) {
        self.entries.retain(|(dot, _)| !other_seen.contains(*dot));
    }

    fn clear(&self, seen: &VersionVector, removed: &mut Vec<Dot>) -> Self {
        removed.extend(self.entries.iter().map(|(dot, _)| *dot).filter(|dot| seen.contains(*dot)));
        Self::default()
    }

    fn encode(&self, scope: Scope<'_>, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for (dot, value) in &self.entries {
            scope.put_dot(*dot, out);
            value.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>, scope: Scope<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(Scope::DOT_BYTES_MIN)?;
        let mut entries: Vec<(Dot, V)> = Vec::new();
        for _ in 0..count {
            let dot = scope.dot(reader)?;
            if entries.last().is_some_and(|(last, _)| *last >= dot) {
                return Err(reader.error("dots out of order"));
            }
            entries.push((dot, V::decode(reader)?));
        }
        Ok(Self { entries })
    }
}

/// Makes a type with one field of [`Dots`] or [`OrMap`](super::OrMap) a [`DotStore`] that does as the field does.
macro_rules! store_as_its_field {
    ($name:ident $(<$($parameter:ident),*>)?) => {
        impl $(<$($parameter: $crate::crdt::element::Element),*>)? $crate::crdt::dotted::DotStore
            for $name $(<$($parameter),*>)?
        {
            fn is_bottom(&self) -> bool {
                self.0.is_bottom()
            }

            fn is_live(&self) -> bool {
                self.0.is_live()
            }

            fn join(
                &mut self,
                seen: &$crate::version::VersionVector,
                other: &Self,
                other_seen: &$crate::version::VersionVector,
            ) {
                self.0.join(seen, &other.0, other_seen);
            }

            fn forget(&mut self, other_seen: &$crate::version::VersionVector) {
                self.0.forget(other_seen);
            }

            fn clear(
                &self,
                seen: &$crate::version::VersionVector,
                removed: &mut Vec<$crate::version::Dot>,
            ) -> Self {
                Self(self.0.clear(seen, removed))
            }

            fn encode(&self, scope: $crate::crdt::dotted::Scope<'_>, out: &mut Vec<u8>) {
                self.0.encode(scope, out);
            }

            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
                scope: $crate::crdt::dotted::Scope<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                $crate::crdt::dotted::DotStore::decode(reader, scope).map(Self)
            }
        }
    };
}
pub(crate) use store_as_its_field;
