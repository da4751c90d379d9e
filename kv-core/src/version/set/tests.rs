use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::version::Incarnation;

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

// The cases published with the reference implementation of dotted version vector sets (join, update, sync, event, less,
// equal), told with explicit dots.

#[test]
fn published_case_update_replaces_what_it_saw_and_keeps_the_rest() {
    let none = VersionVector::new();
    let first = put(&Set::new(), 1, &none, "v1");
    let second = put(&first, 1, first.context(), "v2");
    assert_eq!(values(&second), ["v2"]);
    let third = put(&second, 1, first.context(), "v3");
    assert_eq!(values(&third), ["v2", "v3"], "the writer of v3 had seen v1 only");
    let fourth = put(&third, 2, third.context(), "v4");
    assert_eq!(values(&fourth), ["v4"]);
}

#[test]
fn published_case_a_context_free_write_is_a_sibling_of_everything() {
    let none = VersionVector::new();
    let mut server = Set::new();
    for value in ["v1", "v2", "v3"] {
        server = put(&server, 1, &none, value);
    }
    assert_eq!(values(&server), ["v1", "v2", "v3"]);
    assert_eq!(server.context().counter_max(actor(1)), 3);
}

#[test]
fn published_case_sync_of_concurrent_servers_keeps_both() {
    let base = put(&Set::new(), 1, &VersionVector::new(), "v0");
    let left = put(&base, 1, base.context(), "v1");
    let right = put(&base, 2, base.context(), "v2");
    let joined = left.join(&right);
    assert_eq!(values(&joined), ["v1", "v2"]);
    assert_eq!(joined, right.join(&left));
    assert_eq!(joined.join(&base), joined, "the older state adds nothing");
}

#[test]
fn published_case_event_is_just_the_change() {
    let server = put(&Set::new(), 1, &VersionVector::new(), "v1");
    let change = server.event(actor(2), 0, server.context(), "v2");
    assert_eq!(values(&change), ["v2"]);
    assert!(change.context().covers(server.context()));
}

#[test]
fn published_case_less_and_equal() {
    use crate::version::Causality;
    let first = put(&Set::new(), 1, &VersionVector::new(), "v1");
    let second = put(&first, 1, first.context(), "v2");
    let other = put(&first, 2, first.context(), "v3");
    assert_eq!(first.context().compare(second.context()), Causality::Before);
    assert_eq!(second.context().compare(first.context()), Causality::After);
    assert_eq!(second.context().compare(other.context()), Causality::Concurrent);
    assert_eq!(second.context().compare(second.context()), Causality::Equal);
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
