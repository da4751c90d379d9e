//! The dotted causal store: a value whose parts stand under dots, and the context of everything that was seen.
//!
//! ```text
//! dotted := version vector  value
//! dot    := index of the actor among those of the version vector:varint  counter:varint
//! ```

use crate::codec::{DecodeError, Reader, put_varint};
use crate::limits::CRDT_DEPTH_MAX;
use crate::version::{Actor, Dot, VersionVector};

/// What stands under dots. Implemented by every data type of this module, and by maps of them.
///
/// A store by itself does not know what was seen; [`Dotted`] pairs it with the context. The dots of a store lie in that
/// context.
pub trait DotStore: Clone + Eq + std::fmt::Debug {
    /// Whether nothing is kept: neither a live part nor a trace of a removed one.
    fn is_bottom(&self) -> bool;

    /// Whether any part is live, so that a map shows the key it stands under.
    fn is_live(&self) -> bool;

    /// Joins `other`, whose side has seen `other_seen`, into this store, whose side has seen `seen`: a part goes when the
    /// side that lacks it has seen its dot, and for no other reason.
    fn join(&mut self, seen: &VersionVector, other: &Self, other_seen: &VersionVector);

    /// Joins an empty store whose side has seen `other_seen`: what that covers goes.
    fn forget(&mut self, other_seen: &VersionVector);

    /// Decides the removal of every part whose dot is in `seen`: pushes the dots onto `removed`, and returns the store that
    /// the change carries, which is empty for all but counters.
    #[must_use]
    fn clear(&self, seen: &VersionVector, removed: &mut Vec<Dot>) -> Self;

    /// Appends the encoding, in which dots are short because `scope` knows the actors.
    fn encode(&self, scope: Scope<'_>, out: &mut Vec<u8>);

    /// Reads what [`DotStore::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a store in its one encoding, with all dots in the context.
    fn decode(reader: &mut Reader<'_>, scope: Scope<'_>) -> Result<Self, DecodeError>;
}

/// A replica's state of one value, or a change to it: both join alike, in any order, any number of times.
///
/// A change carries only what it adds and the dots that it replaces or removes, so it is small whatever the size of the state.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Dotted<S> {
    value: S,
    context: VersionVector,
}

impl<S: DotStore> Dotted<S> {
    /// A state or change of these parts. The dots of `value` must lie in `context`.
    #[must_use]
    pub(crate) const fn of(value: S, context: VersionVector) -> Self {
        Self { value, context }
    }

    /// The value, to be read.
    #[must_use]
    pub const fn value(&self) -> &S {
        &self.value
    }

    /// Every dot that was seen.
    #[must_use]
    pub const fn context(&self) -> &VersionVector {
        &self.context
    }

    /// The dot that `actor` gives its next change of this state: above what the state has seen of it, and above
    /// `counter_floor`.
    ///
    /// # Panics
    /// When 64 bits of counter are used up.
    #[must_use]
    pub fn next_dot(&self, actor: Actor, counter_floor: u64) -> Dot {
        let used = self.context.counter_max(actor).max(counter_floor);
        Dot { actor, counter: used.checked_add(1).expect("64 bits of counter outlast any actor") }
    }

    /// Changes this state as `actor`, and returns the change for the other replicas to [absorb](Dotted::absorb).
    ///
    /// The change is named by its dot even when it only removes, so that whoever has seen the change can be told from
    /// whoever has not.
    pub fn apply(&mut self, actor: Actor, change: impl FnOnce(&S, Dot) -> Self) -> Self {
        let dot = self.next_dot(actor, 0);
        let mut change = change(&self.value, dot);
        change.context.insert(dot);
        self.absorb(&change);
        change
    }

    /// The change that removes what is held here and seen in `seen`; pass [`Dotted::context`] to remove all that is here.
    ///
    /// What `seen` does not cover survives. A counter that has counted on since `seen` keeps its present sum of that actor,
    /// because what it was at `seen` is no longer known; see [`PnCounter`](super::PnCounter).
    #[must_use]
    pub fn clear(&self, seen: &VersionVector) -> Self {
        let mut removed = Vec::new();
        let value = self.value.clear(seen, &mut removed);
        Self { value, context: removed.into_iter().collect() }
    }

    /// The least state that has seen what both have seen. Commutative, associative and idempotent.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        joined.absorb(other);
        joined
    }

    /// [Joins](Dotted::join) another state or a change into this one.
    pub fn absorb(&mut self, other: &Self) {
        self.value.join(&self.context, &other.value, &other.context);
        self.context.absorb(&other.context);
    }

    /// Covers a dot that stands for nothing in the value.
    pub(crate) fn cover(&mut self, dot: Dot) {
        self.context.insert(dot);
    }

    /// The same parts under another type of store.
    pub(crate) fn map<T: DotStore>(self, wrap: impl FnOnce(S) -> T) -> Dotted<T> {
        Dotted { value: wrap(self.value), context: self.context }
    }

    pub(crate) fn into_parts(self) -> (S, VersionVector) {
        (self.value, self.context)
    }

    /// Appends the encoding. Equal states have equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.context.encode(out);
        self.encode_value(out);
    }

    /// Appends the encoding without the context.
    pub(crate) fn encode_value(&self, out: &mut Vec<u8>) {
        let actors = self.context.actors();
        self.value.encode(Scope::new(&self.context, &actors), out);
    }

    /// Reads what [`Dotted::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a state in its one encoding.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let context = VersionVector::decode(reader)?;
        Self::decode_value(reader, context)
    }

    /// Reads what [`Dotted::encode_value`] wrote.
    pub(crate) fn decode_value(reader: &mut Reader<'_>, context: VersionVector) -> Result<Self, DecodeError> {
        let actors = context.actors();
        let value = S::decode(reader, Scope::new(&context, &actors))?;
        Ok(Self { value, context })
    }
}

/// What encoding and decoding need to know besides the bytes: the context, its actors, and how much deeper maps may nest.
#[derive(Copy, Clone, Debug)]
pub struct Scope<'a> {
    context: &'a VersionVector,
    actors: &'a [Actor],
    depth_left: usize,
}

impl<'a> Scope<'a> {
    /// Fewest bytes of a dot.
    pub const DOT_BYTES_MIN: usize = 2;

    pub(crate) const fn new(context: &'a VersionVector, actors: &'a [Actor]) -> Self {
        Self { context, actors, depth_left: CRDT_DEPTH_MAX }
    }

    /// Appends a dot of the context.
    ///
    /// # Panics
    /// When it is not of an actor of the context.
    pub fn put_dot(&self, dot: Dot, out: &mut Vec<u8>) {
        let index = self.actors.binary_search(&dot.actor).expect("the dots of a value lie in its context");
        put_varint(out, index as u64);
        put_varint(out, dot.counter);
    }

    /// Reads a dot, which must lie in the context.
    ///
    /// # Errors
    /// When it does not.
    pub fn dot(&self, reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
        let index = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let actor = *self.actors.get(index).ok_or_else(|| reader.error("index of an actor"))?;
        let dot = Dot { actor, counter: reader.varint()? };
        if self.context.contains(dot) { Ok(dot) } else { Err(reader.error("a dot outside the context")) }
    }

    /// The scope of what lies in a map of this one.
    ///
    /// # Errors
    /// When maps nest deeper than [`CRDT_DEPTH_MAX`].
    pub fn deeper(self, reader: &Reader<'_>) -> Result<Self, DecodeError> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| reader.error("maps nested too deep"))?;
        Ok(Self { depth_left, ..self })
    }
}
