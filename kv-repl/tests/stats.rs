//! What nodes count while they serve.

mod common;

use std::time::Duration;

use common::{cluster, cluster_with};
use kv_core::export::checker::check;
use kv_repl::config::Config;
use kv_repl::message::MessageKind;
use kv_repl::request::WriteError;
use kv_repl::stats::{OutcomeKind, RequestKind, Stats};
use kv_repl::transport::{Lane, MemoryNetwork};
use kv_repl::{Consistency, TableOptions};

fn answered(stats: &Stats, kind: RequestKind, outcome: OutcomeKind) -> u64 {
    stats.requests.kind(kind).outcomes(outcome)
}

#[test]
fn a_node_counts_what_it_does_for_clients_and_says_to_peers() {
    let network = MemoryNetwork::new();
    let mut nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(3)).unwrap();
    for key in 0..50 {
        table.put(format!("{key}"), "value").wait().unwrap();
        table.get(format!("{key}")).wait().unwrap();
    }
    table.delete("7").wait().unwrap();
    let batch = table.put_many((0..20).map(|key| (format!("batch {key}"), "value"))).wait().unwrap();
    assert!(batch.iter().all(Result::is_ok));
    let stats = nodes[0].stats().unwrap();
    assert_eq!(stats.status.tables, ["t"]);
    assert_eq!(answered(&stats, RequestKind::Put, OutcomeKind::Ok), 70);
    assert_eq!(answered(&stats, RequestKind::Get, OutcomeKind::Ok), 50);
    assert_eq!(answered(&stats, RequestKind::Delete, OutcomeKind::Ok), 1);
    assert_eq!((answered(&stats, RequestKind::Found, OutcomeKind::Ok), stats.requests.batches.max()), (1, 20));
    let puts = &stats.requests.kind(RequestKind::Put).done;
    assert!(puts.count() == 70 && puts.min() > 0 && puts.max() < 30_000_000, "{puts:?}");

    assert!(stats.traffic.sent.messages(MessageKind::Write) >= 2 * 71);
    assert!(stats.traffic.sent.messages(MessageKind::Together) >= 2, "the batch");
    assert!(stats.traffic.received.messages(MessageKind::WriteReply) >= 71);
    let (sent, there) =
        (stats.traffic.sent.lane(Lane::Request), nodes[1].stats().unwrap().traffic.received.lane(Lane::Request));
    assert!(sent.frames > 50 && sent.bytes > 50 * sent.frames, "{sent:?}");
    assert!(there.frames > 50, "{there:?}");

    let turns = &stats.turns;
    assert!(turns.inputs.count() == turns.took.count() && turns.inputs.sum() > 100, "{turns:?}");
    assert!(turns.commits.count() >= 52 && turns.commit_operations.sum() >= 71, "{turns:?}");
    assert!(turns.commit_bytes > 71 * 5 && turns.commit_failures == 0 && turns.sync_waits.count() > 50, "{turns:?}");
    assert!(stats.round_trips.reads.count() > 0);

    nodes.pop().unwrap().kill();
    nodes.pop().unwrap().kill();
    let refused = table.put("x", "value").consistency(Consistency::All).deadline(Duration::from_millis(200)).wait();
    let expected = match refused {
        Err(WriteError::Unavailable { .. }) => OutcomeKind::Unavailable,
        Err(WriteError::Ambiguous { .. }) => OutcomeKind::Ambiguous,
        other => panic!("{other:?}"),
    };
    let stats = nodes[0].stats().unwrap();
    assert_eq!(answered(&stats, RequestKind::Put, expected), 1);
    assert_eq!(
        (stats.requests.kind(RequestKind::Put).done.count(), stats.requests.kind(RequestKind::Put).undone.count()),
        (70, 1)
    );

    let samples = check(&stats.to_prometheus()).expect("it is what the format says");
    assert!(samples.iter().any(|sample| sample.name == "kv_request_seconds_bucket"));
}

#[test]
fn what_finds_no_room_is_counted_by_what_it_was() {
    let network = MemoryNetwork::new();
    let config = Config { requests_max: 1, ..Config::default() };
    let nodes = cluster_with(&network, 1, &config);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(1)).unwrap();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let table = &table;
            scope.spawn(move || (0..200).for_each(|key| drop(table.put(format!("{client} {key}"), "value").wait())));
        }
    });
    let stats = nodes[0].stats().unwrap();
    let puts = stats.requests.kind(RequestKind::Put);
    assert_eq!(puts.answered(), 1600);
    assert_eq!(puts.outcomes(OutcomeKind::Ok) + puts.outcomes(OutcomeKind::Overloaded), 1600);
    assert_eq!(puts.outcomes(OutcomeKind::Overloaded), stats.status.load.shed);
    assert!(puts.outcomes(OutcomeKind::Overloaded) > 0);
}
