use super::*;
use kv_core::NodeId;
use kv_core::version::{Actor, Incarnation};

fn dot(counter: u64) -> Dot {
    Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 }, counter }
}

fn milk() -> Bytes {
    Bytes::from_static(b"milk")
}

fn found(history: &mut SetHistory, now: u64, elements: &[Bytes], seen: &VersionVector) -> usize {
    let before = history.tally().violations.len();
    let begun = history.read_begins(now);
    history.read_ends(&begun, &elements.iter().cloned().collect(), seen);
    history.tally().violations.len() - before
}

/// Milk was inserted at time 1, under dot 1.
fn inserted() -> (SetHistory, VersionVector) {
    let mut history = SetHistory::default();
    let insert = history.insert_begins(milk());
    acknowledged(&mut history, insert, 1, &[1]);
    (history, dots(&[1]))
}

fn dots(counters: &[u64]) -> VersionVector {
    counters.iter().copied().map(dot).collect()
}

/// The last of what a change was told to cover is its own name.
fn acknowledged(history: &mut SetHistory, change: ChangeIndex, now: u64, told: &[u64]) {
    history.acknowledged_at(change, now, dot(*told.last().unwrap()), dots(told));
}

#[test]
fn an_insert_that_nobody_saw_is_there() {
    let (mut history, seen) = inserted();
    history.removal_begins(Some([milk()].into()), Some(VersionVector::new()));
    assert_eq!(found(&mut history, 2, &[milk()], &seen), 0);
    assert_eq!(found(&mut history, 2, &[], &seen), 1);
    assert_eq!(found(&mut history, 2, &[milk(), Bytes::from_static(b"bread")], &seen), 1, "nobody put in bread");
    assert_eq!(found(&mut history, 2, &[milk()], &VersionVector::new()), 1, "back in time");
}

#[test]
fn an_insert_that_was_seen_and_removed_stays_away() {
    let (mut history, seen) = inserted();
    let removal = history.removal_begins(None, Some(seen.clone()));
    assert_eq!(found(&mut history, 2, &[milk()], &seen), 0, "the removal is under way");
    assert_eq!(found(&mut history, 2, &[], &seen), 0);
    acknowledged(&mut history, removal, 3, &[1, 2]);
    let both = dots(&[1, 2]);
    assert_eq!(found(&mut history, 4, &[], &both), 0);
    assert_eq!(found(&mut history, 4, &[milk()], &both), 1);
    history.insert_begins(milk());
    assert_eq!(found(&mut history, 5, &[milk()], &both), 0, "another insert is under way");
}

#[test]
fn a_blind_removal_may_take_what_began_before_it_ended() {
    let (mut history, seen) = inserted();
    let blind = history.removal_begins(None, None);
    assert_eq!(found(&mut history, 2, &[milk()], &seen), 0);
    assert_eq!(found(&mut history, 2, &[], &seen), 1, "no trace of a removal");
    assert_eq!(found(&mut history, 2, &[], &dots(&[1, 2])), 0);
    acknowledged(&mut history, blind, 3, &[2]);
    assert_eq!(found(&mut history, 4, &[milk()], &dots(&[1, 2])), 0, "nobody knows");
    let later = history.insert_begins(milk());
    acknowledged(&mut history, later, 5, &[3]);
    assert_eq!(found(&mut history, 6, &[], &dots(&[1, 2, 3])), 1);
    assert_eq!(found(&mut history, 6, &[], &dots(&[1, 2, 3, 4])), 1, "it was asked for once");
}

#[test]
fn a_blind_removal_that_was_asked_for_twice_may_be_made_late() {
    let mut history = SetHistory::default();
    let blind = history.removal_begins(None, None);
    history.retried(blind);
    acknowledged(&mut history, blind, 1, &[1]);
    let insert = history.insert_begins(milk());
    acknowledged(&mut history, insert, 2, &[2]);
    assert_eq!(found(&mut history, 3, &[milk()], &dots(&[1, 2])), 0);
    assert_eq!(found(&mut history, 3, &[], &dots(&[1, 2])), 1, "no trace of a second one");
    assert_eq!(found(&mut history, 3, &[], &dots(&[1, 2, 3])), 0);
    let later = history.insert_begins(milk());
    acknowledged(&mut history, later, 4, &[4]);
    assert_eq!(found(&mut history, 5, &[], &dots(&[1, 2, 3, 4])), 1, "what left the trace was made before");
}

#[test]
fn who_has_seen_an_insert_has_seen_those_whose_place_it_took() {
    let chain = |second: &[u64], seen: &[u64]| {
        let (mut history, _) = inserted();
        for told in [second, &[2, 3]] {
            let insert = history.insert_begins(milk());
            acknowledged(&mut history, insert, 2, told);
        }
        history.removal_begins(Some([milk()].into()), Some(dots(seen)));
        found(&mut history, 3, &[], &dots(&[1, 2, 3, 4]))
    };
    assert_eq!(chain(&[1, 2], &[3]), 0, "the third took the place of the second, and that of the first");
    assert_eq!(chain(&[2], &[3]), 1, "nothing took the place of the first");
    assert_eq!(chain(&[1, 2], &[1]), 1, "nobody saw the second");
}

#[test]
fn an_insert_whose_outcome_nobody_knows_may_have_taken_the_place_of_others() {
    let with = |elsewhere: bool, seen: &[u64]| {
        let (mut history, _) = inserted();
        let unknown = history.insert_begins(milk());
        if elsewhere {
            history.abandoned(unknown);
        }
        let third = history.insert_begins(milk());
        acknowledged(&mut history, third, 2, &[2, 3]);
        history.removal_begins(Some([milk()].into()), Some(dots(seen)));
        found(&mut history, 3, &[], &dots(&[1, 2, 3, 4]))
    };
    assert_eq!(with(false, &[2, 3]), 0);
    assert_eq!(with(false, &[3]), 1, "the removal has seen nothing of it");
    assert_eq!(with(true, &[2, 3]), 1, "it was refused");
}

#[test]
fn what_was_refused_is_not_there() {
    let mut history = SetHistory::default();
    let refused = history.insert_begins(milk());
    assert_eq!(found(&mut history, 1, &[milk()], &VersionVector::new()), 0);
    history.abandoned(refused);
    assert_eq!(found(&mut history, 2, &[milk()], &VersionVector::new()), 1);
}

#[test]
fn a_write_replaces_what_its_writer_saw_and_nothing_else() {
    let [left, right] = ["left", "right"].map(|value| Bytes::from_static(value.as_bytes()));
    let (mut history, seen) = inserted();
    for (value, counter) in [(&left, 2), (&right, 3)] {
        let write = history.write_begins(value.clone(), Some(seen.clone()));
        acknowledged(&mut history, write, 3, &[1, counter]);
    }
    let all = dots(&[1, 2, 3]);
    assert_eq!(found(&mut history, 4, &[left.clone(), right.clone()], &all), 0);
    assert_eq!(found(&mut history, 4, std::slice::from_ref(&left), &all), 1, "neither writer saw the other");
    assert_eq!(found(&mut history, 4, &[left, right, milk()], &all), 1, "both saw the milk");
}
