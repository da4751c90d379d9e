//! When this node compares which partition with whom.
//!
//! Each two replicas of a partition are compared once in each interval, and the one with the lower name begins: a comparison
//! mends both. The first ones are spread over an interval by a hash, later ones are moved by up to a quarter of it, so that
//! nodes which started together do not go on together.

use std::collections::BTreeSet;

use kv_core::NodeId;
use kv_core::time::Millis;

use super::chance::draw;
use crate::catalog::{Catalog, TableSchema};
use crate::comparison::Place;

/// Whose turn it is when.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Millis,
    seed: u64,
    due: BTreeSet<(Millis, Place, NodeId)>,
    /// How many tables are in it.
    tables: usize,
    /// Whether there may be more.
    look: bool,
}

impl Schedule {
    pub(super) const fn new(every: Millis, seed: u64) -> Self {
        Self { every, seed, due: BTreeSet::new(), tables: 0, look: true }
    }

    /// A table was added.
    pub(super) const fn look_again(&mut self) {
        self.look = true;
    }

    /// Takes up the tables that were added.
    pub(super) fn learn(&mut self, now: Millis, me: NodeId, catalog: &Catalog) {
        self.look = false;
        let durable = |table: &&std::sync::Arc<TableSchema>| table.options.is_replicated_durably();
        for table in catalog.tables()[self.tables..].iter().filter(durable) {
            for partition in table.layout.partitions_of(me) {
                let place = Place { table: table.id, partition };
                for peer in table.layout.replicas(partition).iter().copied().filter(|peer| *peer > me) {
                    let wait = Millis(draw(self.seed, place, peer, Millis::ZERO) % self.every.0.max(1));
                    self.due.insert((now.saturating_add(wait), place, peer));
                }
            }
        }
        self.tables = catalog.tables().len();
    }

    /// When something is next to be done.
    pub(super) fn next(&self) -> Option<Millis> {
        if self.look { Some(Millis::ZERO) } else { self.due.first().map(|(at, ..)| *at) }
    }

    /// Takes the next comparison that is due.
    pub(super) fn pop(&mut self, now: Millis) -> Option<(Place, NodeId)> {
        let first = *self.due.first().filter(|(at, ..)| *at <= now)?;
        self.due.remove(&first);
        Some((first.1, first.2))
    }

    /// The comparison is to be made again in an interval.
    pub(super) fn again(&mut self, now: Millis, place: Place, peer: NodeId) {
        self.put_back(now, place, peer, self.every);
    }

    /// The comparison did not come about, and is to be tried again sooner.
    pub(super) fn soon(&mut self, now: Millis, place: Place, peer: NodeId) {
        self.put_back(now, place, peer, Millis(self.every.0 / 8));
    }

    fn put_back(&mut self, now: Millis, place: Place, peer: NodeId, wait: Millis) {
        let quarter = draw(self.seed, place, peer, now) % (wait.0 / 2).max(1);
        let wait = Millis(wait.0 - wait.0 / 4).saturating_add(Millis(quarter)).max(Millis(1));
        self.due.insert((now.saturating_add(wait), place, peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Founding, FoundingMember};
    use crate::identity::ClusterId;
    use crate::member::Member;
    use crate::table_options::TableOptions;
    use kv_core::key::TableId;
    use kv_core::version::Incarnation;

    fn catalog() -> Catalog {
        let members =
            (1..=5).map(|node| FoundingMember::new(Member::new(NodeId(node), "in memory"), Incarnation(node)));
        let founding = Founding { cluster: ClusterId(5), epoch: 1, partitions: 64, members: members.collect() };
        let layout = founding.lay_out(3).expect("three of five").into();
        let mut catalog = Catalog::new(founding);
        let options = TableOptions::siblings().replicas(3);
        catalog.add(TableSchema { id: TableId(1), name: "table".to_owned(), options, layout }.into());
        catalog
    }

    #[test]
    fn each_pair_of_replicas_is_compared_by_one_of_them_once_in_an_interval() {
        let (catalog, every) = (catalog(), Millis(10_000));
        let mut all = BTreeSet::new();
        for me in (1..=5).map(NodeId) {
            let mut schedule = Schedule::new(every, me.0);
            assert_eq!(schedule.next(), Some(Millis::ZERO), "it has not looked yet");
            schedule.learn(Millis(100), me, &catalog);
            schedule.learn(Millis(100), me, &catalog);
            let own = schedule.due.len();
            assert_eq!(schedule.pop(Millis(99)), None);
            let early = std::iter::from_fn(|| schedule.pop(Millis(100 + 5_000))).count();
            assert!((own / 4..=own - own / 4).contains(&early), "{early} of {own} in the first half");
            schedule = Schedule::new(every, me.0);
            schedule.learn(Millis(100), me, &catalog);
            while let Some((place, peer)) = schedule.pop(Millis(100 + every.0)) {
                assert!(all.insert((place, me, peer)), "no pair twice");
                assert!(me < peer && catalog.tables()[0].layout.replicas(place.partition).contains(&peer));
                schedule.again(Millis(100 + every.0), place, peer);
                if schedule.due.iter().all(|(at, ..)| *at > Millis(100 + every.0)) {
                    break;
                }
            }
            let next: Vec<u64> = schedule.due.iter().map(|(at, ..)| at.0 - 100 - every.0).collect();
            assert!(next.iter().all(|wait| (7_500..=12_500).contains(wait)), "{next:?}");
        }
        assert_eq!(all.len(), 64 * 3, "three pairs of each three replicas");
    }
}
