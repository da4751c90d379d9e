use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn drain(wheel: &mut TimingWheel, now: u64) -> Vec<u32> {
    let mut due = Vec::new();
    assert!(wheel.advance(Millis(now), usize::MAX, |slot| due.push(slot.0)).finished);
    due
}

#[test]
fn deadlines_fire_on_their_millisecond_at_every_distance() {
    for distance in (0..64).map(|bit| 1u64 << bit).chain([63, 64, 65, 4095, 4097, u64::MAX - 1000]) {
        for start in [0, 1, 999] {
            let mut wheel = TimingWheel::new(Millis(start));
            wheel.insert(Slot(7), Millis(start + distance));
            assert_eq!(drain(&mut wheel, start + distance - 1), [0; 0], "{start} + {distance}");
            assert_eq!(wheel.deadline(Slot(7)), Some(Millis(start + distance)));
            assert_eq!(drain(&mut wheel, start + distance), [7], "{start} + {distance}");
            assert!(wheel.is_empty());
            assert_eq!(wheel.deadline(Slot(7)), None);
        }
    }
}

#[test]
fn many_deadlines_of_one_millisecond_are_reported_in_portions() {
    let mut wheel = TimingWheel::new(Millis(0));
    for slot in 0..1000 {
        wheel.insert(Slot(slot), Millis(5_000_000));
    }
    let mut due = BTreeSet::new();
    let mut calls = 0;
    while !wheel
        .advance(Millis(5_000_000), 10, |slot| {
            due.insert(slot.0);
        })
        .finished
    {
        calls += 1;
    }
    assert_eq!(due.len(), 1000);
    // Five digits differ, so each is moved at most four times before it is reported.
    assert!((100..=501).contains(&calls), "{calls} portions");
}

#[test]
fn a_budget_of_nothing_does_nothing() {
    let mut wheel = TimingWheel::new(Millis(0));
    wheel.insert(Slot(0), Millis(1));
    let progress = wheel.advance(Millis(9), 0, |_| panic!("no step was allowed"));
    assert_eq!(progress, Progress { steps: 0, fired: 0, finished: false });
    assert_eq!(drain(&mut wheel, 9), [0]);
}

#[test]
fn idle_time_is_skipped_and_not_ticked_through() {
    let mut wheel = TimingWheel::new(Millis(0));
    wheel.insert(Slot(0), Millis(1 << 40));
    let mut steps = 0;
    while !wheel.advance(Millis(1 << 40), 1, |_| ()).finished {
        steps += 1;
    }
    assert!(steps <= 11, "{steps} steps for half a lifetime");
}

#[test]
fn nothing_is_allocated_by_advancing() {
    let mut wheel = TimingWheel::new(Millis(0));
    for slot in 0..256 {
        wheel.insert(Slot(slot), Millis(u64::from(slot) * 1000));
    }
    let before = (wheel.nodes.capacity(), wheel.levels.capacity());
    for now in 0..256_000 {
        wheel.advance(Millis(now), 4, |_| ());
    }
    assert!(wheel.is_empty());
    assert_eq!((wheel.nodes.capacity(), wheel.levels.capacity()), before);
}

#[test]
#[should_panic(expected = "has a deadline already")]
fn a_second_insert_is_refused_loudly() {
    let mut wheel = TimingWheel::new(Millis(0));
    wheel.insert(Slot(0), Millis(1));
    wheel.insert(Slot(0), Millis(2));
}

#[derive(Clone, Debug)]
enum Step {
    Reschedule { slot: u32, ahead: u64 },
    Past { slot: u32, behind: u64 },
    Cancel { slot: u32 },
    Advance { by: u64, budget: usize },
    ClockBack { by: u64 },
}

/// Spans of every order of magnitude, and the borders between buckets.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![0..5u64, 0..130u64, 0..10_000u64, (0..40u32).prop_map(|bit| 1 << bit), Just(u64::MAX)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..24u32, span()).prop_map(|(slot, ahead)| Step::Reschedule { slot, ahead }),
        1 => (0..24u32, 0..100u64).prop_map(|(slot, behind)| Step::Past { slot, behind }),
        1 => (0..24u32).prop_map(|slot| Step::Cancel { slot }),
        4 => (span(), prop_oneof![0..6usize, Just(usize::MAX)])
            .prop_map(|(by, budget)| Step::Advance { by: by.min(1 << 41), budget }),
        1 => (0..100u64).prop_map(|by| Step::ClockBack { by }),
    ]
}

proptest! {
    #[test]
    fn the_wheel_is_a_sorted_map(
        start in prop_oneof![Just(0u64), Just(u64::MAX >> 1), any::<u32>().prop_map(u64::from)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut wheel = TimingWheel::new(Millis(start));
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = start;
        for step in steps {
            match step {
                Step::Reschedule { slot, ahead } => {
                    wheel.reschedule(Slot(slot), Millis(now.saturating_add(ahead)));
                    model.insert(slot, now.saturating_add(ahead));
                }
                Step::Past { slot, behind } => {
                    wheel.reschedule(Slot(slot), Millis(now.saturating_sub(behind)));
                    model.insert(slot, now.saturating_sub(behind));
                }
                Step::Cancel { slot } => {
                    prop_assert_eq!(wheel.cancel(Slot(slot)), model.remove(&slot).is_some());
                }
                Step::ClockBack { by } => {
                    let progress = wheel.advance(Millis(now.saturating_sub(by)), usize::MAX, |slot| {
                        assert!(model.remove(&slot.0).is_some_and(|at| at <= now), "fired early or twice");
                    });
                    prop_assert!(progress.finished);
                }
                Step::Advance { by, budget } => {
                    now = now.saturating_add(by);
                    let mut fired = 0;
                    let mut last = 0;
                    let sorted = model.values().all(|at| *at > now - by);
                    let progress = wheel.advance(Millis(now), budget, |slot| {
                        fired += 1;
                        let at = model.remove(&slot.0).expect("fired once, and not after a cancel");
                        assert!(at <= now, "never early");
                        assert!(!sorted || at >= last, "in order");
                        last = at;
                    });
                    prop_assert_eq!(progress.fired, fired);
                    prop_assert!(fired <= budget);
                    let owed = model.values().any(|at| *at <= now);
                    prop_assert!(!(progress.finished && owed), "finished means that nothing is owed");
                    prop_assert!(progress.finished || budget < usize::MAX);
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            for slot in 0..24 {
                prop_assert_eq!(wheel.deadline(Slot(slot)), model.get(&slot).map(|at| Millis(*at)));
            }
            let soonest = model.values().min().copied();
            let promised = wheel.next_deadline().map(|at| at.0);
            prop_assert_eq!(promised.is_some(), soonest.is_some());
            prop_assert!(promised <= soonest.map(|at| at.max(wheel.reached)), "{promised:?} is after {soonest:?}");
        }
        // With enough portions, exactly what is due has been reported.
        while !wheel.advance(Millis(now), 3, |slot| { model.remove(&slot.0); }).finished {}
        prop_assert!(model.values().all(|at| *at > now));
    }
}
