use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use super::*;

/// Whoever arrives during a round shares the next one, and it begins after the arrival.
#[test]
fn those_who_arrive_during_a_round_share_the_next() {
    const OTHERS: usize = 6;
    let group = Arc::new(Group::default());
    let rounds = Arc::new(AtomicU64::new(0));
    let (begun, wait_begun) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    let first = {
        let (group, rounds) = (Arc::clone(&group), Arc::clone(&rounds));
        thread::spawn(move || {
            let work = || {
                begun.send(()).unwrap();
                wait_end.recv().unwrap();
                rounds.fetch_add(1, Ordering::SeqCst)
            };
            group.run(|| false, |_, _| {}, work)
        })
    };
    wait_begun.recv().unwrap();
    let arrived = Arc::new(Barrier::new(OTHERS + 1));
    let others: Vec<_> = (0..OTHERS)
        .map(|_| {
            let (group, rounds, arrived) = (Arc::clone(&group), Arc::clone(&rounds), Arc::clone(&arrived));
            thread::spawn(move || {
                arrived.wait();
                group.run(|| false, |_, _| {}, || rounds.fetch_add(1, Ordering::SeqCst))
            })
        })
        .collect();
    arrived.wait();
    while group.waiting.load(Ordering::Relaxed) < OTHERS {
        thread::sleep(Duration::from_millis(1));
    }
    end.send(()).unwrap();
    assert_eq!(first.join().unwrap(), Some(0));
    let led: Vec<u64> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
    assert_eq!(led, [1], "one of them did it, for all of them");
    assert_eq!(group.lock().served, OTHERS);
}

/// What the leader is told before a round: how many the one before was for, and how many are there by now.
#[test]
fn a_leader_may_wait_for_as_many_as_before() {
    let group = Group::default();
    let told = |group: &Group| {
        let mut told = None;
        group.run(|| false, |before, now| told = Some((before, now())), || {});
        told
    };
    assert_eq!(told(&group), Some((0, 1)));
    assert_eq!(told(&group), Some((1, 1)));
    assert_eq!(group.run(|| true, |_, _| {}, || {}), None, "what is done is not done again");
}

#[test]
fn a_panic_leaves_nobody_waiting() {
    let group = Arc::new(Group::default());
    let leader = {
        let group = Arc::clone(&group);
        thread::spawn(move || group.run(|| false, |_, _| {}, || panic!("as the test wants it")))
    };
    assert!(leader.join().is_err());
    assert_eq!(group.run(|| false, |_, _| {}, || 7), Some(7));
}
