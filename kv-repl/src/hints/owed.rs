//! Which partitions owe a comparison with whom, because something that the other one had missed was not kept for it.
//!
//! A mark lies in the store from the batch in which a hint was shed to the end of a comparison that began after it and found
//! both replicas equal. How often something was shed under one mark is known to memory alone: a comparison that was under way
//! meanwhile does not count.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::key::TableId;
use kv_core::store::{Batch, Space};
use kv_ring::PartitionId;

use super::format::{mark, mark_key};
use crate::comparison::Place;

/// All marks.
#[derive(Default, Debug)]
pub(super) struct Owed {
    tickets: BTreeMap<(NodeId, Place), u64>,
    next: u64,
}

impl Owed {
    /// The marks that an earlier life has left.
    pub(super) fn restore(marks: impl IntoIterator<Item = (NodeId, Place)>) -> Self {
        let mut owed = Self::default();
        for (target, place) in marks {
            owed.ticket(target, place);
        }
        owed
    }

    fn ticket(&mut self, target: NodeId, place: Place) -> (u64, bool) {
        self.next += 1;
        (self.next, self.tickets.insert((target, place), self.next).is_none())
    }

    /// Notes that `target` may lack something. What makes it durable is added to `batch`. Returns the number of the latest
    /// such note: a comparison that began with it clears the mark.
    pub(super) fn owe(&mut self, target: NodeId, place: Place, batch: &mut Batch) -> u64 {
        let (ticket, is_new) = self.ticket(target, place);
        if is_new && !sabotaged!(ShedWithoutMark) {
            batch.put(Space::META, &mark_key(target, place), &mark());
        }
        ticket
    }

    /// Takes a mark away, if nothing was noted after `ticket`. Returns whether it did.
    pub(super) fn clear(&mut self, target: NodeId, place: Place, ticket: u64, batch: &mut Batch) -> bool {
        let latest = self.tickets.get(&(target, place)).copied();
        let clears = latest == Some(ticket) || (latest.is_some() && sabotaged!(ClearMarkOfLaterSheds));
        if clears {
            self.forget(target, place, batch);
        }
        clears
    }

    /// Takes a mark away.
    pub(super) fn forget(&mut self, target: NodeId, place: Place, batch: &mut Batch) {
        self.tickets.remove(&(target, place));
        batch.delete(Space::META, &mark_key(target, place));
    }

    pub(super) fn contains(&self, target: NodeId, place: Place) -> bool {
        self.tickets.contains_key(&(target, place))
    }

    /// Every mark and the number of its latest note.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, Place, u64)> + '_ {
        self.tickets.iter().map(|((target, place), ticket)| (*target, *place, *ticket))
    }

    /// How many partitions owe a comparison with `target`.
    pub(super) fn count(&self, target: NodeId) -> usize {
        let first = Place { table: TableId(0), partition: PartitionId(0) };
        let last = Place { table: TableId(u32::MAX), partition: PartitionId(u32::MAX) };
        self.tickets.range((target, first)..=(target, last)).count()
    }
}
