//! What of a record nobody needs any more below a floor, and what a replica that has dropped it makes of what arrives later.
//!
//! A floor is a stamp at or below which all replicas of a partition hold the same and nothing new is minted. How such a floor comes
//! about is no business of a record; here is only what follows from it, so that all replicas come to the same.
//!
//! - A tombstone is dead from its birth on. A version with an expiry is dead from its birth and its expiry on, both measured by the floor
//!   and by no clock. A value without an expiry is never dead.
//! - Dead versions go; what is left of the record still knows that they were there. When nothing is left, the record goes.
//! - Records of replicated data types stay: their parts have no births.

use super::{Body, Payload, Record, Version, last_write_order};
use crate::hlc::Stamp;
use crate::version::{Dot, DottedVersionSet};

/// What is left of a record above a floor.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Above {
    /// All of it.
    All,
    /// This.
    Part(Record),
    /// Nothing: it is as if the key had never been written.
    Nothing,
}

/// What a replica makes of a record that arrives, when it may have dropped some of it before.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Arrival {
    /// There is nothing in it that was dropped here: join it.
    AsSent,
    /// This of it is to be joined; the rest was dropped here.
    Part(Record),
    /// All of it was dropped here: nothing is to be joined.
    Known,
    /// It brings a value that everybody knew to be gone: it must not be joined.
    Obsolete,
}

impl Version {
    /// The least floor at which it is dead, or nothing when it never is.
    #[must_use]
    pub fn dead_at(&self) -> Option<Stamp> {
        match (&self.payload, self.expiry.time()) {
            (Payload::Tombstone, _) => Some(self.birth),
            (Payload::Value(_), Some(at)) => Some(self.birth.max(Stamp::at(at))),
            (Payload::Value(_), None) => None,
        }
    }

    /// Whether it is dead at a floor.
    #[must_use]
    pub fn is_dead(&self, floor: Stamp) -> bool {
        self.dead_at().is_some_and(|at| at <= floor)
    }
}

impl Record {
    /// The least floor at which something of the record can go, or nothing when nothing ever can.
    #[must_use]
    pub fn dead_at(&self) -> Option<Stamp> {
        self.versions().iter().filter_map(|(_, version)| version.dead_at()).min()
    }

    /// What is left of the record above a floor.
    #[must_use]
    pub fn above(&self, floor: Stamp) -> Above {
        let left: Vec<(Dot, Version)> =
            self.versions().iter().filter(|(_, version)| !version.is_dead(floor)).cloned().collect();
        match &self.body {
            Body::Crdt(..) => Above::All,
            _ if left.len() == self.versions().len() => Above::All,
            _ if left.is_empty() => Above::Nothing,
            Body::Siblings(set) => Above::Part(Self { body: Body::Siblings(with_versions(set, left)) }),
            Body::LastWrite(_) => unreachable!("it holds one version, which is either left or not"),
        }
    }

    /// What a replica that holds `held`, and at one time held whatever was born at or below `floor`, makes of this record.
    #[must_use]
    pub fn arriving(&self, held: Option<&Self>, floor: Stamp) -> Arrival {
        match &self.body {
            Body::Crdt(..) => Arrival::AsSent,
            Body::LastWrite(set) => {
                let held = held.and_then(|held| match &held.body {
                    Body::LastWrite(held) => last_write_order(held),
                    Body::Siblings(_) | Body::Crdt(..) => None,
                });
                let sent = set.versions().iter().find(|(_, version)| version.birth <= floor);
                match sent {
                    Some((_, version)) if last_write_order(set) > held => {
                        if version.is_dead(floor) {
                            Arrival::Known
                        } else {
                            Arrival::Obsolete
                        }
                    }
                    _ => Arrival::AsSent,
                }
            }
            Body::Siblings(set) => {
                let knows = |dot: &Dot| held.is_some_and(|held| held.context().contains(*dot));
                let is_gone = |(dot, version): &&(Dot, Version)| version.birth <= floor && !knows(dot);
                let gone: Vec<&(Dot, Version)> = set.versions().iter().filter(is_gone).collect();
                if gone.is_empty() {
                    return Arrival::AsSent;
                }
                if gone.iter().any(|(_, version)| !version.is_dead(floor)) {
                    return Arrival::Obsolete;
                }
                let left: Vec<(Dot, Version)> =
                    set.versions().iter().filter(|entry| !is_gone(entry)).cloned().collect();
                if left.is_empty() && held.is_none() {
                    return Arrival::Known;
                }
                Arrival::Part(Self { body: Body::Siblings(with_versions(set, left)) })
            }
        }
    }

    /// Whether it holds no version, so that nobody needs it: what was replaced, and what replaced it, are gone. Never so of a data
    /// type.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        !matches!(self.body, Body::Crdt(..)) && self.versions().is_empty()
    }
}

/// The set with other versions, which lie in its context.
fn with_versions(set: &DottedVersionSet<Version>, versions: Vec<(Dot, Version)>) -> DottedVersionSet<Version> {
    DottedVersionSet::from_parts(set.context().clone(), versions).expect("they were in it")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;
    use crate::expiry::Expiry;
    use crate::record::Rule;
    use crate::time::Millis;
    use crate::version::{Actor, Incarnation, VersionVector};

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), incarnation: Incarnation(7), epoch: 1 }
    }

    const fn value(birth: u64, expiry: Expiry) -> Version {
        Version { birth: Stamp(birth), payload: Payload::Value(Bytes::from_static(b"v")), expiry, operation: None }
    }

    const fn tombstone(birth: u64) -> Version {
        Version { birth: Stamp(birth), payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None }
    }

    fn write(record: &Record, node: u64, seen: &VersionVector, version: Version) -> Record {
        record.join(&record.sibling(actor(node), 0, seen, version)).expect("one rule")
    }

    #[test]
    fn a_delete_goes_when_the_floor_has_come_to_it_and_values_stay() {
        let empty = Record::empty(Rule::Siblings);
        let written = write(&empty, 1, &VersionVector::new(), value(5, Expiry::NEVER));
        let deleted = write(&written, 1, written.context(), tombstone(9));
        assert_eq!((written.dead_at(), deleted.dead_at()), (None, Some(Stamp(9))));
        assert_eq!(written.above(Stamp(u64::MAX)), Above::All);
        assert_eq!((deleted.above(Stamp(8)), deleted.above(Stamp(9))), (Above::All, Above::Nothing));
        let beside = write(&deleted, 2, &VersionVector::new(), value(20, Expiry::NEVER));
        let Above::Part(left) = beside.above(Stamp(9)) else { panic!("the value stays") };
        assert_eq!((left.context(), left.versions().len()), (beside.context(), 1), "it still knows of the delete");
        assert_eq!(left.join(&deleted).unwrap(), left, "which does not come back");
    }

    #[test]
    fn expiry_is_measured_by_the_floor() {
        let expiry = Expiry::at(Millis(3));
        let record = Record::last_write(actor(1), value(5, expiry));
        assert_eq!(record.dead_at(), Some(Stamp::at(Millis(3))));
        assert_eq!(record.above(Stamp(Stamp::at(Millis(3)).0 - 1)), Above::All);
        assert_eq!(record.above(Stamp::at(Millis(3))), Above::Nothing);
        let late = Record::last_write(actor(1), value(Stamp::at(Millis(4)).0, expiry));
        assert_eq!(late.above(Stamp::at(Millis(3))), Above::All, "born expired, and above the floor");
    }

    #[test]
    fn what_was_dropped_does_not_come_back() {
        let floor = Stamp(10);
        let empty = Record::empty(Rule::Siblings);
        let written = write(&empty, 1, &VersionVector::new(), value(5, Expiry::NEVER));
        let deleted = write(&written, 1, written.context(), tombstone(9));
        assert_eq!(written.arriving(None, floor), Arrival::Obsolete);
        assert_eq!(written.arriving(Some(&written), floor), Arrival::AsSent);
        assert_eq!(written.arriving(Some(&deleted), floor), Arrival::AsSent, "it has been replaced, as the join sees");
        assert_eq!(deleted.arriving(None, floor), Arrival::Known);
        let anew = write(&empty, 2, &VersionVector::new(), value(20, Expiry::NEVER));
        assert_eq!(anew.arriving(None, floor), Arrival::AsSent);
        assert_eq!(written.arriving(Some(&anew), floor), Arrival::Obsolete);
        let Arrival::Part(nothing) = deleted.arriving(Some(&anew), floor) else { panic!("the delete was dropped") };
        assert_eq!(anew.join(&nothing).unwrap().versions(), anew.versions());
        let both = deleted.join(&anew).unwrap();
        let Arrival::Part(part) = both.arriving(None, floor) else { panic!("one of the two was dropped") };
        assert_eq!(part.versions(), anew.versions());

        let [old, gone, new] =
            [value(5, Expiry::NEVER), tombstone(9), value(20, Expiry::NEVER)].map(|v| Record::last_write(actor(1), v));
        assert_eq!(
            [&old, &gone, &new].map(|sent| sent.arriving(None, floor)),
            [Arrival::Obsolete, Arrival::Known, Arrival::AsSent]
        );
        assert_eq!(old.arriving(Some(&gone), floor), Arrival::AsSent, "the join sees that it is older");
        assert_eq!(gone.arriving(Some(&old), floor), Arrival::Known, "as if it had never been");
    }

    /// A history of one key: each step writes at one of three replicas after what another one had seen, and the births ascend.
    fn history(rule: Rule, steps: &[(u64, usize, bool, bool, u64)]) -> Vec<Record> {
        let mut states = vec![Record::empty(rule)];
        for (at, (node, seen, is_delete, expires, length)) in (1..).zip(steps.iter().copied()) {
            let seen = &states[seen % states.len()];
            let expiry = if expires { Expiry::at(Millis(length)) } else { Expiry::NEVER };
            let birth = Stamp::at(Millis(at)).0;
            let version = if is_delete { tombstone(birth) } else { value(birth, expiry) };
            let last = &states[states.len() - 1];
            let change = match rule {
                Rule::LastWriteWins => Record::last_write(actor(1 + node % 3), version),
                _ => last.sibling(actor(1 + node % 3), 0, seen.context(), version),
            };
            states.push(last.join(&change).expect("one rule"));
        }
        states
    }

    fn apply(record: Option<Record>, floor: Stamp) -> Option<Record> {
        let record = record?;
        match record.above(floor) {
            Above::All => Some(record),
            Above::Part(part) => Some(part),
            Above::Nothing => None,
        }
    }

    proptest! {
        /// Two replicas hold the same up to the floor, and one has dropped what can go. Whatever else each has seen, and whichever
        /// hears of the other first, both come to the same values, which are those of two replicas that drop nothing.
        #[test]
        fn replicas_agree_whoever_drops_first(
            steps in prop::collection::vec((0_u64..3, 0_usize..40, any::<bool>(), any::<bool>(), 0_u64..20), 1..14),
            floor in 0_u64..14, later in 0_usize..15, is_last_write in any::<bool>()
        ) {
            let rule = if is_last_write { Rule::LastWriteWins } else { Rule::Siblings };
            let states = history(rule, &steps);
            let floor_at = Stamp::at(Millis(floor.min(steps.len() as u64)));
            let settled = usize::try_from(floor).unwrap().min(states.len() - 1);
            // One replica has seen everything, the other one that much, and both whatever was born up to the floor.
            let (ahead, behind) = (&states[states.len() - 1], &states[later.clamp(settled, states.len() - 1)]);
            let joined = ahead.join(behind).unwrap();
            let dropped = apply(Some(behind.clone()), floor_at);
            let met = match ahead.arriving(dropped.as_ref(), floor_at) {
                Arrival::AsSent => Some(dropped.map_or(Ok(ahead.clone()), |held| held.join(ahead)).unwrap()),
                Arrival::Part(part) => Some(dropped.map_or(Ok(part.clone()), |held| held.join(&part)).unwrap()),
                Arrival::Known => dropped,
                Arrival::Obsolete => return Err(TestCaseError::fail("nothing here is obsolete")),
            };
            let met = met.filter(|record| !record.is_spent());
            let versions = |record: &Option<Record>| record.as_ref().map(|record| record.versions().to_vec()).unwrap_or_default();
            prop_assert_eq!(versions(&apply(met, floor_at)), versions(&apply(Some(joined), floor_at)));
        }

        /// What can go is the same after a join as before it, and going does not depend on the order.
        #[test]
        fn dropping_commutes_with_joins_at_one_floor(
            steps in prop::collection::vec((0_u64..3, 0_usize..40, any::<bool>(), any::<bool>(), 0_u64..20), 1..14),
            floor in 0_u64..20, from in 0_usize..15
        ) {
            let states = history(Rule::Siblings, &steps);
            let floor = Stamp::at(Millis(floor));
            let (one, other) = (&states[states.len() - 1], &states[from % states.len()]);
            let joined = one.join(other).unwrap();
            let keep = |record: &Record| match record.above(floor) {
                Above::All => record.clone(),
                Above::Part(part) => part,
                Above::Nothing => Record::of_siblings(DottedVersionSet::from_parts(record.context().clone(), Vec::new()).unwrap()),
            };
            prop_assert_eq!(keep(&keep(one).join(&keep(other)).unwrap()), keep(&joined));
            prop_assert!(joined.dead_at().is_none_or(|at| at <= floor) || joined.above(floor) == Above::All);
        }
    }
}
