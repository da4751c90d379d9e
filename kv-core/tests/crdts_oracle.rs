//! The crate `crdts` beside ours, under equal random schedules: replicas update, and merge each other's states, and must read
//! alike after each step.

use crdts::{CmRDT, CvRDT, MVReg, Orswot, PNCounter, VClock};
use kv_core::NodeId;
use kv_core::crdt::{Dotted, MvRegister, OrSet, PnCounter};
use kv_core::version::{Actor, Causality, Dot, Incarnation, VersionVector};
use proptest::prelude::*;

const REPLICAS: usize = 4;

#[derive(Clone, Debug)]
enum Step<U> {
    Update(usize, U),
    Merge { from: usize, to: usize },
}

fn steps<U: Clone + std::fmt::Debug>(updates: impl Strategy<Value = U>) -> impl Strategy<Value = Vec<Step<U>>> {
    let step = prop_oneof![
        3 => (0..REPLICAS, updates).prop_map(|(at, update)| Step::Update(at, update)),
        2 => (0..REPLICAS, 0..REPLICAS).prop_map(|(from, to)| Step::Merge { from, to }),
    ];
    prop::collection::vec(step, 0..60)
}

fn actor(index: usize) -> Actor {
    Actor { node: NodeId(index as u64), incarnation: Incarnation(1), epoch: 0 }
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn observed_remove_sets_agree(steps in steps((any::<bool>(), 0_u64..4))) {
        let mut ours: [Dotted<OrSet<u64>>; REPLICAS] = Default::default();
        let mut theirs: [Orswot<u64, usize>; REPLICAS] = Default::default();
        for step in steps {
            match step {
                Step::Update(at, (true, element)) => {
                    ours[at].apply(actor(at), |set, dot| set.insert(dot, element));
                    let add = theirs[at].add(element, theirs[at].read_ctx().derive_add_ctx(at));
                    theirs[at].apply(add);
                }
                Step::Update(at, (false, element)) => {
                    let seen = ours[at].context().clone();
                    ours[at].apply(actor(at), |set, _| set.remove(&element, &seen));
                    let remove = theirs[at].rm(element, theirs[at].contains(&element).derive_rm_ctx());
                    theirs[at].apply(remove);
                }
                Step::Merge { from, to } => {
                    let state = ours[from].clone();
                    ours[to].absorb(&state);
                    let state = theirs[from].clone();
                    theirs[to].merge(state);
                }
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                prop_assert_eq!(sorted(ours.value().iter().copied()), sorted(theirs.read().val));
            }
        }
    }

    #[test]
    fn multi_value_registers_agree(steps in steps(0_u64..100)) {
        let mut ours: [Dotted<MvRegister<u64>>; REPLICAS] = Default::default();
        let mut theirs: [MVReg<u64, usize>; REPLICAS] = Default::default();
        for step in steps {
            match step {
                Step::Update(at, value) => {
                    ours[at].apply(actor(at), |register, dot| register.write(dot, value));
                    let write = theirs[at].write(value, theirs[at].read_ctx().derive_add_ctx(at));
                    theirs[at].apply(write);
                }
                Step::Merge { from, to } => {
                    let state = ours[from].clone();
                    ours[to].absorb(&state);
                    let state = theirs[from].clone();
                    theirs[to].merge(state);
                }
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                // Ours gives a value once that was written twice.
                let mut distinct = sorted(theirs.read().val);
                distinct.dedup();
                prop_assert_eq!(sorted(ours.value().values().into_iter().copied()), distinct);
            }
        }
    }

    #[test]
    fn counters_agree(steps in steps(-20_i64..20)) {
        let mut ours: [Dotted<PnCounter>; REPLICAS] = Default::default();
        let mut theirs: [PNCounter<usize>; REPLICAS] = Default::default();
        for step in steps {
            match step {
                Step::Update(at, amount) => {
                    ours[at].apply(actor(at), |counter, dot| counter.add(dot, amount, None).unwrap());
                    let steps = amount.unsigned_abs();
                    let op = if amount < 0 { theirs[at].dec_many(at, steps) } else { theirs[at].inc_many(at, steps) };
                    theirs[at].apply(op);
                }
                Step::Merge { from, to } => {
                    let state = ours[from].clone();
                    ours[to].absorb(&state);
                    let state = theirs[from].clone();
                    theirs[to].merge(state);
                }
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                prop_assert_eq!(ours.value().value().to_string(), theirs.read().to_string());
            }
        }
    }

    #[test]
    fn version_vectors_agree(steps in steps(Just(()))) {
        let mut ours: [VersionVector; REPLICAS] = Default::default();
        let mut theirs: [VClock<usize>; REPLICAS] = Default::default();
        for step in steps {
            match step {
                Step::Update(at, ()) => {
                    let counter = ours[at].counter_max(actor(at)) + 1;
                    ours[at].insert(Dot { actor: actor(at), counter });
                    let dot = theirs[at].inc(at);
                    theirs[at].apply(dot);
                }
                Step::Merge { from, to } => {
                    ours[to] = ours[to].join(&ours[from]);
                    let state = theirs[from].clone();
                    theirs[to].merge(state);
                }
            }
            for (a, b) in (0..REPLICAS).flat_map(|a| (0..REPLICAS).map(move |b| (a, b))) {
                let causality = match theirs[a].partial_cmp(&theirs[b]) {
                    Some(std::cmp::Ordering::Equal) => Causality::Equal,
                    Some(std::cmp::Ordering::Less) => Causality::Before,
                    Some(std::cmp::Ordering::Greater) => Causality::After,
                    None => Causality::Concurrent,
                };
                prop_assert_eq!(ours[a].compare(&ours[b]), causality);
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                prop_assert!((0..REPLICAS).all(|of| ours.counter_max(actor(of)) == theirs.get(&of)));
            }
        }
    }
}
