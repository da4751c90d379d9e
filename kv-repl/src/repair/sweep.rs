//! Drops what is dead below the floor of a place: tombstones and expired versions go, and records of which nothing is left.
//!
//! A sweep goes through the leaves of the tree in which something may be dead, in slices. What goes and the note that says why are one
//! batch. A crash in between does no harm: the note says as well how far everything was swept, and a node that starts goes on.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::record::{Above, Record};
use kv_core::store::{Batch, Space, StoreError};

use super::span::Span;
use super::tree::{Reading, Tree};
use crate::comparison::Place;
use crate::floors::Floor;
use crate::machine::{Action, Notice, Stripe};

/// Most bytes of records that are written again in one slice.
const SLICE_BYTES: usize = 256 << 10;

/// The sweep of one place.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) place: Place,
    pub(super) span: Span,
    /// Below which floor.
    purged: Stamp,
    /// What is still to be gone through; `None` before the tree was looked at.
    left: Option<VecDeque<Span>>,
    /// The last key in the first of them that was looked at.
    after: Option<Bytes>,
}

/// What a slice has dropped.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Dropped {
    pub(super) records: u64,
    pub(super) versions: u64,
}

impl Sweep {
    pub(super) const fn new(place: Place, span: Span, purged: Stamp) -> Self {
        Self { place, span, purged, left: None, after: None }
    }

    /// Begins anew: the store did not take what was decided.
    pub(super) fn restart(&mut self) {
        (self.left, self.after) = (None, None);
    }

    /// One slice. `floor` is that of the place. Returns what was dropped, and whether the sweep is over.
    pub(super) fn step(
        &mut self,
        me: NodeId,
        mut floor: Floor,
        tree: &Tree,
        reading: &mut Reading<'_>,
        out: &mut Vec<Action>,
    ) -> Result<(Dropped, bool), StoreError> {
        let mut batch = Batch::new();
        let (mut dropped, mut bytes) = (Dropped::default(), 0);
        let left = self.left.get_or_insert_with(|| tree.dead_spans(self.purged).into());
        while let Some(span) = left.front().copied()
            && reading.budget > 0
            && bytes < SLICE_BYTES
        {
            let mut ended = true;
            let Reading { view, budget, .. } = reading;
            let after = self.after.take();
            span.scan(*view, after.as_deref(), &mut |key, value| {
                if *budget == 0 || bytes >= SLICE_BYTES {
                    ended = false;
                    return ControlFlow::Break(());
                }
                *budget -= 1;
                self.after = Some(Bytes::copy_from_slice(key));
                if Record::dead_at_of(value).ok().flatten().is_none_or(|at| at > self.purged) {
                    return ControlFlow::Continue(());
                }
                let Ok(record) = Record::decode_slice(value) else { return ControlFlow::Continue(()) };
                match record.above(self.purged) {
                    Above::All => {}
                    Above::Part(part) => {
                        dropped.versions += (record.versions().len() - part.versions().len()) as u64;
                        let part = part.to_bytes();
                        bytes += part.len();
                        batch.put(Space::DATA, key, &part);
                    }
                    Above::Nothing => {
                        dropped.versions += record.versions().len() as u64;
                        dropped.records += 1;
                        bytes += key.len();
                        floor.counter_max = floor.counter_max.max(counted(me, &record));
                        batch.delete(Space::DATA, key);
                    }
                }
                ControlFlow::Continue(())
            })?;
            if !ended {
                break;
            }
            self.after = None;
            left.pop_front();
        }
        let is_over = left.is_empty();
        if is_over {
            floor.swept = floor.swept.max(self.purged);
        }
        if is_over || !batch.is_empty() {
            floor.save(self.place, &mut batch);
            out.push(Action::Notify(Notice::Floor(self.place, floor)));
            // No answer about a record has to wait for it: as long as it is not durable, what was deleted is, as before.
            out.push(Action::Store { stripe: Stripe::HINTS, batch });
        }
        Ok((dropped, is_over))
    }
}

/// How far a node has counted in a record, under any of its names. Those of last-write-wins records are stamps, and need not be
/// remembered.
fn counted(me: NodeId, record: &Record) -> u64 {
    let is_counted = record.rule() == kv_core::record::Rule::Siblings;
    let own = record.context().spans().iter().filter(|span| is_counted && span.actor.node == me);
    own.map(|span| span.last).max().unwrap_or(0)
}
