//! Batches as a host uses them.

mod common;

use std::time::Duration;

use common::{block_on, cluster, cluster_with};
use kv_core::crdt::Kind;
use kv_core::key::Key;
use kv_repl::client::WriteRequest;
use kv_repl::config::Config;
use kv_repl::request::{BatchError, WriteError};
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Consistency, NodeId, Session, TableOptions};

#[test]
fn what_a_batch_writes_a_batch_reads_in_the_order_of_the_keys() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    // More than one frame can carry.
    let entry = |key: usize| (format!("key {key}"), [format!("{key}").as_bytes(), &[b'.'; 3_000]].concat());
    let written = table.put_many((0..200).map(entry)).wait().unwrap();
    assert!(written.into_iter().all(|outcome| outcome.unwrap().acknowledged >= 2));
    for node in &nodes {
        let table = node.table("t").unwrap();
        let read = table.get_many((0..201).rev().map(|key| entry(key).0)).wait().unwrap();
        assert_eq!(read.len(), 201);
        assert!(read[0].as_ref().unwrap().values().is_empty(), "nobody has written it");
        for (key, outcome) in (0..200).rev().zip(&read[1..]) {
            assert_eq!(outcome.as_ref().unwrap().values(), [&entry(key).1[..]]);
        }
    }
    let deleted = table.delete_many((0..100).map(|key| entry(key).0)).wait().unwrap();
    assert_eq!(deleted.into_iter().filter(Result::is_ok).count(), 100);
    let read = block_on(table.get_many((0..200).map(|key| entry(key).0)).consistency(Consistency::All)).unwrap();
    let held: Vec<bool> = read.into_iter().map(|outcome| !outcome.unwrap().values().is_empty()).collect();
    assert_eq!(held, [[false; 100], [true; 100]].concat());
}

#[test]
fn each_write_of_a_batch_has_its_own_outcome() {
    let network = MemoryNetwork::new();
    let nodes = cluster_with(&network, 3, &Config { value_bytes_max: 100, ..Config::default() });
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    let likes = nodes[0].create_table("likes", TableOptions::crdt(Kind::Counter)).unwrap();
    let writes: [WriteRequest; 5] = [
        table.put("one", "value").into(),
        table.put("two", vec![0; 101]).into(),
        table.put("three", "value").ttl(Duration::ZERO).into(),
        likes.increment("four", 4).into(),
        likes.put("five", "value").into(),
    ];
    let outcomes = table.write_many(writes).wait().unwrap();
    assert!(matches!(
        &outcomes[..],
        [
            Ok(_),
            Err(WriteError::ValueTooLarge { bytes: 101, bytes_max: 100 }),
            Err(WriteError::InvalidTtl(_)),
            Ok(_),
            Err(WriteError::WrongTable { .. })
        ]
    ));
    assert_eq!(table.get("one").wait().unwrap().values(), ["value"]);
    assert_eq!(likes.get("four").wait().unwrap().counter().unwrap(), 4);
    // Two writes of one key, in order; neither has seen the other.
    table.put_many([("six", "first"), ("six", "second")]).wait().unwrap();
    assert_eq!(table.get("six").wait().unwrap().values(), ["first", "second"]);
}

#[test]
fn a_batch_is_bounded_and_nothing_of_one_that_is_refused_is_done() {
    let network = MemoryNetwork::new();
    let config = Config { batch_requests_max: 3, batch_bytes_max: 1_000, ..Config::default() };
    let nodes = cluster_with(&network, 3, &config);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    let four = ["a", "b", "c", "d"];
    let too_many = BatchError::TooMany { count: 4, count_max: 3 };
    assert_eq!(table.put_many(four.map(|key| (key, "v"))).wait().unwrap_err(), too_many);
    assert_eq!(table.get_many(four).wait().unwrap_err(), too_many);
    let too_large = BatchError::TooLarge { bytes: 1_002, bytes_max: 1_000 };
    assert_eq!(table.put_many(["a", "b"].map(|key| (key, vec![0; 500]))).wait().unwrap_err(), too_large);
    assert_eq!(
        table.get_many([Key::new(vec![b'k'; 500], vec![b's'; 501])]).wait().unwrap_err(),
        BatchError::TooLarge { bytes: 1_001, bytes_max: 1_000 }
    );
    let elsewhere = nodes[1].table("t").unwrap();
    let mixed = [table.put("a", "v"), elsewhere.put("b", "v")];
    assert_eq!(block_on(table.write_many(mixed)).unwrap_err(), BatchError::OtherNode);
    let read = table.get_many(["a", "b", "c"]).wait().unwrap();
    assert!(read.into_iter().all(|outcome| outcome.unwrap().values().is_empty()), "nothing was written");
    assert_eq!(table.get_many(Vec::<Key>::new()).wait().unwrap(), []);
}

#[test]
fn a_batch_that_nobody_acknowledged_is_retried_under_its_names() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    for other in [2, 3] {
        network.disconnect(nodes[0].id(), NodeId(other));
    }
    let entries = [("a", "1"), ("b", "2")];
    let batch = table.put_many(entries).deadline(Duration::from_millis(300));
    let names = batch.operation_ids();
    for (outcome, name) in batch.wait().unwrap().into_iter().zip(&names) {
        let ambiguous = matches!(outcome, Err(WriteError::Ambiguous { operation, .. }) if operation == *name);
        let refused = matches!(outcome, Err(WriteError::Unavailable { .. }));
        assert!(ambiguous || refused, "{outcome:?}");
    }
    network.heal();
    let again = || entries.into_iter().zip(&names).map(|((key, value), name)| table.put(key, value).operation(*name));
    let give_up = 50;
    let acknowledged = (0..give_up).any(|_| table.write_many(again()).wait().unwrap().iter().all(Result::is_ok));
    assert!(acknowledged);
    let read = table.get_many(["a", "b"]).wait().unwrap();
    let values: Vec<_> = read.iter().flat_map(|outcome| outcome.as_ref().unwrap().values()).collect();
    assert_eq!(values, ["1", "2"], "once each");
}

#[test]
fn a_session_sees_what_its_batches_wrote() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings()).unwrap();
    let session = Session::new();
    for round in 0..20 {
        let entries = (0..5).map(|key| (format!("{key}"), format!("{round}")));
        let written = table.put_many(entries).session(&session).consistency(Consistency::One).wait().unwrap();
        assert!(written.iter().all(Result::is_ok));
        let there = nodes[1 + round % 2].table("t").unwrap();
        let keys = (0..5).map(|key| format!("{key}"));
        let read = there.get_many(keys).session(&session).consistency(Consistency::One).wait().unwrap();
        for outcome in read {
            assert_eq!(outcome.unwrap().values(), [format!("{round}").as_bytes()], "it replaces what the session saw");
        }
    }
}
