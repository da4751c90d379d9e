use bytes::Bytes;
use kv_core::key::Key;
use kv_core::record::{OperationId, Payload, Record, Version};
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot, Incarnation};
use kv_core::{Expiry, NodeId, hlc::Stamp};
use proptest::prelude::*;

use super::*;
use crate::sabotage::Sabotage;
use crate::session::{InvalidToken, Session, TOKEN_BYTES_MAX};

fn key(name: u64) -> RecordKey {
    RecordKey::new(TableId(1), &Key::from(format!("key {name}"))).expect("a short key")
}

fn dot(node: u64, counter: u64) -> Dot {
    Dot { actor: Actor { node: NodeId(node), incarnation: Incarnation(node * 1_000_003), epoch: 1 }, counter }
}

fn version(birth: u64) -> Version {
    let payload = Payload::Value(Bytes::from_static(b"v"));
    Version { birth: Stamp(birth), payload, expiry: Expiry::NEVER, operation: Some(OperationId(1)) }
}

fn written(key: &RecordKey, dot: Dot, seen: &VersionVector) -> Written {
    let mut seen = seen.clone();
    seen.insert(dot);
    let context = CausalContext::seal(key, &seen);
    Written { dot, birth: Stamp(dot.counter), context, acknowledged: 1, fallbacks: 0 }
}

fn read(key: &RecordKey, seen: &VersionVector) -> Read {
    let empty = Record::empty(Rule::Siblings);
    let record = empty.sibling(dot(9, 1).actor, 0, seen, version(3));
    Read::new(key, Some(record), Millis(1))
}

fn subject(key: &RecordKey) -> Subject<'_> {
    Subject { key, rule: Rule::Siblings, replicas: 3, sloppy: false }
}

/// Writes at a level that settles nothing, or at a quorum.
fn write(state: &mut SessionState, key: &RecordKey, dot: Dot, consistency: Consistency) -> Consistency {
    let (ticket, _) = state.write(subject(key), consistency, None);
    let level = ticket.consistency;
    state.wrote(&ticket, false, key, &written(key, dot, &VersionVector::new()));
    level
}

fn floor(state: &mut SessionState, key: &RecordKey) -> (Consistency, Option<Seen>) {
    let (ticket, floor) = state.read(subject(key), Consistency::One);
    state.abandon(&ticket);
    (ticket.consistency, floor.seen)
}

#[test]
fn a_read_must_be_as_new_as_what_was_written_and_read() {
    let mut state = SessionState::default();
    assert_eq!(floor(&mut state, &key(1)), (Consistency::One, None));
    write(&mut state, &key(1), dot(1, 1), Consistency::One);
    let (ticket, Floor { seen }) = state.read(subject(&key(1)), Consistency::One);
    assert_eq!(seen, Some(Seen::Writes(VersionVector::of(dot(1, 1)))));
    assert!(!seen.unwrap().is_in(None));
    state.saw(&ticket, &read(&key(1), &VersionVector::of(dot(1, 1))));
    let (_, seen) = floor(&mut state, &key(1));
    let both = VersionVector::of(dot(1, 1)).join(&VersionVector::of(dot(9, 1)));
    assert_eq!(seen, Some(Seen::Writes(both.clone())));
    // The next write replaces both, and whoever holds it knows of them.
    let (ticket, context) = state.write(subject(&key(1)), Consistency::One, None);
    assert_eq!(context.unwrap().open(&key(1)), Ok(both.clone()));
    state.wrote(&ticket, false, &key(1), &written(&key(1), dot(2, 1), &both));
    let own = Seen::Writes(both.join(&VersionVector::of(dot(2, 1))));
    assert_eq!(floor(&mut state, &key(1)).1, Some(own));
    assert_eq!(floor(&mut state, &key(2)), (Consistency::One, None));
}

#[test]
fn last_writes_are_ordered_as_the_record_orders_them() {
    let record = |node, birth, payload| Record::last_write(dot(node, 1).actor, Version { payload, ..version(birth) });
    let value = || Payload::Value(Bytes::from_static(b"v"));
    let states = [
        record(1, 1, value()),
        record(1, 2, value()),
        record(2, 2, value()),
        record(1, 2, Payload::Tombstone),
        record(2, 2, Payload::Tombstone),
        record(1, 3, value()),
    ];
    for (at, older) in states.iter().enumerate() {
        for newer in &states[at..] {
            assert_eq!(older.join(newer).unwrap(), *newer, "the order of the record");
            assert!(Seen::of(older).unwrap().is_in(Some(newer)));
            assert_eq!(Seen::of(newer).unwrap().is_in(Some(older)), older == newer);
            assert_eq!(Seen::of(older).unwrap().join(&Seen::of(newer).unwrap()), Seen::of(newer).unwrap());
        }
    }
}

#[test]
fn what_is_settled_is_forgotten_first_and_read_at_quorum_then() {
    let mut state = SessionState::with_room(3);
    write(&mut state, &key(1), dot(1, 1), Consistency::Quorum);
    write(&mut state, &key(2), dot(1, 1), Consistency::One);
    write(&mut state, &key(3), dot(1, 1), Consistency::Quorum);
    assert!(!state.has_forgotten());
    assert_eq!(write(&mut state, &key(4), dot(1, 1), Consistency::One), Consistency::One);
    assert!(state.has_forgotten());
    assert_eq!(floor(&mut state, &key(1)), (Consistency::Quorum, None), "the oldest that was settled");
    assert!(floor(&mut state, &key(2)).1.is_some(), "older than the third, and known to nobody else");
    assert_eq!(floor(&mut state, &key(5)).0, Consistency::Quorum, "nobody can tell that it was not there");
    // What a write says of a key that may have been forgotten is not all that was seen of it.
    assert_eq!(write(&mut state, &key(1), dot(1, 2), Consistency::One), Consistency::Quorum);
    assert_eq!(floor(&mut state, &key(1)), (Consistency::Quorum, None));
    // Once everything is unsettled, further keys are settled at once, and those that are known are not touched.
    assert_eq!(write(&mut state, &key(3), dot(1, 2), Consistency::One), Consistency::One);
    assert_eq!(write(&mut state, &key(6), dot(1, 1), Consistency::LocalQuorum), Consistency::Quorum);
    assert_eq!(write(&mut state, &key(4), dot(1, 2), Consistency::One), Consistency::One);
    assert!([2, 3, 4].iter().all(|known| floor(&mut state, &key(*known)).1.is_some()));
}

#[test]
fn requests_under_way_at_a_time_share_the_room() {
    let session = Session::new();
    let begin = |name| {
        let key = key(name);
        session.begin(|state| state.write(subject(&key), Consistency::One, None)).0
    };
    let mut under_way: Vec<_> = (0..KEYS_MAX as u64).map(begin).collect();
    assert!(under_way.iter().all(|one| one.ticket().consistency == Consistency::One));
    assert_eq!(begin(999).ticket().consistency, Consistency::Quorum);
    under_way.pop();
    assert_eq!(begin(999).ticket().consistency, Consistency::One, "one has ended");
}

/// Two places. One key is not settled, and another request may leave a second one so: a third one has to be settled at once,
/// also when it is known.
fn known_key_without_a_place() -> Result<(), String> {
    let mut state = SessionState::with_room(2);
    let [settled, unsettled, new] = [key(1), key(2), key(3)];
    write(&mut state, &settled, dot(1, 1), Consistency::Quorum);
    write(&mut state, &unsettled, dot(1, 1), Consistency::One);
    let (first, _) = state.write(subject(&new), Consistency::One, None);
    let (second, _) = state.write(subject(&settled), Consistency::One, None);
    state.wrote(&second, false, &settled, &written(&settled, dot(1, 2), &VersionVector::of(dot(1, 1))));
    state.wrote(&first, false, &new, &written(&new, dot(1, 1), &VersionVector::new()));
    let open = state.entries.values().filter(|entry| !entry.settled).count();
    if open > 2 { Err(format!("{open} keys that are not settled")) } else { Ok(()) }
}

#[test]
fn keys_that_are_not_settled_have_their_places() {
    assert_eq!(known_key_without_a_place(), Ok(()));
    assert!(Sabotage::OverbookSession.during(known_key_without_a_place).is_err());
}

/// A read begins; the session sees more of its key and has to forget all of it; then the read is answered, with less.
fn answered_after_its_key_was_forgotten() -> Result<(), String> {
    let mut state = SessionState::with_room(1);
    let key_of_both = key(1);
    let before = VersionVector::of(dot(9, 1));
    write(&mut state, &key_of_both, dot(9, 1), Consistency::Quorum);
    let (late, _) = state.read(subject(&key_of_both), Consistency::One);
    let (more, _) = state.write(subject(&key_of_both), Consistency::Quorum, None);
    state.wrote(&more, false, &key_of_both, &written(&key_of_both, dot(1, 1), &before));
    write(&mut state, &key(2), dot(1, 1), Consistency::Quorum);
    assert!(state.has_forgotten());
    state.saw(&late, &read(&key_of_both, &VersionVector::new()));
    // What it saw is not settled, and must not be lost either; so must the place that it takes.
    let again = SessionState { room: state.room, ..SessionState::decode(&state.encode()).expect("its own token") };
    for mut state in [state, again] {
        let (level, seen) = floor(&mut state, &key_of_both);
        if level != Consistency::Quorum {
            return Err(format!("{seen:?} is taken for all that was seen"));
        }
        assert_eq!(seen, Some(Seen::Writes(before.clone())));
        let (ticket, _) = state.read(subject(&key_of_both), Consistency::One);
        state.saw(&ticket, &read(&key_of_both, &VersionVector::of(dot(1, 1))));
        let all = Seen::Writes(before.join(&VersionVector::of(dot(1, 1))));
        assert_eq!(floor(&mut state, &key_of_both), (Consistency::One, Some(all)), "a quorum has shown the rest");
    }
    Ok(())
}

#[test]
fn what_a_late_answer_tells_is_not_taken_for_all_that_was_seen() {
    assert_eq!(answered_after_its_key_was_forgotten(), Ok(()));
    assert!(Sabotage::TakePartForAll.during(answered_after_its_key_was_forgotten).is_err());
}

#[test]
fn stamps_lie_above_all_that_may_have_been_forgotten() {
    fn lww(key: &RecordKey) -> Subject<'_> {
        Subject { rule: Rule::LastWriteWins, ..subject(key) }
    }
    let mut state = SessionState::with_room(1);
    for (name, birth) in [(1, 50), (2, 40)] {
        let key = key(name);
        let (ticket, _) = state.write(lww(&key), Consistency::Quorum, None);
        state.wrote(&ticket, false, &key, &written(&key, dot(1, birth), &VersionVector::new()));
    }
    let first = key(1);
    let (ticket, context) = state.write(lww(&first), Consistency::Quorum, None);
    state.abandon(&ticket);
    assert!(context.unwrap().open(&first).unwrap().contains(dot(1, 50)));
}

/// A session that has done this and that.
fn busy(room: usize, steps: &[(u8, u64, u64, bool)]) -> SessionState {
    let mut state = SessionState::with_room(room);
    for &(kind, name, counter, quorum) in steps {
        let key = key(name);
        let level = if quorum { Consistency::Quorum } else { Consistency::One };
        let rule = if name % 2 == 0 { Rule::Siblings } else { Rule::LastWriteWins };
        let subject = Subject { rule, ..subject(&key) };
        if kind == 0 && rule == Rule::Siblings {
            let (ticket, floor) = state.read(subject, level);
            let mut seen = floor.seen.map(|seen| seen.to_context()).unwrap_or_default();
            (0..counter).for_each(|node| seen.insert(dot(node + 1, counter)));
            state.saw(&ticket, &read(&key, &seen));
        } else {
            let (ticket, context) = state.write(subject, level, None);
            let seen = context.and_then(|context| context.open(&key).ok()).unwrap_or_default();
            state.wrote(&ticket, kind == 1, &key, &written(&key, dot(counter + 1, counter + 1), &seen));
        }
    }
    state
}

proptest! {
    #[test]
    fn a_token_is_bounded_and_comes_back(steps in prop::collection::vec((0..3_u8, 0..150_u64, 0..90_u64, any::<bool>()), 0..300)) {
        let state = busy(KEYS_MAX, &steps);
        let token = state.encode();
        prop_assert!(token.len() <= TOKEN_BYTES_MAX);
        prop_assert!(state.entries.len() <= KEYS_MAX);
        let again = SessionState::decode(&token).expect("its own token");
        prop_assert_eq!(again.encode(), token);
        let mut state = state;
        let mut again = again;
        for name in 0..150 {
            prop_assert_eq!(floor(&mut again, &key(name)), floor(&mut state, &key(name)));
        }
    }

    /// Each step begins a request, or ends one of those under way.
    #[test]
    fn a_session_keeps_its_bounds_whatever_is_under_way(steps in prop::collection::vec((0..3_u8, 0..8_u64, 1..9_u64, any::<bool>(), any::<prop::sample::Index>()), 0..200)) {
        let mut state = SessionState::with_room(4);
        let mut under_way: Vec<(Ticket, bool, RecordKey, Dot)> = Vec::new();
        for (kind, name, counter, quorum, at) in steps {
            if kind == 2 && !under_way.is_empty() {
                let (ticket, is_read, key, dot) = under_way.swap_remove(at.index(under_way.len()));
                match (is_read, counter) {
                    (_, 8) => state.abandon(&ticket),
                    (true, _) => state.saw(&ticket, &read(&key, &VersionVector::of(dot))),
                    (false, _) => state.wrote(&ticket, false, &key, &written(&key, dot, &VersionVector::new())),
                }
            } else {
                let level = if quorum { Consistency::Quorum } else { Consistency::One };
                let key = key(name);
                let ticket = match kind {
                    0 => state.read(subject(&key), level).0,
                    _ => state.write(subject(&key), level, None).0,
                };
                under_way.push((ticket, kind == 0, key, dot(counter, counter)));
            }
            prop_assert!(state.entries.len() <= 4);
        }
    }

    #[test]
    fn any_bytes_are_a_session_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        crate::fuzzing::session(&bytes);
        let mut token = busy(KEYS_MAX, &[(2, 1, 5, true), (2, 2, 5, false), (0, 4, 30, false)]).encode().to_vec();
        let at = at.index(token.len());
        token[at] ^= 1 | bytes.first().copied().unwrap_or(0);
        prop_assert!(matches!(Session::resume(&token), Err(InvalidToken::Altered)));
        crate::fuzzing::session(&token);
    }
}

#[test]
fn a_token_remembers_no_more_of_a_key_than_a_session() {
    let with = |nodes: u64| {
        let mut state = SessionState::default();
        let dots: VersionVector = (1..=nodes).map(|node| dot(node, 1)).collect();
        let entry = Entry { seen: Seen::Writes(dots), settled: true, is_part: false, used: 1 };
        state.entries.insert(KeyName::of(&key(1)), entry);
        SessionState::decode(&state.encode())
    };
    assert!(with(20).is_ok());
    assert!(matches!(with(200), Err(InvalidToken::Malformed(_))));
}

/// The token in `docs/protocol.md`, byte for byte.
#[test]
fn the_documented_token_is_true() {
    let document = include_str!("../../../../docs/protocol.md");
    let lines = document.lines().skip_while(|line| !line.starts_with("```hex session"));
    let hex = lines.skip(1).take_while(|line| !line.starts_with("```"));
    let bytes: Vec<u8> = hex
        .flat_map(|line| line.split('|').next().expect("a first part").split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect("bytes in hex"))
        .collect();
    let mut state = SessionState::default();
    let user = RecordKey::new(TableId(7), &Key::from("user")).expect("a short key");
    write(&mut state, &user, dot(1, 3), Consistency::One);
    let visits = RecordKey::new(TableId(8), &Key::from("visits")).expect("a short key");
    let subject = Subject { rule: Rule::LastWriteWins, ..subject(&visits) };
    let (ticket, _) = state.write(subject, Consistency::Quorum, None);
    state.wrote(&ticket, true, &visits, &written(&visits, dot(2, 300), &VersionVector::new()));
    let token: Vec<String> = state.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let documented: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(documented.join(" "), token.join(" "));
    assert_eq!(SessionState::decode(&bytes).expect("it is a token"), SessionState { adding: 0, ..state });
}

/// What the fuzzer begins with. After a change of the format: KV_REPL_WRITE_CORPUS=1 cargo test -p kv-repl --lib corpus
#[test]
fn the_corpus_of_the_fuzzer_is_of_this_format() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/session");
    let steps: Vec<_> = (0..9).map(|name| (2, name, name % 3, name % 5 > 0)).collect();
    let sessions = [
        ("empty", SessionState::default()),
        ("one-write", busy(KEYS_MAX, &[(2, 2, 5, false)])),
        ("last-writes", busy(KEYS_MAX, &[(1, 1, 5, true), (2, 3, 70, false)])),
        ("many-writers", busy(KEYS_MAX, &[(0, 4, 20, false)])),
        ("forgetful", busy(3, &steps)),
    ];
    for (name, session) in sessions {
        let path = directory.join(name);
        if std::env::var_os("KV_REPL_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).expect("the directory of the corpus");
            std::fs::write(&path, session.encode()).expect("a file of the corpus");
        }
        assert_eq!(std::fs::read(&path).expect("a file of the corpus"), session.encode(), "{name}");
    }
}
