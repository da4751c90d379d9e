//! Registers: one value, or as many as were written without having seen each other.

use std::collections::BTreeSet;

use super::dots::{Dots, store_as_its_field};
use super::dotted::Dotted;
use super::element::Element;
use crate::version::{Dot, VersionVector};

/// A register that keeps every concurrent write until a later one has observed it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MvRegister<V>(Dots<V>);

/// A register that only rises: it reads as the greatest value that was offered and not removed.
///
/// An offer that does not top what its replica holds changes nothing, as if it had come before; a removal that has
/// observed the greater value leaves nothing of it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MaxRegister<V>(Dots<V>);

/// A register that only falls: it reads as the least value that was offered and not removed. Otherwise as [`MaxRegister`].
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MinRegister<V>(Dots<V>);

impl<V: Element> MvRegister<V> {
    /// The values, each once, in order: replicas that have not heard of each other may hold one value under two dots.
    #[must_use]
    pub fn values(&self) -> Vec<&V> {
        self.0.iter().map(|(_, value)| value).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The change that writes `value` in place of the writes that are held here.
    #[must_use]
    pub fn write(&self, dot: Dot, value: V) -> Dotted<Self> {
        self.0.put(dot, value, |_| true).map(Self)
    }

    /// The same in place of those that are held here and seen in `seen`, or of the same value; the others stand beside it.
    #[must_use]
    pub fn write_seen(&self, dot: Dot, value: V, seen: &VersionVector) -> Dotted<Self> {
        self.0.put_seen(dot, value, seen).map(Self)
    }
}

impl<V: Element> MaxRegister<V> {
    /// The greatest value.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        self.0.iter().map(|(_, value)| value).max()
    }

    /// The change that raises it to `value`.
    #[must_use]
    pub fn offer(&self, dot: Dot, value: V) -> Dotted<Self> {
        match self.value() {
            Some(held) if *held >= value => Dotted::default(),
            _ => self.0.put(dot, value, |_| true).map(Self),
        }
    }
}

impl<V: Element> MinRegister<V> {
    /// The least value.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        self.0.iter().map(|(_, value)| value).min()
    }

    /// The change that lowers it to `value`.
    #[must_use]
    pub fn offer(&self, dot: Dot, value: V) -> Dotted<Self> {
        match self.value() {
            Some(held) if *held <= value => Dotted::default(),
            _ => self.0.put(dot, value, |_| true).map(Self),
        }
    }
}

macro_rules! empty_register {
    ($name:ident) => {
        impl<V> Default for $name<V> {
            fn default() -> Self {
                Self(Dots::default())
            }
        }
    };
}

empty_register!(MvRegister);
empty_register!(MaxRegister);
empty_register!(MinRegister);

store_as_its_field!(MvRegister<V>);
store_as_its_field!(MaxRegister<V>);
store_as_its_field!(MinRegister<V>);
