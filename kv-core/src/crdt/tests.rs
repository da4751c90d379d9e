//! Laws of the data types, under random schedules of three replicas, and what each type reads, against a
//! [model](model) that knows the whole history.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::codec::Reader;
use crate::hlc::Stamp;
use crate::record::OperationId;
use crate::version::{Actor, Dot, Incarnation, VersionVector};

mod model;

use model::{Event, History, reading};

pub(super) fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), incarnation: Incarnation(0x1122_3344_5566_7788), epoch: 1 }
}

#[derive(Clone, Debug)]
enum Step {
    /// A replica updates.
    Update(usize, Update),
    /// A replica gets the whole state of another.
    Sync { from: usize, to: usize },
    /// A replica gets one change, by its place in the order of all.
    Deliver { change: usize, to: usize },
}

fn names() -> BoxedStrategy<Bytes> {
    (0_u8..3).prop_map(|name| Bytes::from(vec![b'a' + name])).boxed()
}

fn updates(kind: Kind, depth: u32) -> BoxedStrategy<Update> {
    let change = match kind {
        Kind::Counter => (-9_i64..9).prop_map(Update::Add).boxed(),
        Kind::Set => prop_oneof![names().prop_map(Update::Insert), names().prop_map(Update::Remove)].boxed(),
        Kind::LwwMap => prop_oneof![
            (names(), names()).prop_map(|(key, value)| Update::Put { key, value }),
            names().prop_map(Update::Remove)
        ]
        .boxed(),
        Kind::EnableWinsFlag | Kind::DisableWinsFlag => any::<bool>().prop_map(Update::Switch).boxed(),
        Kind::MaxRegister | Kind::MinRegister => (-9_i64..9).prop_map(Update::Offer).boxed(),
        Kind::MvRegister => names().prop_map(Update::Write).boxed(),
        Kind::Map => {
            let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| depth > 0 || *kind != Kind::Map).collect();
            let field = (prop::sample::select(kinds), names()).prop_map(|(kind, name)| Field { kind, name }).boxed();
            prop_oneof![
                4 => field.clone().prop_flat_map(move |field| {
                    updates(field.kind, depth.saturating_sub(1))
                        .prop_map(move |update| Update::In(field.clone(), Box::new(update)))
                }),
                1 => field.prop_map(Update::RemoveField),
            ]
            .boxed()
        }
    };
    prop_oneof![8 => change, 1 => Just(Update::Clear)].boxed()
}

fn schedules(kind: Kind) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..3, updates(kind, 1)).prop_map(|(at, update)| Step::Update(at, update)),
        2 => (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::Sync { from, to }),
        1 => (0_usize..30, 0_usize..3).prop_map(|(change, to)| Step::Deliver { change, to }),
    ];
    prop::collection::vec(step, 0..24)
}

fn any_kind() -> impl Strategy<Value = (Kind, Vec<Step>)> {
    prop::sample::select(Kind::ALL.to_vec()).prop_flat_map(|kind| schedules(kind).prop_map(move |steps| (kind, steps)))
}

/// What a schedule comes to.
struct Run {
    replicas: Vec<Dotted<Crdt>>,
    /// Which events each replica has got.
    known: Vec<std::collections::BTreeSet<usize>>,
    history: History,
    changes: Vec<Dotted<Crdt>>,
}

fn empty(kind: Kind) -> Dotted<Crdt> {
    Dotted::of(Crdt::empty(kind), VersionVector::new())
}

fn run(kind: Kind, steps: Vec<Step>) -> Run {
    let mut run = Run {
        replicas: vec![empty(kind); 3],
        known: vec![std::collections::BTreeSet::new(); 3],
        history: History { kind, events: Vec::new() },
        changes: Vec::new(),
    };
    for step in steps {
        match step {
            Step::Update(at, update) => {
                let dot = run.replicas[at].next_dot(actor(at as u64), 0);
                // Some births are equal.
                let mint = Mint { dot, birth: Stamp(run.changes.len() as u64 / 2), operation: None };
                let change = run.replicas[at].change(mint, None, &update).unwrap();
                run.replicas[at].absorb(&change);
                let visible = run.known[at].clone();
                run.known[at].insert(run.changes.len());
                run.history.events.push(Event { dot, birth: mint.birth, update, visible });
                run.changes.push(change);
            }
            Step::Sync { from, to } => {
                let news = run.replicas[from].clone();
                run.replicas[to].absorb(&news);
                let known = run.known[from].clone();
                run.known[to].extend(known);
            }
            Step::Deliver { change, to } => {
                // Only what its maker had: the model knows histories that are closed under what was visible.
                if run.history.events.get(change).is_some_and(|event| event.visible.is_subset(&run.known[to])) {
                    let news = run.changes[change].clone();
                    run.replicas[to].absorb(&news);
                    run.known[to].insert(change);
                }
            }
        }
    }
    run
}

/// The dots of live parts.
fn live_dots(state: &Dotted<Crdt>) -> Vec<Dot> {
    let mut dots = Vec::new();
    let _ = state.value().clear(state.context(), &mut dots);
    dots.sort_unstable();
    dots
}

fn encoded(state: &Dotted<Crdt>) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn states_and_changes_are_a_join_semilattice((kind, steps) in any_kind(), split in 0_usize..24) {
        let run = run(kind, steps);
        let [a, b, c] = [&run.replicas[0], &run.replicas[1], &run.replicas[2]];
        prop_assert_eq!(a.join(b), b.join(a));
        prop_assert_eq!(a.join(b).join(c), a.join(&b.join(c)));
        prop_assert_eq!(a.join(a), a.clone());
        prop_assert_eq!(a.join(b).join(a), a.join(b));

        // Changes that nobody holds together with what they had seen obey the same laws.
        let (older, newer) = run.changes.split_at(split.min(run.changes.len()));
        let fold = |changes: &[Dotted<Crdt>]| changes.iter().fold(empty(kind), |state, change| state.join(change));
        let all = fold(&run.changes);
        prop_assert_eq!(&fold(newer).join(&fold(older)), &all);
        prop_assert_eq!(&run.changes.iter().rev().fold(empty(kind), |state, change| change.join(&state)), &all);
        prop_assert_eq!(&a.join(b).join(c), &all, "states hold what their changes say, and nothing else");
        prop_assert_eq!(encoded(&a.join(b).join(c)), encoded(&all));
    }

    #[test]
    fn a_dot_leaves_only_by_a_context_that_saw_it((kind, steps) in any_kind()) {
        let run = run(kind, steps);
        let all = run.changes.iter().fold(empty(kind), |state, change| state.join(change));
        let mut expected: Vec<Dot> = Vec::new();
        for (index, change) in run.changes.iter().enumerate() {
            let others = || run.changes.iter().enumerate().filter(|(other, _)| *other != index);
            let unseen = |dot: &Dot| !others().any(|(_, other)| other.context().contains(*dot));
            expected.extend(live_dots(change).into_iter().filter(unseen));
        }
        expected.sort_unstable();
        prop_assert_eq!(live_dots(&all), expected);
        prop_assert!(live_dots(&all).iter().all(|dot| all.context().contains(*dot)));
    }

    #[test]
    fn every_replica_reads_what_the_history_it_knows_says((kind, steps) in any_kind()) {
        let run = run(kind, steps);
        for (replica, known) in run.replicas.iter().zip(&run.known) {
            prop_assert_eq!(reading(replica.value()), run.history.reading(known));
        }
        let everything = (0..run.changes.len()).collect();
        let all = run.changes.iter().fold(empty(kind), |state, change| state.join(change));
        prop_assert_eq!(reading(all.value()), run.history.reading(&everything));
    }

    #[test]
    fn states_and_changes_come_back_from_their_bytes((kind, steps) in any_kind()) {
        let run = run(kind, steps);
        for state in run.replicas.iter().chain(&run.changes) {
            let bytes = encoded(state);
            let mut reader = Reader::new(&bytes);
            let decoded = Dotted::<Crdt>::decode(&mut reader).unwrap();
            reader.finish().unwrap();
            prop_assert_eq!(&decoded, state);
        }
        for event in &run.history.events {
            let mut out = Vec::new();
            event.update.encode(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(&Update::decode(&mut reader).unwrap(), &event.update);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn altered_bytes_are_refused_or_canonical((kind, steps) in any_kind(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let run = run(kind, steps);
        let mut bytes = encoded(&run.replicas[0]);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        crate::fuzzing::crdt(&bytes);
        crate::fuzzing::crdt(&bytes[..at]);
    }
}

fn mint(state: &Dotted<Crdt>, node: u64, operation: Option<u128>) -> Mint {
    Mint { dot: state.next_dot(actor(node), 0), birth: Stamp(1), operation: operation.map(OperationId) }
}

fn update(state: &mut Dotted<Crdt>, node: u64, update: &Update) -> Dotted<Crdt> {
    let change = state.change(mint(state, node, None), None, update).unwrap();
    state.absorb(&change);
    change
}

fn count(state: &Dotted<Crdt>) -> i128 {
    match state.value() {
        Crdt::Counter(counter) => counter.value(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lesson_16_a_retry_counts_once() {
    let mut state = empty(Kind::Counter);
    let first = state.change(mint(&state, 1, Some(7)), None, &Update::Add(5)).unwrap();
    state.absorb(&first);
    let retry = state.change(mint(&state, 1, Some(7)), None, &Update::Add(5)).unwrap();
    state.absorb(&retry);
    assert_eq!(count(&state), 5);
    assert_eq!(retry.context().counter_max(actor(1)), 1, "a retry is the first attempt again, with its dot");
    // So it is where the first attempt has only been heard of.
    let elsewhere = state.change(mint(&state, 2, Some(7)), None, &Update::Add(5)).unwrap();
    state.absorb(&elsewhere);
    assert_eq!((count(&state), elsewhere.context().counter_max(actor(2))), (5, 0));
    // Another name is another operation; and the actor remembers so many names and no more.
    for name in 0..PnCounter::OPERATIONS_MAX as u128 {
        let change = state.change(mint(&state, 1, Some(100 + name)), None, &Update::Add(1)).unwrap();
        state.absorb(&change);
    }
    assert_eq!(count(&state), 5 + PnCounter::OPERATIONS_MAX as i128);
    let too_late = state.change(mint(&state, 1, Some(7)), None, &Update::Add(5)).unwrap();
    state.absorb(&too_late);
    assert_eq!(count(&state), 10 + PnCounter::OPERATIONS_MAX as i128, "as documented");
}

/// A client that has seen nothing writes, does not hear of it, and asks again: here, and where the first attempt is not known.
#[test]
fn a_write_that_is_asked_for_again_does_not_stand_beside_itself() {
    let mut here = empty(Kind::MvRegister);
    let mut elsewhere = here.clone();
    let seen = VersionVector::new();
    let write = |state: &mut Dotted<Crdt>, node, value: &'static [u8]| {
        let update = Update::Write(Bytes::from_static(value));
        let change = state.change(mint(state, node, None), Some(&seen), &update).unwrap();
        state.absorb(&change);
    };
    let stored = |state: &Dotted<Crdt>| match state.value() {
        Crdt::MvRegister(register) => register.values().into_iter().cloned().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    write(&mut here, 1, b"v");
    write(&mut here, 1, b"v");
    let mut bytes = Vec::new();
    here.encode(&mut bytes);
    let mut once = empty(Kind::MvRegister);
    write(&mut once, 1, b"v");
    let mut bytes_once = Vec::new();
    once.encode(&mut bytes_once);
    assert_eq!((stored(&here), bytes.len()), (stored(&once), bytes_once.len()), "nothing else is kept");
    write(&mut here, 1, b"other");
    assert_eq!(stored(&here), ["other", "v"], "another value stands beside it");
    write(&mut elsewhere, 2, b"v");
    assert_eq!(stored(&here.join(&elsewhere)), ["other", "v"], "under two dots, and read once");
}

#[test]
fn lesson_16_a_counter_goes_on_right_after_a_delete() {
    let mut left = empty(Kind::Counter);
    update(&mut left, 1, &Update::Add(10));
    let mut right = left.clone();
    // The right deletes what it has observed; at the same time the left counts on, under a total that contains the ten.
    let delete = update(&mut right, 2, &Update::Clear);
    let one = update(&mut left, 1, &Update::Add(1));
    left.absorb(&delete);
    right.absorb(&one);
    assert_eq!(left, right);
    assert_eq!(count(&left), 1, "the delete observed ten, and did not observe the one");
    // Two deletes of the same ten take it once.
    let mut third = right.clone();
    update(&mut right, 2, &Update::Clear);
    update(&mut third, 3, &Update::Clear);
    assert_eq!(count(&right.join(&third)), 0);
    update(&mut right, 1, &Update::Add(3));
    assert_eq!(count(&right.join(&left).join(&third)), 3);
}

#[test]
fn lesson_16_a_counter_in_a_map_goes_on_right_after_its_field_was_removed() {
    let field = Field { kind: Kind::Counter, name: Bytes::from_static(b"likes") };
    let add = |amount| Update::In(field.clone(), Box::new(Update::Add(amount)));
    let likes = |state: &Dotted<Crdt>| match state.value() {
        Crdt::Map(map) => map.get(&field).map(|value| match value {
            Crdt::Counter(counter) => counter.value(),
            other => panic!("{other:?}"),
        }),
        other => panic!("{other:?}"),
    };
    let mut left = empty(Kind::Map);
    update(&mut left, 1, &add(10));
    let mut right = left.clone();
    update(&mut right, 2, &Update::RemoveField(field.clone()));
    assert_eq!(likes(&right), None);
    update(&mut left, 1, &add(1));
    assert_eq!(likes(&left.join(&right)), Some(1));
}

#[test]
fn a_removal_that_names_what_it_saw_takes_no_more() {
    let mut state = empty(Kind::Set);
    update(&mut state, 1, &Update::Insert("milk".into()));
    let seen = state.context().clone();
    update(&mut state, 2, &Update::Insert("milk".into()));
    let removal = Update::Remove("milk".into());
    let change = state.change(mint(&state, 1, None), Some(&seen), &removal).unwrap();
    let after = state.join(&change);
    let Crdt::Set(set) = after.value() else { panic!() };
    assert!(set.contains(&"milk".into()), "the client had not seen the second insert");

    let behind = empty(Kind::Set);
    assert_eq!(
        behind.change(mint(&behind, 3, None), Some(&seen), &removal),
        Err(UpdateRefused::ContextAhead),
        "this replica has not got what the client saw"
    );
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let state = empty(Kind::Counter);
    let refuse = |state: &Dotted<Crdt>, update: &Update| state.change(mint(state, 1, None), None, update).unwrap_err();
    assert_eq!(refuse(&state, &Update::Switch(true)), UpdateRefused::WrongKind(Kind::Counter));
    let mut full = state.clone();
    update(&mut full, 1, &Update::Add(i64::MAX));
    assert!(matches!(refuse(&full, &Update::Add(1)), UpdateRefused::Overflow(CounterOverflow { amount: 1, .. })));
    update(&mut full, 2, &Update::Add(i64::MAX));
    assert_eq!(count(&full), 2 * i128::from(i64::MAX), "the sum is wider than its parts");

    let field = |kind| Field { kind, name: Bytes::from_static(b"f") };
    let nested = |depth: usize| {
        let leaf = Update::In(field(Kind::Counter), Box::new(Update::Add(1)));
        (1..depth).fold(leaf, |update, _| Update::In(field(Kind::Map), Box::new(update)))
    };
    let map = empty(Kind::Map);
    assert_eq!(refuse(&map, &nested(crate::limits::CRDT_DEPTH_MAX + 1)), UpdateRefused::TooDeep);
    let deepest = map.change(mint(&map, 1, None), None, &nested(crate::limits::CRDT_DEPTH_MAX)).unwrap();
    let bytes = encoded(&deepest);
    assert_eq!(Dotted::<Crdt>::decode(&mut Reader::new(&bytes)).unwrap(), deepest, "what can be made can be read");
    let mut out = Vec::new();
    nested(crate::limits::CRDT_DEPTH_MAX + 1).encode(&mut out);
    assert!(Update::decode(&mut Reader::new(&out)).is_err());
}

#[test]
fn a_map_of_any_depth_in_bytes_is_refused_and_does_not_exhaust_the_stack() {
    let mut bytes = Vec::new();
    VersionVector::of(Dot { actor: actor(1), counter: 1 }).encode(&mut bytes);
    for _ in 0..100_000 {
        bytes.extend_from_slice(&[Kind::Map.code(), 1, Kind::Map.code(), 0]);
    }
    assert_eq!(Dotted::<Crdt>::decode(&mut Reader::new(&bytes)).unwrap_err().what, "maps nested too deep");
}

#[test]
fn an_update_says_which_kinds_take_it() {
    let field = Field { kind: Kind::Counter, name: "f".into() };
    let updates = [
        Update::Add(1),
        Update::Insert("e".into()),
        Update::Remove("e".into()),
        Update::Put { key: "k".into(), value: "v".into() },
        Update::Switch(true),
        Update::Offer(1),
        Update::Write("v".into()),
        Update::Clear,
        Update::In(field.clone(), Box::new(Update::Add(1))),
        Update::In(field.clone(), Box::new(Update::Offer(1))),
        Update::RemoveField(field),
    ];
    for kind in Kind::ALL {
        let state = empty(kind);
        for update in &updates {
            let outcome = state.change(mint(&state, 1, None), None, update);
            assert_eq!(update.applies_to(kind), outcome.is_ok(), "{update:?} of a {kind:?}: {outcome:?}");
        }
    }
}

#[test]
fn a_write_that_names_what_it_saw_replaces_no_more() {
    for (kind, first, second) in [
        (Kind::MvRegister, Update::Write("a".into()), Update::Write("b".into())),
        (Kind::EnableWinsFlag, Update::Switch(true), Update::Switch(false)),
    ] {
        let mut state = empty(kind);
        update(&mut state, 1, &first);
        let seen = state.context().clone();
        update(&mut state, 2, &first);
        let change = state.change(mint(&state, 1, None), Some(&seen), &second).unwrap();
        assert_eq!(live_dots(&state.join(&change)).len(), 2, "the writer had not seen the second {kind:?}");
        let behind = empty(kind);
        let refused = behind.change(mint(&behind, 3, None), Some(&seen), &second);
        assert_eq!(refused, Err(UpdateRefused::ContextAhead));
    }
}

#[test]
fn lesson_16_whoever_holds_a_count_knows_its_latest_operations() {
    let field = Field { kind: Kind::Counter, name: "likes".into() };
    let add = Update::In(field, Box::new(Update::Add(1)));
    let mut state = empty(Kind::Map);
    for operation in 1..=9 {
        let change = state.change(mint(&state, 1, Some(operation)), None, &add).unwrap();
        state.absorb(&change);
    }
    let known = |operation| state.value().counted(&add, OperationId(operation)).is_some();
    assert!(!known(1) && (2..=9).all(known) && !known(10));
}
