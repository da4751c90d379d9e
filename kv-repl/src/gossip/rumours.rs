//! What is still to be told, and how often it has been told.
//!
//! Each rumour is told a bounded number of times, those first that were told least, the newest of these first. A rumour
//! that another one overrides is told no more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;

use crate::liveness::{Liveness, Rumour};

/// About whom, and, for suspicions, by whom: those of different nodes are different news.
type Key = (NodeId, Option<NodeId>);

/// Rumours to be told.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    queued: BTreeMap<Key, Queued>,
    /// In the order of telling.
    order: BTreeSet<(u32, Reverse<u64>, Key)>,
    pushed: u64,
}

#[derive(Debug)]
struct Queued {
    rumour: Rumour,
    told: u32,
    pushed: u64,
}

impl Rumours {
    /// Has a rumour told from now on, instead of those that it overrides.
    pub(super) fn push(&mut self, rumour: Rumour) {
        let about = self.queued.range((rumour.about, None)..=(rumour.about, Some(NodeId(u64::MAX))));
        let overridden = |queued: &Queued| rumour.overrides(queued.rumour.claim, queued.rumour.liveness);
        let old: Vec<Key> = about.filter(|(_, queued)| overridden(queued)).map(|(key, _)| *key).collect();
        for key in old {
            self.remove(key);
        }
        let key = (rumour.about, (rumour.liveness == Liveness::Suspect).then_some(rumour.by));
        self.remove(key);
        self.pushed += 1;
        self.order.insert((0, Reverse(self.pushed), key));
        self.queued.insert(key, Queued { rumour, told: 0, pushed: self.pushed });
    }

    /// Whether it is being told already.
    pub(super) fn tells(&self, rumour: &Rumour) -> bool {
        let key = (rumour.about, (rumour.liveness == Liveness::Suspect).then_some(rumour.by));
        self.queued.get(&key).is_some_and(|queued| queued.rumour == *rumour)
    }

    /// Takes what to tell next; each rumour `tellings` times in all.
    pub(super) fn take(&mut self, rumours_max: usize, tellings: u32, out: &mut Vec<Rumour>) {
        let chosen: Vec<Key> = self.order.iter().take(rumours_max).map(|(_, _, key)| *key).collect();
        for key in chosen {
            let queued = self.queued.get_mut(&key).expect("what is ordered is queued");
            self.order.remove(&(queued.told, Reverse(queued.pushed), key));
            out.push(queued.rumour);
            queued.told = queued.told.saturating_add(1);
            if queued.told < tellings || sabotaged!(TellForEver) {
                self.order.insert((queued.told, Reverse(queued.pushed), key));
            } else {
                self.queued.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(queued) = self.queued.remove(&key) {
            self.order.remove(&(queued.told, Reverse(queued.pushed), key));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }
}

#[cfg(test)]
mod tests {
    use kv_core::version::Incarnation;

    use super::*;
    use crate::identity::Boot;
    use crate::liveness::Claim;

    fn rumour(about: u64, refutations: u32, liveness: Liveness, by: u64) -> Rumour {
        let claim = Claim { boot: Boot(1), refutations };
        Rumour { about: NodeId(about), incarnation: Incarnation(about), claim, liveness, by: NodeId(by) }
    }

    fn take(rumours: &mut Rumours, max: usize, tellings: u32) -> Vec<Rumour> {
        let mut out = Vec::new();
        rumours.take(max, tellings, &mut out);
        out
    }

    #[test]
    fn every_rumour_is_told_the_same_bounded_number_of_times() {
        let mut rumours = Rumours::default();
        for about in 1..=5 {
            rumours.push(rumour(about, 0, Liveness::Suspect, 9));
        }
        let mut told = BTreeMap::new();
        while rumours.len() > 0 {
            for rumour in take(&mut rumours, 2, 3) {
                *told.entry(rumour.about).or_insert(0) += 1;
            }
        }
        assert_eq!(told, (1..=5).map(|about| (NodeId(about), 3)).collect());
        assert_eq!((rumours.len(), rumours.order.len()), (0, 0));
    }

    #[test]
    fn what_is_overridden_is_told_no_more() {
        let mut rumours = Rumours::default();
        rumours.push(rumour(1, 0, Liveness::Suspect, 8));
        rumours.push(rumour(1, 0, Liveness::Suspect, 9));
        assert_eq!(rumours.len(), 2, "two nodes suspect the same");
        rumours.push(rumour(2, 0, Liveness::Dead, 9));
        rumours.push(rumour(1, 1, Liveness::Alive, 1));
        assert_eq!(rumours.len(), 2);
        assert_eq!(take(&mut rumours, 1, 3), [rumour(1, 1, Liveness::Alive, 1)], "the newest comes first");
        assert_eq!(take(&mut rumours, 1, 3), [rumour(2, 0, Liveness::Dead, 9)], "then what was told least");
    }
}
