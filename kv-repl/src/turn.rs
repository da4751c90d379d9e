//! What one turn of a node has decided so far, and the store as it looks with that.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use kv_core::record::RecordJoin;
use kv_core::store::{
    Batch, Corrupt, Direction, Fold, Folded, KeyRange, MergeOperator, Operation, ScanFn, Space, StoreError,
};
use kv_core::time::Millis;
use kv_core::{NodeId, View};

use crate::machine::{Outcome, Release, Stripe};
use crate::message::Message;

/// Decisions of a turn that are not carried out yet.
pub(crate) struct Turn<'a> {
    store: &'a dyn View,
    batch: Batch,
    touched: Vec<Stripe>,
    changed: BTreeMap<(Space, Vec<u8>), Change>,
    pub(crate) outputs: Vec<Output>,
}

/// What an output takes besides the record that it carries, about.
const OUTPUT_BYTES: usize = 256;

/// What leaves a turn.
#[derive(Debug)]
pub(crate) enum Output {
    Send {
        to: NodeId,
        message: Message,
        release: Release,
    },
    /// Messages that leave as one, when each of them may.
    Together {
        to: NodeId,
        parts: Vec<(Message, Release)>,
    },
    Reply {
        client: u64,
        outcome: Outcome,
        release: Release,
    },
}

impl Output {
    /// About how much memory it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        OUTPUT_BYTES
            + match self {
                Self::Send { message, .. } => message.record_bytes(),
                Self::Together { parts, .. } => {
                    parts.iter().map(|(message, _)| OUTPUT_BYTES + message.record_bytes()).sum()
                }
                // Outcomes of reads wait for nothing here.
                Self::Reply { .. } => 0,
            }
    }

    /// The outcome of a read or a write that has failed.
    pub(crate) fn failure(&self) -> Option<Outcome> {
        match self {
            Self::Reply { outcome: outcome @ (Outcome::Put(Err(_)) | Outcome::Get(Err(_))), .. } => {
                Some(outcome.clone())
            }
            Self::Reply { .. } | Self::Send { .. } | Self::Together { .. } => None,
        }
    }

    /// What of it may leave although the store did not take what the turn wanted to store.
    pub(crate) fn without_what_was_to_be_stored(mut self) -> Option<Self> {
        if sabotaged!(SwallowAnswers) {
            return None;
        }
        if let Self::Together { parts, .. } = &mut self {
            parts.retain(|(_, release)| *release == Release::Now);
            return (!parts.is_empty()).then_some(self);
        }
        let is_free = self.releases().all(|release| release == Release::Now);
        is_free.then_some(self)
    }

    /// What has to have happened before it leaves.
    pub(crate) fn releases(&self) -> impl Iterator<Item = Release> + '_ {
        let (one, parts) = match self {
            Self::Send { release, .. } | Self::Reply { release, .. } => (Some(*release), &[][..]),
            Self::Together { parts, .. } => (None, &parts[..]),
        };
        one.into_iter().chain(parts.iter().map(|(_, release)| *release))
    }
}

/// What the turn did to a key, on top of what the store holds.
#[derive(Default)]
struct Change {
    /// Whether the store's value was replaced, and by what.
    base: Option<Option<Vec<u8>>>,
    operands: Vec<Vec<u8>>,
}

impl<'a> Turn<'a> {
    /// A turn that has decided nothing. `outputs` is empty, and lends its memory.
    pub(crate) const fn new(store: &'a dyn View, outputs: Vec<Output>) -> Self {
        Self { store, batch: Batch::new(), touched: Vec::new(), changed: BTreeMap::new(), outputs }
    }

    /// Adds writes; the view shows them at once.
    ///
    /// # Panics
    /// When a range is deleted, or a value is to expire by itself: no protocol does so within a turn.
    pub(crate) fn store(&mut self, stripe: Stripe, batch: &Batch) {
        self.touched.push(stripe);
        self.batch.append(batch);
        for operation in batch {
            match operation {
                Operation::Put { space, key, value } => {
                    let base = Some(Some(value.to_vec()));
                    self.changed.insert((space, key.to_vec()), Change { base, operands: Vec::new() });
                }
                Operation::Delete { space, key } => {
                    self.changed.insert((space, key.to_vec()), Change { base: Some(None), operands: Vec::new() });
                }
                Operation::Merge { space, key, operand } => {
                    self.changed.entry((space, key.to_vec())).or_default().operands.push(operand.to_vec());
                }
                Operation::PutExpiring { .. } => panic!("no store takes a value that expires by itself"),
                Operation::DeleteRange { .. } => panic!("ranges are deleted by jobs, not within a turn"),
            }
        }
    }

    /// Has the messages to each node travel together that were decided on since there were `before` outputs.
    pub(crate) fn bundle(&mut self, before: usize) {
        if sabotaged!(NeverBundle) {
            return;
        }
        let mut bundles: BTreeMap<NodeId, Vec<(Message, Release)>> = BTreeMap::new();
        for output in self.outputs.split_off(before) {
            match output {
                Output::Send { to, message, release } if message.travels_together() => {
                    bundles.entry(to).or_default().push((message, release));
                }
                output => self.outputs.push(output),
            }
        }
        self.outputs.extend(bundles.into_iter().map(|(to, parts)| Output::Together { to, parts }));
    }

    /// Everything to commit, which keys it touches, and what leaves once that is done.
    pub(crate) fn finish(self) -> (Batch, Vec<Stripe>, Vec<Output>) {
        (self.batch, self.touched, self.outputs)
    }
}

impl Change {
    /// The value with this change on top of `stored`, or `None` when there is none.
    fn apply(&self, key: &[u8], stored: Option<&[u8]>) -> Result<Option<Vec<u8>>, Corrupt> {
        let base = match &self.base {
            Some(replaced) => replaced.as_deref(),
            None => stored,
        };
        if self.operands.is_empty() {
            return Ok(base.map(<[u8]>::to_vec));
        }
        let operands: Vec<&[u8]> = self.operands.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        match RecordJoin.fold(key, base, &operands, Fold::Complete { as_of: Millis::ZERO }, &mut out)? {
            Folded::Value => Ok(Some(out)),
            Folded::Absent => Ok(None),
        }
    }
}

impl View for Turn<'_> {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        if self.changed.is_empty() || sabotaged!(ReadBehindTheTurn) {
            return self.store.get(space, key, found);
        }
        let Some(change) = self.changed.get(&(space, key.to_vec())) else {
            return self.store.get(space, key, found);
        };
        let mut stored = None;
        if change.base.is_none() {
            self.store.get(space, key, &mut |value| stored = Some(value.to_vec()))?;
        }
        let value = change.apply(key, stored.as_deref())?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let mine = self
            .changed
            .range((Bound::Included((space, Vec::new())), Bound::Excluded((Space(space.0 + 1), Vec::new()))));
        let mine = mine.filter(|((_, key), _)| range.contains(key)).map(|((_, key), change)| (key.as_slice(), change));
        match direction {
            Direction::Forward => self.merge(space, range, direction, &mut mine.peekable(), each),
            Direction::Reverse => self.merge(space, range, direction, &mut mine.rev().peekable(), each),
        }
    }
}

impl Turn<'_> {
    /// Walks the store's keys and the turn's, which both come in `direction`, side by side.
    fn merge<'b>(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        mine: &mut std::iter::Peekable<impl Iterator<Item = (&'b [u8], &'b Change)>>,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        let before = |a: &[u8], b: &[u8]| match direction {
            Direction::Forward => a < b,
            Direction::Reverse => a > b,
        };
        let mut corrupt = None;
        let mut emit = |key: &[u8], change: &Change, stored: Option<&[u8]>, each: &mut ScanFn<'_>| match change
            .apply(key, stored)
        {
            Ok(Some(value)) => each(key, &value),
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                corrupt = Some(error);
                ControlFlow::Break(())
            }
        };
        let mut ended = false;
        self.store.scan(space, range, direction, &mut |key, value| {
            let flow = (|| {
                while let Some((own, change)) = mine.next_if(|(own, _)| before(own, key)) {
                    emit(own, change, None, each)?;
                }
                match mine.next_if(|(own, _)| *own == key) {
                    Some((_, change)) => emit(key, change, Some(value), each),
                    None => each(key, value),
                }
            })();
            ended = flow.is_break();
            flow
        })?;
        if !ended {
            for (own, change) in mine {
                if emit(own, change, None, each).is_break() {
                    break;
                }
            }
        }
        corrupt.map_or(Ok(()), |error| Err(StoreError::Corrupt(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::store::SpaceOptions;
    use kv_core::{MemStore, Store};

    #[test]
    fn the_view_of_a_turn_holds_what_the_turn_has_decided() {
        let store = MemStore::new([(Space::META, SpaceOptions::default())]);
        let mut batch = Batch::new();
        for key in ["b", "d", "f"] {
            batch.put(Space::META, key.as_bytes(), b"stored");
        }
        store.commit(&batch).unwrap();

        let mut turn = Turn::new(&store, Vec::new());
        let mut batch = Batch::new();
        batch.put(Space::META, b"a", b"new");
        batch.put(Space::META, b"d", b"changed");
        batch.delete(Space::META, b"f");
        batch.put(Space::META, b"g", b"new");
        turn.store(Stripe::META, &batch);

        let scan = |direction| {
            let mut seen = Vec::new();
            turn.scan(Space::META, KeyRange::ALL, direction, &mut |key, value| {
                seen.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
                ControlFlow::Continue(())
            })
            .unwrap();
            seen
        };
        let mut expected = vec!["a=new", "b=stored", "d=changed", "g=new"];
        assert_eq!(scan(Direction::Forward), expected);
        expected.reverse();
        assert_eq!(scan(Direction::Reverse), expected);
        assert!(!turn.get(Space::META, b"f", &mut |_| ()).unwrap());
        assert!(!store.get(Space::META, b"a", &mut |_| ()).unwrap(), "nothing is stored before the turn ends");
    }
}
