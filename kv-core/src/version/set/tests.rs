use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::version::Incarnation;

mod published;

type Set = DottedVersionSet<&'static str>;

fn actor(index: u64) -> Actor {
    Actor { node: NodeId(index), incarnation: Incarnation(7), epoch: 0 }
}

fn values(set: &Set) -> Vec<&'static str> {
    let mut values: Vec<_> = set.versions().iter().map(|(_, value)| *value).collect();
    values.sort_unstable();
    values
}

/// A write at a server: the change is joined to what the server holds.
fn put(server: &Set, at: u64, seen: &VersionVector, value: &'static str) -> Set {
    server.join(&server.event(actor(at), 0, seen, value))
}

#[test]
fn protocol_rule_05_a_mint_covers_only_what_it_saw() {
    let a = actor(1);
    let lost = Set::new().event(a, 0, &VersionVector::new(), "lost on its way");
    // The actor counted to one, the change was lost; its next write jumps over the lost dot and does not cover it.
    let next = Set::new().event(a, lost.context().counter_max(a), &VersionVector::new(), "next");
    assert_eq!(values(&next.join(&lost)), ["lost on its way", "next"]);
}

#[test]
fn lesson_04_a_late_tombstone_does_not_swallow_a_key_created_again() {
    let born = put(&Set::new(), 1, &VersionVector::new(), "first life");
    let delete = born.event(actor(1), 0, born.context(), "tombstone");
    let gone = born.join(&delete);
    let again = put(&gone, 2, &VersionVector::new(), "second life");
    assert_eq!(values(&again.join(&delete)), ["second life", "tombstone"], "the tombstone never saw the second life");
    assert_eq!(again.join(&delete).join(&delete), again.join(&delete));
}

#[test]
fn lesson_02_clients_that_take_turns_do_not_multiply_siblings() {
    // Two clients write in turn at one server, and each has seen its own last write and never the other's.
    let mut server = Set::new();
    let mut seen = [VersionVector::new(), VersionVector::new()];
    for turn in 0..40 {
        let client = turn % 2;
        let change = server.event(actor(1), 0, &seen[client], ["from one", "from the other"][client]);
        seen[client] = change.context().clone();
        server = server.join(&change);
        assert_eq!(server.versions().len(), 2.min(turn + 1), "each replaces its own, and stands beside the other's");
    }
    assert_eq!(values(&server), ["from one", "from the other"]);
}

#[test]
fn lesson_03_an_actor_whose_memory_is_in_doubt_mints_no_more() {
    let before = put(&Set::new(), 1, &VersionVector::new(), "written before the disk was lost");
    let peer = put(&before, 2, before.context(), "replaced at a peer");
    let forgot = Set::new();

    // As the same actor it counts from one again: the peer has seen that dot, and takes the new write for the old.
    let reused = forgot.event(actor(1), 0, &VersionVector::new(), "new");
    assert_eq!(values(&peer.join(&reused)), ["replaced at a peer"], "what the rule is there for: the write is gone");

    let epoch = Actor { epoch: 1, ..actor(1) };
    let fresh = forgot.event(epoch, 0, &VersionVector::new(), "new");
    assert_eq!(values(&peer.join(&fresh)), ["new", "replaced at a peer"]);
    let incarnation = Actor { incarnation: Incarnation(8), ..actor(1) };
    let replaced_disk = forgot.event(incarnation, 0, &VersionVector::new(), "new");
    assert_eq!(values(&peer.join(&replaced_disk)), ["new", "replaced at a peer"]);
}

/// Random histories: three servers put with contexts read from any of them, and exchange states.
#[derive(Clone, Debug)]
enum Step {
    Put { at: usize, read_from: Option<usize> },
    Sync { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_usize..3, prop::option::of(0_usize..3)).prop_map(|(at, read_from)| Step::Put { at, read_from }),
        (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::Sync { from, to }),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn join_is_a_semilattice_and_a_dot_leaves_only_by_a_context_that_saw_it(steps in steps()) {
        let mut servers: [DottedVersionSet<u32>; 3] = Default::default();
        let mut changes = Vec::new();
        for (value, step) in (0_u32..).zip(steps) {
            match step {
                Step::Put { at, read_from } => {
                    let seen = read_from.map_or_else(VersionVector::new, |from| servers[from].context().clone());
                    let change = servers[at].event(actor(at as u64), 0, &seen, value);
                    servers[at] = servers[at].join(&change);
                    changes.push((change, seen));
                }
                Step::Sync { from, to } => servers[to] = servers[to].join(&servers[from]),
            }
        }
        let [a, b, c] = [&servers[0], &servers[1], &servers[2]];
        prop_assert_eq!(a.join(b), b.join(a));
        prop_assert_eq!(a.join(b).join(c), a.join(&b.join(c)));
        prop_assert_eq!(a.join(a), a.clone());
        let all = a.join(b).join(c);
        for (change, _) in &changes {
            let dot = change.versions()[0].0;
            let replaced = changes.iter().any(|(_, seen)| seen.contains(dot));
            prop_assert_eq!(all.version(dot).is_some(), !replaced, "present unless some writer had seen it");
        }
        // Equal sets of changes give equal states, whatever the order.
        let forward = changes.iter().fold(DottedVersionSet::new(), |state, (change, _)| state.join(change));
        let backward = changes.iter().rev().fold(DottedVersionSet::new(), |state, (change, _)| state.join(change));
        prop_assert_eq!(&forward, &backward);
        prop_assert_eq!(forward, all);
    }
}
