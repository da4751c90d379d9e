//! Scans, as scenarios: right with the rule on, and wrong with it off.

use std::ops::Bound;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::evict::PolicyKind;
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{OperationId, Payload};

use super::rules::Scenario;
use super::*;
use crate::quorum::Consistency;
use crate::request::Put;
use crate::scan::position::Position;
use crate::scan::{InvalidCursor, Page, Scan, ScanError};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::TrustOneReplica, "a_quorum_scan_finds_what_one_replica_has_missed_and_repairs_it", one_is_behind),
    (Sabotage::SkipThePageEdge, "pages_neither_skip_nor_repeat", page_by_page),
    (Sabotage::LookWithoutBound, "a_page_over_nothing_but_deletes_ends", nothing_but_deletes),
    (Sabotage::TakeAnyCursor, "a_cursor_is_good_for_its_table_alone", foreign_cursors),
    (Sabotage::AnswerBeforeRepair, "lesson_09_two_scans_do_not_go_back_in_time", one_is_ahead),
];

#[test]
fn every_rule_of_scans_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_scans_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

fn world_of(nodes: u64) -> World {
    let mut world = World::new(2, nodes, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3)), ("other", TableOptions::siblings().replicas(3))]);
    world.run_for(1_000_000);
    world
}

fn table(world: &World) -> TableId {
    world.table("carts").expect("a table").id
}

fn write(world: &mut World, node: u64, key: impl Into<Key>, value: Option<&'static str>, consistency: Consistency) {
    let put = Put {
        key: RecordKey::new(table(world), &key.into()).expect("a short key"),
        payload: value.map_or(Payload::Tombstone, |value| Payload::Value(Bytes::from_static(value.as_bytes()))),
        context: None,
        ttl: None,
        operation: OperationId(world.random.u128(..)),
        consistency,
        strict: false,
    };
    let request = world.put(NodeId(node), put);
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
}

fn page_of(world: &mut World, node: u64, position: Position, entries_max: usize, bytes_max: usize) -> Page {
    let scan = Scan { position, entries_max, bytes_max, consistency: Consistency::Quorum };
    let request = world.scan(NodeId(node), scan);
    match world.finish(request) {
        Answer::Scanned(Ok(page)) => page,
        other => panic!("two of three are up: {other:?}"),
    }
}

/// All pages from a position on, each at another node, after whatever happens in between.
fn pages(
    world: &mut World,
    position: Position,
    entries_max: usize,
    bytes_max: usize,
    mut between: impl FnMut(&mut World, usize),
) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut position = Some(position);
    while let Some(at) = position {
        let node = 1 + pages.len() as u64 % world.nodes().len() as u64;
        let page = page_of(world, node, at, entries_max, bytes_max);
        let id = table(world);
        position = page.cursor.as_ref().map(|cursor| Position::decode(cursor, id).expect("its own cursor"));
        pages.push(page);
        assert!(pages.len() < 10_000, "the scan comes to no end");
        between(world, pages.len());
    }
    pages
}

fn keys(pages: &[Page]) -> Vec<Key> {
    pages.iter().flat_map(|page| &page.entries).map(|entry| entry.key.clone()).collect()
}

/// Node 1 was cut off while the others wrote one key and deleted another one. It coordinates a scan at quorum.
fn one_is_behind() -> Result<(), String> {
    let mut world = world_of(3);
    write(&mut world, 1, "deleted", Some("value"), Consistency::All);
    write(&mut world, 1, "kept", Some("value"), Consistency::All);
    for other in [2, 3] {
        world.cut(NodeId(1), NodeId(other));
        world.cut(NodeId(other), NodeId(1));
    }
    write(&mut world, 2, "deleted", None, Consistency::Quorum);
    write(&mut world, 2, "written", Some("value"), Consistency::Quorum);
    world.run_for(4_000_000);
    world.heal_links();
    world.run_for(2_000_000);
    let position = Position::of_table(table(&world));
    let page = page_of(&mut world, 1, position, 100, 1 << 20);
    let mut found = keys(std::slice::from_ref(&page));
    found.sort_unstable();
    if found != [Key::from("kept"), Key::from("written")] || page.differed != 2 {
        return Err(format!("{found:?}, {} of them held differently", page.differed));
    }
    let written = RecordKey::new(table(&world), &Key::from("written")).expect("a short key");
    match world.record_at(NodeId(1), &written) {
        Some(_) => Ok(()),
        None => Err("what differed was not repaired".to_owned()),
    }
}

/// A write that nobody has acknowledged reached one replica. Whoever scans and sees it makes sure that the next one does.
fn one_is_ahead() -> Result<(), String> {
    let mut world = world_of(3);
    for other in [2, 3] {
        world.cut(NodeId(1), NodeId(other));
        world.cut(NodeId(other), NodeId(1));
    }
    write(&mut world, 1, "k", Some("value"), Consistency::One);
    world.run_for(4_000_000);
    world.heal_links();
    world.run_for(2_000_000);
    let position = Position::of_table(table(&world));
    let first = keys(&[page_of(&mut world, 1, position.clone(), 100, 1 << 20)]);
    assert_eq!(first, [Key::from("k")], "node 1 itself holds it");
    world.kill(NodeId(1));
    world.run_for(10_000_000);
    let second = keys(&[page_of(&mut world, 2, position, 100, 1 << 20)]);
    if second == first { Ok(()) } else { Err(format!("{first:?}, and later {second:?}")) }
}

/// Six nodes, keys of two sorts, pages of all sizes; nodes are started again between pages.
fn page_by_page() -> Result<(), String> {
    let mut world = world_of(6);
    let sorted: Vec<Key> = (10..50).map(|sort| Key::from(("user", format!("{sort}")))).collect();
    let mut all: Vec<Key> = (0..60).map(|key| Key::from(format!("key {key}"))).chain(sorted.clone()).collect();
    for (at, key) in all.iter().enumerate() {
        write(&mut world, 1 + at as u64 % 6, key.clone(), Some("value"), Consistency::Quorum);
    }
    let id = table(&world);
    all.sort_by_key(|key| RecordKey::new(id, key).expect("a short key"));
    for (entries_max, bytes_max) in [(1, 1 << 20), (7, 1 << 20), (100, 400), (4096, 1 << 20), (3, 1)] {
        let pages = pages(&mut world, Position::of_table(id), entries_max, bytes_max, |world, count| {
            if count.is_multiple_of(5) {
                let node = NodeId(1 + count as u64 / 5 % 6);
                world.crash(node);
                world.start(node);
                world.run_for(3_000_000);
            }
        });
        let found = keys(&pages);
        if found != all {
            return Err(format!("{} of {} keys in pages of {entries_max}: {found:?}", found.len(), all.len()));
        }
        let largest = pages.iter().map(|page| page.entries.len()).max().unwrap_or(0);
        let bytes = |page: &Page| -> usize {
            let bytes = |entry: &crate::scan::Entry| {
                let key = RecordKey::new(id, &entry.key).expect("a short key").as_bytes().len();
                key + entry.read.record().map_or(0, |record| record.to_bytes().len())
            };
            page.entries.iter().map(bytes).sum()
        };
        let fits = |page: &Page| page.entries.len() == 1 || bytes(page) <= bytes_max;
        if largest > entries_max || !pages.iter().all(fits) {
            return Err(format!("pages of {largest} entries, over {entries_max} or over {bytes_max} bytes"));
        }
    }
    let user = Bytes::from_static(b"user");
    for (range, expected) in [
        ((Bound::Unbounded, Bound::Unbounded), &sorted[..]),
        ((Bound::Included(&b"20"[..]), Bound::Excluded(&b"30"[..])), &sorted[10..20]),
        ((Bound::Excluded(b"20"), Bound::Included(b"30")), &sorted[11..21]),
        ((Bound::Included(b"30"), Bound::Included(b"20")), &[]),
    ] {
        let position = Position::of_sort_keys(id, &user, range).expect("short keys");
        let found = keys(&pages(&mut world, position, 3, 1 << 20, |_, _| {}));
        if found != expected {
            return Err(format!("{range:?}: {found:?}"));
        }
    }
    Ok(())
}

/// Six hundred keys are deleted; a page is to be of ten.
fn nothing_but_deletes() -> Result<(), String> {
    let mut world = world_of(3);
    for key in 0..600 {
        write(&mut world, 1, ("user", format!("{key}")), None, Consistency::Quorum);
    }
    write(&mut world, 1, ("user", "last"), Some("value"), Consistency::Quorum);
    let position = Position::of_table(table(&world));
    let pages = pages(&mut world, position, 10, 1 << 20, |_, _| {});
    let counts: Vec<usize> = pages.iter().map(|page| page.entries.len()).collect();
    if counts == [0, 0, 1] { Ok(()) } else { Err(format!("pages of {counts:?}")) }
}

fn foreign_cursors() -> Result<(), String> {
    let mut world = world_of(3);
    for key in ["a", "b", "c"] {
        write(&mut world, 1, key, Some("value"), Consistency::Quorum);
    }
    let position = Position::of_table(table(&world));
    let cursor = page_of(&mut world, 1, position, 1, 1 << 20).cursor.expect("two more follow");
    let other = world.table("other").expect("a table").id;
    match Position::decode(&cursor, other) {
        Err(InvalidCursor::OtherTable) => {}
        taken => return Err(format!("a cursor of another table: {taken:?}")),
    }
    // Another cluster, with tables of the same numbers.
    let mut elsewhere = World::new(9, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    elsewhere.found(&[("carts", TableOptions::siblings().replicas(3))]);
    let position = Position::decode(&cursor, table(&elsewhere)).expect("a table of that number");
    let scan = Scan { position, entries_max: 1, bytes_max: 1 << 20, consistency: Consistency::Quorum };
    let request = elsewhere.scan(NodeId(1), scan);
    match elsewhere.finish(request) {
        Answer::Scanned(Err(ScanError::InvalidCursor(InvalidCursor::OtherTable))) => Ok(()),
        taken => Err(format!("a cursor of another cluster: {taken:?}")),
    }
}

#[test]
fn caches_and_unknown_tables_are_not_scanned_and_levels_that_cannot_be_met_are_refused() {
    let mut world = world_of(3);
    let cache = TableOptions::cache(PolicyKind::Lru).ttl_max(std::time::Duration::from_secs(60));
    world.create(NodeId(1), "cache", cache);
    world.create(NodeId(1), "single", TableOptions::siblings().replicas(1));
    let id = |world: &World, name| world.table(name).expect("it was created").id;
    let few = crate::quorum::TooFewReplicas { consistency: Consistency::Two, replicas: 1, required: 2 };
    for (table, error) in [
        (id(&world, "cache"), ScanError::CacheTable),
        (TableId(99), ScanError::UnknownTable),
        (id(&world, "single"), ScanError::TooFewReplicas(few)),
    ] {
        let position = Position::of_table(table);
        let scan = Scan { position, entries_max: 1, bytes_max: 1, consistency: Consistency::Two };
        let request = world.scan(NodeId(2), scan);
        assert_eq!(world.finish(request), Answer::Scanned(Err(error)));
    }
}

/// A majority is down: there is an error, and the cursor stays good.
#[test]
fn a_scan_without_a_quorum_fails_and_goes_on_later() {
    let mut world = World::new(3, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world.run_for(1_000_000);
    for key in ["a", "b", "c"] {
        write(&mut world, 1, key, Some("value"), Consistency::Quorum);
    }
    let position = Position::of_table(table(&world));
    let first = page_of(&mut world, 1, position, 1, 1 << 20);
    let position = Position::decode(&first.cursor.clone().expect("two more follow"), table(&world)).expect("a cursor");
    for node in [2, 3] {
        world.crash(NodeId(node));
    }
    let scan =
        Scan { position: position.clone(), entries_max: 9, bytes_max: 1 << 20, consistency: Consistency::Quorum };
    let request = world.scan(NodeId(1), scan);
    let answer = world.finish(request);
    assert!(
        matches!(answer, Answer::Scanned(Err(ScanError::Timeout { .. } | ScanError::Unavailable { .. }))),
        "{answer:?}"
    );
    for node in [2, 3] {
        world.start(NodeId(node));
    }
    world.run_for(5_000_000);
    let rest = page_of(&mut world, 1, position, 9, 1 << 20);
    assert_eq!((first.entries.len(), rest.entries.len(), rest.cursor), (1, 2, None));
}
