//! A set of dots: a version vector with exceptions.
//!
//! Held as runs of consecutive counters per actor, sorted, and never two runs where one would do. So equal sets are equal
//! bytes, the usual vector without exceptions is one run per actor, and a lost dot is a gap between runs.

use std::cmp::Ordering;

use super::{Actor, Dot};
use crate::codec::{DecodeError, Reader, put_varint};

/// Consecutive counters of one actor, both ends included.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Span {
    /// Whose counters.
    pub actor: Actor,
    /// The lowest, at least one.
    pub first: u64,
    /// The highest, at least `first`.
    pub last: u64,
}

/// How two sets of dots relate.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Causality {
    /// The same dots.
    Equal,
    /// The first saw less.
    Before,
    /// The first saw more.
    After,
    /// Each saw something that the other did not.
    Concurrent,
}

/// Up to so many runs, looking at each is faster than halving.
const SPANS_SCANNED_MAX: usize = 16;

/// A set of dots; as a causal context: the writes somebody has seen.
#[derive(Clone, Default, Eq, PartialEq, Hash, Debug)]
pub struct VersionVector {
    spans: Vec<Span>,
}

impl VersionVector {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { spans: Vec::new() }
    }

    /// The set of one dot.
    #[must_use]
    pub fn of(dot: Dot) -> Self {
        Self { spans: vec![Span { actor: dot.actor, first: dot.counter, last: dot.counter }] }
    }

    /// The set of the dots of `actor` with the counters from `first` to `last`.
    ///
    /// # Panics
    /// When there are none, or when `first` is zero, which names no write.
    #[must_use]
    pub fn run(actor: Actor, first: u64, last: u64) -> Self {
        assert!(0 < first && first <= last, "a run of counters that name writes");
        Self { spans: vec![Span { actor, first, last }] }
    }

    /// The runs, sorted by actor and counter, with a gap between any two of one actor.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether there is no dot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether `dot` is in the set.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        if self.spans.len() <= SPANS_SCANNED_MAX {
            let holds = |span: &Span| span.first <= dot.counter && dot.counter <= span.last && span.actor == dot.actor;
            return self.spans.iter().any(holds);
        }
        let after = self.spans.partition_point(|span| (span.actor, span.first) <= (dot.actor, dot.counter));
        after.checked_sub(1).is_some_and(|at| {
            let span = &self.spans[at];
            span.actor == dot.actor && dot.counter <= span.last
        })
    }

    /// The highest counter of `actor`, or zero.
    #[must_use]
    pub fn counter_max(&self, actor: Actor) -> u64 {
        let after = self.spans.partition_point(|span| span.actor <= actor);
        after.checked_sub(1).map_or(0, |at| if self.spans[at].actor == actor { self.spans[at].last } else { 0 })
    }

    /// Adds one dot.
    ///
    /// # Panics
    /// When the counter is zero, which names no write.
    pub fn insert(&mut self, dot: Dot) {
        assert!(dot.counter > 0, "counter zero names no write");
        let after = self.spans.partition_point(|span| (span.actor, span.first) <= (dot.actor, dot.counter));
        let extends_before = match after.checked_sub(1).map(|at| &self.spans[at]) {
            Some(before) if before.actor == dot.actor && dot.counter <= before.last => return,
            Some(before) => before.actor == dot.actor && dot.counter - 1 == before.last,
            None => false,
        };
        let extends_next = self
            .spans
            .get(after)
            .is_some_and(|next| next.actor == dot.actor && next.first.checked_sub(1) == Some(dot.counter));
        match (extends_before, extends_next) {
            (true, true) => self.spans[after - 1].last = self.spans.remove(after).last,
            (true, false) => self.spans[after - 1].last = dot.counter,
            (false, true) => self.spans[after].first = dot.counter,
            (false, false) => {
                self.spans.insert(after, Span { actor: dot.actor, first: dot.counter, last: dot.counter });
            }
        }
    }

    /// The union. Commutative, associative and idempotent.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        // Two replicas of one key have seen much the same, and their runs begin at the same dots: such pairs come first.
        let aligned = self.aligned(other);
        let longer = self.spans.len().max(other.spans.len());
        let mut spans: Vec<Span> = Vec::with_capacity(longer + usize::from(aligned < longer));
        let (mine, mut left) = self.spans.split_at(aligned);
        let (theirs, mut right) = other.spans.split_at(aligned);
        spans.extend(mine.iter().zip(theirs).map(|(a, b)| Span { last: a.last.max(b.last), ..*a }));
        if left.is_empty() && right.is_empty() {
            return Self { spans };
        }
        loop {
            let next = match (left.split_first(), right.split_first()) {
                (Some((a, rest)), Some((b, _))) if a <= b => {
                    left = rest;
                    *a
                }
                (_, Some((b, rest))) => {
                    right = rest;
                    *b
                }
                (Some((a, rest)), None) => {
                    left = rest;
                    *a
                }
                (None, None) => return Self { spans },
            };
            match spans.last_mut() {
                Some(last) if last.actor == next.actor && next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                _ => spans.push(next),
            }
        }
    }

    /// [Joins](VersionVector::join) `other` into this set.
    pub fn absorb(&mut self, other: &Self) {
        if self.aligned(other) == other.spans.len() && self.spans.len() == other.spans.len() {
            for (mine, theirs) in self.spans.iter_mut().zip(&other.spans) {
                mine.last = mine.last.max(theirs.last);
            }
        } else if !self.covers(other) {
            *self = self.join(other);
        }
    }

    /// The actors, in order.
    #[must_use]
    pub fn actors(&self) -> Vec<Actor> {
        self.spans.chunk_by(|a, b| a.actor == b.actor).map(|run| run[0].actor).collect()
    }

    /// Whether every dot of `other` is here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut mine = self.spans.as_slice();
        other.spans.iter().all(|wanted| {
            while let Some((span, rest)) = mine.split_first() {
                if span.actor > wanted.actor || (span.actor == wanted.actor && span.last >= wanted.first) {
                    // Runs are never adjacent, so one run must hold all of the wanted one.
                    return span.actor == wanted.actor && span.first <= wanted.first && wanted.last <= span.last;
                }
                mine = rest;
            }
            false
        })
    }

    /// How this set relates to `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Causality {
        let aligned = self.aligned(other);
        let covers = if aligned == self.spans.len() && aligned == other.spans.len() {
            self.spans
                .iter()
                .zip(&other.spans)
                .fold((true, true), |(mine, theirs), (a, b)| (mine & (a.last >= b.last), theirs & (a.last <= b.last)))
        } else {
            (self.covers(other), other.covers(self))
        };
        match covers {
            (true, true) => Causality::Equal,
            (false, true) => Causality::Before,
            (true, false) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// How many runs of both, from the front, begin at the same dots. All but the last of such a pair lie between the same
    /// two dots, and can be looked at by themselves.
    fn aligned(&self, other: &Self) -> usize {
        let begin_alike = |(a, b): &(&Span, &Span)| a.first == b.first && a.actor == b.actor;
        self.spans.iter().zip(&other.spans).take_while(begin_alike).count()
    }

    /// Appends the encoding: count of actors; per actor: actor, count of runs, and per run the distance from the end of
    /// the one before and its length less one, as varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let groups = || self.spans.chunk_by(|a, b| a.actor == b.actor);
        put_varint(out, groups().count() as u64);
        for group in groups() {
            group[0].actor.encode(out);
            put_varint(out, group.len() as u64);
            let mut end = 0;
            for span in group {
                put_varint(out, span.first - end);
                put_varint(out, span.last - span.first);
                end = span.last;
            }
        }
    }

    /// Reads what [`VersionVector::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a set in its one canonical form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let actors = reader.count(Actor::BYTES_MIN + 3)?;
        let mut spans: Vec<Span> = Vec::with_capacity(actors);
        for _ in 0..actors {
            let at = reader.offset();
            let actor = Actor::decode(reader)?;
            if spans.last().is_some_and(|last| last.actor.cmp(&actor) != Ordering::Less) {
                return Err(DecodeError { offset: at, what: "actors out of order" });
            }
            let runs = reader.count(2)?;
            if runs == 0 {
                return Err(reader.error("an actor without counters"));
            }
            let mut end = 0_u64;
            for run in 0..runs {
                let distance = reader.varint()?;
                // The first counter is at least one; a later run leaves a gap of at least one.
                if distance < if run == 0 { 1 } else { 2 } {
                    return Err(reader.error("runs of counters that touch"));
                }
                let overflow = reader.error("counter does not fit 64 bits");
                let first = end.checked_add(distance).ok_or(overflow)?;
                let last = first.checked_add(reader.varint()?).ok_or(overflow)?;
                spans.push(Span { actor, first, last });
                end = last;
            }
        }
        Ok(Self { spans })
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut dots: Vec<Dot> = dots.into_iter().collect();
        dots.sort_unstable();
        let mut all = Self::new();
        for dot in dots {
            all.insert(dot);
        }
        all
    }
}

#[cfg(test)]
mod tests;
