//! Scans and descriptions as a host uses them.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{block_on, cluster};
use kv_core::crdt::Kind;
use kv_core::evict::PolicyKind;
use kv_core::key::Key;
use kv_repl::description::{DescribeError, Silence};
use kv_repl::request::ClusterError;
use kv_repl::scan::{InvalidCursor, Page, ScanError};
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Consistency, Node, NodeId, Table, TableOptions};

/// All pages of a table, each at another node. The cursor goes from one to the next as bytes.
fn whole(nodes: &[Node], name: &str, entries_max: usize) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let table = nodes[pages.len() % nodes.len()].table(name).unwrap();
        let request = match pages.last() {
            None => table.scan(),
            Some(last) => table.scan_on(last.cursor.as_ref().unwrap()),
        };
        pages.push(request.entries_max(entries_max).wait().unwrap());
        if pages.last().unwrap().cursor.is_none() {
            return pages;
        }
    }
}

fn keys(pages: &[Page]) -> Vec<Key> {
    pages.iter().flat_map(|page| &page.entries).map(|entry| entry.key.clone()).collect()
}

#[test]
fn a_scan_finds_what_is_there_and_nothing_else() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    assert_eq!(whole(&nodes, "t", 10).iter().map(|page| page.entries.len()).sum::<usize>(), 0);
    table.put_many((0..300).map(|key| (format!("key {key}"), format!("value {key}")))).wait().unwrap();
    table.delete_many((0..100).map(|key| format!("key {key}"))).wait().unwrap();
    table.put("short", "lived").ttl(Duration::from_millis(1)).wait().unwrap();
    table.put_many((0..20).map(|sort| (("user", format!("{sort:02}")), vec![b'.'; 1000]))).wait().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test waits for the wall clock of the node")]
    std::thread::sleep(Duration::from_millis(20));
    let pages = whole(&nodes, "t", 7);
    let found = keys(&pages);
    let expected: BTreeSet<Key> = (100..300)
        .map(|key| Key::from(format!("key {key}")))
        .chain((0..20).map(|sort| Key::from(("user", format!("{sort:02}")))))
        .collect();
    assert_eq!(found.len(), expected.len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    for entry in pages.iter().flat_map(|page| &page.entries).filter(|entry| entry.key.sort.is_empty()) {
        let number = String::from_utf8_lossy(&entry.key.partition).replace("key ", "");
        assert_eq!(entry.read.values(), [format!("value {number}").as_bytes()]);
    }
    let sort_keys = |page: &Page| -> Vec<String> {
        page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.key.sort).into_owned()).collect()
    };
    let page = table.scan_range("user", "03".."06").wait().unwrap();
    assert_eq!((sort_keys(&page), page.cursor), (vec!["03".into(), "04".into(), "05".into()], None));
    let page = block_on(table.scan_partition("user").bytes_max(2_500)).unwrap();
    assert_eq!(sort_keys(&page), ["00", "01"], "two of a kilobyte fit");
    let rest = table.scan_on(page.cursor.unwrap()).consistency(Consistency::All).wait().unwrap();
    assert_eq!((rest.entries.len(), rest.cursor), (18, None));
    assert_eq!(table.scan_range("user", "18"..).wait().unwrap().entries.len(), 2);
    assert_eq!(table.scan_range("user", "06".."03").wait().unwrap().entries.len(), 0);
}

#[test]
fn tables_of_data_types_are_scanned_and_what_was_removed_is_not_found() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let likes = nodes[0].create_table("likes", TableOptions::crdt(Kind::Counter)).unwrap();
    for (key, count) in [("cat", 3), ("dog", 4)] {
        likes.increment(key, count).wait().unwrap();
    }
    likes.delete("dog").wait().unwrap();
    let page = likes.scan().wait().unwrap();
    assert_eq!(keys(std::slice::from_ref(&page)), [Key::from("cat")]);
    assert_eq!(page.entries[0].read.counter(), Ok(3));
}

#[test]
fn each_mistake_of_a_scan_has_its_own_error() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    let other = nodes[0].create_table("other", TableOptions::siblings()).unwrap();
    table.put_many([("a", "1"), ("b", "2")]).wait().unwrap();
    let cursor = table.scan().entries_max(1).wait().unwrap().cursor.unwrap();
    let invalid = |table: &Table, cursor: &[u8]| match table.scan_on(cursor).wait() {
        Err(ScanError::InvalidCursor(why)) => why,
        taken => panic!("{taken:?}"),
    };
    assert_eq!(invalid(&other, &cursor), InvalidCursor::OtherTable);
    assert_eq!(invalid(&table, &[&cursor[..], b"x"].concat()), InvalidCursor::Altered);
    assert!(matches!(invalid(&table, b""), InvalidCursor::Malformed(_)));
    assert!(matches!(table.scan_partition("").wait(), Err(ScanError::InvalidKey(_))));
    let cache = TableOptions::cache(PolicyKind::Lru).ttl_max(Duration::from_secs(60));
    let cache = nodes[0].create_table("cache", cache).unwrap();
    assert_eq!(cache.scan().wait().unwrap_err(), ScanError::CacheTable);
    assert_eq!(cache.describe("a").wait().unwrap_err(), DescribeError::CacheTable);
    assert!(matches!(table.describe("").wait(), Err(DescribeError::InvalidKey(_))));
    assert!(matches!(nodes[0].table("none"), Err(ClusterError::UnknownTable)));
}

#[test]
fn a_description_says_who_holds_what_and_who_is_away() {
    let network = MemoryNetwork::new();
    let mut nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    let written = table.put("key", "value").consistency(Consistency::All).wait().unwrap();
    let description = nodes[1].table("t").unwrap().describe("key").wait().unwrap();
    assert!(description.agrees());
    assert_eq!(description.partition, table.layout().partition_of(description.token));
    for replica in &description.replicas {
        let held = replica.says.as_ref().unwrap().record.as_ref().unwrap();
        let [version] = held.versions[..] else { panic!("one version") };
        assert_eq!((version.dot, version.birth, version.bytes), (written.dot, written.birth, 5));
        assert!(replica.reachable && !version.is_tombstone && version.expiry.time().is_none());
    }
    nodes.pop().unwrap().kill();
    let description = block_on(table.describe("key").deadline(Duration::from_millis(300))).unwrap();
    let silent = |node| description.replicas.iter().any(|r| r.node == NodeId(node) && r.says == Err(Silence::NoAnswer));
    assert!(silent(3) && !silent(1) && !silent(2) && !description.agrees());
    let nothing = table.describe("other key").deadline(Duration::from_millis(300)).wait().unwrap();
    assert_eq!(nothing.sight(NodeId(1)).unwrap().record, None);
}
