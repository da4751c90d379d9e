//! A counter that goes up and down, and can be reset.
//!
//! ```text
//! counter := count:varint  tally*                                  in the order of actors
//! tally   := dot  total:signed varint  cleared counter:varint  [cleared total:signed varint]  operations:u8  operation:u128 *
//! ```
//!
//! The cleared total is there when the cleared counter is not zero.

use thiserror::Error;

use super::dotted::{DotStore, Dotted, Scope};
use super::element::Element;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::operation::OperationId;
use crate::version::{Actor, Dot, VersionVector};

/// A positive-negative counter.
///
/// Each actor keeps one running total under its latest dot, and next to it how much of that total was cleared, and at which
/// dot. The value is the sum of what was not cleared. So a removal takes exactly what it observed: what was counted
/// meanwhile elsewhere stays, and two removals at once take it once. The price is a few bytes for each actor that
/// ever counted, which outlive a removal.
///
/// The counters of the literature that keep only the running total bring all of it back when an actor counts on
/// while a removal is under way (Baquero, Almeida, Lerche, "The problem with embedded CRDT counters and a solution", PaPoC
/// 2016).
///
/// An actor knows its [last operations](PnCounter::OPERATIONS_MAX) by name, so a retry that reaches it soon enough counts once, or
/// reaches whoever has heard of it. A retry that reaches an actor which has not counts twice.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct PnCounter {
    /// In the order of actors.
    tallies: Vec<Tally>,
}

/// What one actor has counted.
#[derive(Clone, Eq, PartialEq, Debug)]
struct Tally {
    /// The latest change.
    dot: Dot,
    /// The sum of all its changes up to and including that one.
    total: i64,
    /// The counter of the latest dot that a removal has observed, or zero.
    cleared_counter: u64,
    /// The total at that dot.
    cleared_total: i64,
    /// The names of its latest changes, the last one last.
    operations: Vec<OperationId>,
}

/// A total of one actor would not fit 64 bits. Nothing was changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("{actor:?} has counted {total}, and {amount} more does not fit 64 bits")]
pub struct CounterOverflow {
    /// Who counts.
    pub actor: Actor,
    /// Its total so far, removed parts included.
    pub total: i64,
    /// What was to be added.
    pub amount: i64,
}

impl PnCounter {
    /// How many of its latest operations an actor knows by name.
    pub const OPERATIONS_MAX: usize = 8;

    /// Everything counted and not removed.
    #[must_use]
    pub fn value(&self) -> i128 {
        self.tallies.iter().map(|tally| i128::from(tally.total) - i128::from(tally.cleared_total)).sum()
    }

    /// The dot under which an actor last counted that knows `operation` by name, whoever it is: then the operation was
    /// counted, and its count is in this state.
    #[must_use]
    pub fn counted(&self, operation: OperationId) -> Option<Dot> {
        self.tally_of(operation).map(|tally| tally.dot)
    }

    /// The change that adds `amount`, which may be negative. An operation that is [known](PnCounter::counted) here changes nothing,
    /// and the change says again what its actor has counted.
    ///
    /// # Errors
    /// [`CounterOverflow`].
    pub fn add(&self, dot: Dot, amount: i64, operation: Option<OperationId>) -> Result<Dotted<Self>, CounterOverflow> {
        if let Some(tally) = operation.and_then(|operation| self.tally_of(operation)) {
            return Ok(Dotted::of(Self { tallies: vec![tally.clone()] }, VersionVector::of(tally.dot)));
        }
        let before = self.tally(dot.actor);
        let total = before.map_or(0, |tally| tally.total);
        let overflow = CounterOverflow { actor: dot.actor, total, amount };
        let mut operations = before.map(|tally| tally.operations.clone()).unwrap_or_default();
        if let Some(operation) = operation {
            if operations.len() == Self::OPERATIONS_MAX {
                operations.remove(0);
            }
            operations.push(operation);
        }
        let tally = Tally {
            dot,
            total: total.checked_add(amount).ok_or(overflow)?,
            cleared_counter: 0,
            cleared_total: 0,
            operations,
        };
        let context = before.map(|tally| tally.dot).into_iter().chain([dot]).collect();
        Ok(Dotted::of(Self { tallies: vec![tally] }, context))
    }

    fn tally_of(&self, operation: OperationId) -> Option<&Tally> {
        self.tallies.iter().find(|tally| tally.operations.contains(&operation))
    }

    fn tally(&self, actor: Actor) -> Option<&Tally> {
        self.tallies.binary_search_by(|tally| tally.dot.actor.cmp(&actor)).ok().map(|at| &self.tallies[at])
    }
}

impl Tally {
    fn is_live(&self) -> bool {
        self.cleared_counter < self.dot.counter
    }

    /// Of two totals of one actor the later contains the earlier. (Equal counters have equal totals; should a broken peer prove
    /// otherwise, the greater stays, so that replicas still agree.)
    fn join(&mut self, other: &Self) {
        let order = |tally: &Self| (tally.dot.counter, tally.total);
        if (order(other), &other.operations) > (order(self), &self.operations) {
            self.dot = other.dot;
            self.total = other.total;
            self.operations.clone_from(&other.operations);
        }
        let cleared = (self.cleared_counter, self.cleared_total).max((other.cleared_counter, other.cleared_total));
        (self.cleared_counter, self.cleared_total) = cleared;
    }
}

impl DotStore for PnCounter {
    fn is_bottom(&self) -> bool {
        self.tallies.is_empty()
    }

    fn is_live(&self) -> bool {
        self.tallies.iter().any(Tally::is_live)
    }

    /// Looks at no context: a total contains the earlier ones of its actor, and a removal says what it removes.
    fn join(&mut self, _seen: &VersionVector, other: &Self, _other_seen: &VersionVector) {
        for theirs in &other.tallies {
            match self.tallies.binary_search_by(|mine| mine.dot.actor.cmp(&theirs.dot.actor)) {
                Ok(at) => self.tallies[at].join(theirs),
                Err(at) => self.tallies.insert(at, theirs.clone()),
            }
        }
    }

    fn forget(&mut self, _other_seen: &VersionVector) {}

    fn clear(&self, seen: &VersionVector, removed: &mut Vec<Dot>) -> Self {
        let observed = self.tallies.iter().filter(|tally| tally.is_live() && seen.contains(tally.dot));
        let cleared = observed.map(|tally| {
            removed.push(tally.dot);
            Tally { cleared_counter: tally.dot.counter, cleared_total: tally.total, ..tally.clone() }
        });
        Self { tallies: cleared.collect() }
    }

    fn encode(&self, scope: Scope<'_>, out: &mut Vec<u8>) {
        put_varint(out, self.tallies.len() as u64);
        for tally in &self.tallies {
            scope.put_dot(tally.dot, out);
            tally.total.encode(out);
            put_varint(out, tally.cleared_counter);
            if tally.cleared_counter > 0 {
                tally.cleared_total.encode(out);
            }
            out.push(u8::try_from(tally.operations.len()).expect("at most OPERATIONS_MAX"));
            for operation in &tally.operations {
                out.extend_from_slice(&operation.0.to_le_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, scope: Scope<'_>) -> Result<Self, DecodeError> {
        let count = reader.count(Scope::DOT_BYTES_MIN + 3)?;
        let mut tallies: Vec<Tally> = Vec::new();
        for _ in 0..count {
            let dot = scope.dot(reader)?;
            if tallies.last().is_some_and(|last| last.dot.actor >= dot.actor) {
                return Err(reader.error("actors of a counter out of order"));
            }
            let total = i64::decode(reader)?;
            let cleared_counter = reader.varint()?;
            if cleared_counter > dot.counter {
                return Err(reader.error("more cleared than counted"));
            }
            let cleared_total = if cleared_counter > 0 { i64::decode(reader)? } else { 0 };
            if cleared_counter == dot.counter && cleared_total != total {
                return Err(reader.error("a counter cleared of more or less than it counted"));
            }
            let operations = usize::from(reader.u8()?);
            if operations > Self::OPERATIONS_MAX {
                return Err(reader.error("more operations than a counter remembers"));
            }
            let operations = (0..operations)
                .map(|_| reader.array().map(|name| OperationId(u128::from_le_bytes(name))))
                .collect::<Result<_, _>>()?;
            tallies.push(Tally { dot, total, cleared_counter, cleared_total, operations });
        }
        Ok(Self { tallies })
    }
}
