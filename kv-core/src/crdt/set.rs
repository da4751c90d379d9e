//! A set whose elements are removed as observed.

use super::dots::{Dots, store_as_its_field};
use super::dotted::{DotStore, Dotted};
use super::element::Element;
use super::map::OrMap;
use crate::version::{Dot, VersionVector};

/// An observed-remove set: of a concurrent insert and removal of one element, the insert survives.
///
/// ```
/// use kv_core::NodeId;
/// use kv_core::crdt::{Dotted, OrSet};
/// use kv_core::version::{Actor, Incarnation};
///
/// let actor = |node| Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 };
/// let mut left = Dotted::<OrSet<String>>::default();
/// let first = left.apply(actor(1), |set, dot| set.insert(dot, "milk".to_owned()));
///
/// let mut right = Dotted::default();
/// right.absorb(&first);
///
/// // At once: the left removes the milk, the right puts it in again, and bread beside it.
/// let seen = left.context().clone();
/// let removal = left.apply(actor(1), |set, _| set.remove(&"milk".to_owned(), &seen));
/// let again = right.apply(actor(2), |set, dot| set.insert(dot, "milk".to_owned()));
/// let bread = right.apply(actor(2), |set, dot| set.insert(dot, "bread".to_owned()));
///
/// right.absorb(&removal);
/// left.absorb(&bread);
/// left.absorb(&again);
/// assert_eq!(left, right);
/// assert!(left.value().iter().eq(["bread", "milk"]));
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct OrSet<E>(OrMap<E, Dots<()>>);

impl<E> Default for OrSet<E> {
    fn default() -> Self {
        Self(OrMap::default())
    }
}

impl<E: Element> OrSet<E> {
    /// Whether `element` is in the set.
    #[must_use]
    pub fn contains(&self, element: &E) -> bool {
        self.0.get(element).is_some()
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.0.iter().map(|(element, _)| element)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().count()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.is_live()
    }

    /// The change that inserts `element`, in place of the inserts of it that are held here.
    #[must_use]
    pub fn insert(&self, dot: Dot, element: E) -> Dotted<Self> {
        self.0.update(element, |inserts| inserts.put(dot, (), |()| true)).map(Self)
    }

    /// The change that removes those inserts of `element` that are held here and seen in `seen`.
    #[must_use]
    pub fn remove(&self, element: &E, seen: &VersionVector) -> Dotted<Self> {
        self.0.remove(element, seen).map(Self)
    }
}

store_as_its_field!(OrSet<E>);
