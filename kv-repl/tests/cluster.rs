//! A cluster in one process, over the in-memory transport and the in-memory store.

mod common;

use std::future::IntoFuture;
use std::time::Duration;

use common::{block_on, cluster, cluster_with, start, store};
use kv_repl::config::Config;
use kv_repl::events::NodeEvent;
use kv_repl::repair_request::RepairError;
use kv_repl::request::{ClusterError, ReadError, WriteError};
use kv_repl::status::Standing;
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Consistency, Liveness, Member, Node, NodeId, RepairScope, Session, TableOptions};
use kv_ring::PartitionId;

#[test]
fn values_written_at_one_node_are_read_at_every_other() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    for key in 0..100 {
        let written = carts.put(format!("key {key}"), format!("value {key}")).wait().unwrap();
        assert!(written.acknowledged >= 2);
    }
    for node in &nodes {
        let carts = node.table("carts").unwrap();
        for key in 0..100 {
            let read = carts.get(format!("key {key}")).wait().unwrap();
            assert_eq!(read.values(), [format!("value {key}").as_bytes()]);
        }
        assert!(carts.get("absent").wait().unwrap().values().is_empty());
    }
}

#[test]
fn concurrent_writes_stand_side_by_side_until_one_has_seen_both() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    let there = nodes[1].table("carts").unwrap();
    carts.put("cart", "milk").wait().unwrap();
    there.put("cart", "bread").wait().unwrap();
    let read = carts.get("cart").wait().unwrap();
    assert_eq!(read.values(), ["milk", "bread"]);
    let both = carts.put("cart", "milk, bread").context(read.context()).wait().unwrap();
    assert_eq!(there.get("cart").wait().unwrap().values(), ["milk, bread"]);
    there.delete("cart").context(&both.context).wait().unwrap();
    let gone = carts.get("cart").wait().unwrap();
    assert!(gone.values().is_empty());
    assert!(gone.record().is_some(), "a tombstone stays until nobody can bring the value back");
    carts.put("cart", "eggs").wait().unwrap();
    assert_eq!(carts.get("cart").wait().unwrap().values(), ["eggs"]);
}

#[test]
fn the_last_write_stands_alone_in_a_table_that_asks_for_it() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("sessions", TableOptions::last_write_wins().replicas(3)).unwrap();
    for value in ["one", "two", "three"] {
        table.put("key", value).wait().unwrap();
    }
    let elsewhere = nodes[2].table("sessions").unwrap();
    assert_eq!(elsewhere.get("key").wait().unwrap().values(), ["three"]);
    elsewhere.delete("key").wait().unwrap();
    assert!(table.get("key").wait().unwrap().values().is_empty());
}

#[test]
fn a_value_with_a_time_to_live_is_hidden_afterwards() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 1);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(1)).unwrap();
    table.put("key", "soon gone").ttl(Duration::from_millis(150)).wait().unwrap();
    assert_eq!(table.get("key").wait().unwrap().values(), ["soon gone"]);
    #[expect(clippy::disallowed_methods, reason = "the test waits for the wall clock of the node")]
    std::thread::sleep(Duration::from_millis(200));
    assert!(table.get("key").wait().unwrap().values().is_empty());
    assert!(matches!(table.put("key", "v").ttl(Duration::ZERO).wait(), Err(WriteError::InvalidTtl(_))));
}

#[test]
fn one_of_three_may_stop_and_two_may_not() {
    let network = MemoryNetwork::new();
    let mut nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(3)).unwrap();
    nodes.pop().unwrap().kill();
    for key in 0..20 {
        table.put(format!("{key}"), "v").wait().unwrap();
        assert_eq!(table.get(format!("{key}")).wait().unwrap().values(), ["v"]);
    }
    let all = table.put("x", "v").consistency(Consistency::All).deadline(Duration::from_millis(300)).wait();
    assert!(matches!(all, Err(WriteError::Unavailable { reachable: 2, required: 3 })), "{all:?}");
    nodes.pop().unwrap().kill();
    let write = table.put("y", "v").deadline(Duration::from_millis(300)).wait();
    assert!(
        matches!(
            write,
            Err(WriteError::Ambiguous { acknowledged: 1, required: 2, .. } | WriteError::Unavailable { .. })
        ),
        "{write:?}"
    );
    let read = table.get("y").deadline(Duration::from_millis(300)).wait();
    assert!(
        matches!(read, Err(ReadError::Timeout { .. } | ReadError::Unavailable { reachable: 1, required: 2 })),
        "{read:?}"
    );
    assert!(table.get("0").consistency(Consistency::One).wait().is_ok());
}

#[test]
fn a_session_sees_what_it_wrote_wherever_it_reads() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 5);
    let options = TableOptions::siblings().replicas(3).default_consistency(Consistency::One, Consistency::One);
    nodes[0].create_table("carts", options).unwrap();
    let carts: Vec<_> = nodes.iter().map(|node| node.table("carts").unwrap()).collect();
    let mut token = Session::new().token();
    for round in 0..40 {
        let session = Session::resume(&token).unwrap();
        let key = format!("key {}", round % 7);
        carts[round % 5].put(key.clone(), format!("value {round}")).session(&session).wait().unwrap();
        for there in &carts {
            let read = there.get(key.clone()).session(&session).wait().unwrap();
            assert_eq!(
                read.values(),
                [format!("value {round}").as_bytes()],
                "each write follows what the session had seen"
            );
        }
        // What is awaited belongs to the session as well.
        let read = block_on(carts[0].get(key).session(&session).into_future()).unwrap();
        assert_eq!(read.values(), [format!("value {round}").as_bytes()]);
        assert!(session.keys() <= 7 && !session.has_forgotten());
        token = session.token();
    }
    assert!(Session::resume(b"not a token").is_err());
}

#[test]
fn each_mistake_has_its_own_error() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(3)).unwrap();
    assert_eq!(nodes[1].table("nobody").err(), Some(ClusterError::UnknownTable));
    let other = TableOptions::last_write_wins().replicas(3);
    assert_eq!(nodes[1].create_table("t", other).err(), Some(ClusterError::TableExists));
    assert!(
        nodes[1].create_table("t", TableOptions::siblings().replicas(3)).is_ok(),
        "the same again is the same table"
    );
    let too_many = nodes[2].create_table("u", TableOptions::siblings().replicas(4)).err();
    assert!(matches!(too_many, Some(ClusterError::InvalidTable(_))));
    assert!(matches!(table.put("", "v").wait(), Err(WriteError::InvalidKey(_))));
    assert!(matches!(table.put("k", vec![0; 9 << 20]).wait(), Err(WriteError::ValueTooLarge { .. })));
    let written = table.put("k", "v").wait().unwrap();
    assert!(matches!(table.put("j", "v").context(&written.context).wait(), Err(WriteError::InvalidContext(_))));
    let members = [Member::new(NodeId(1), "memory"), Member::new(NodeId(2), "memory")];
    assert_eq!(nodes[0].bootstrap(&members), Err(ClusterError::AlreadyFounded));
    let lonely = start(&network, 9);
    let members = [Member::new(NodeId(9), "memory"), Member::new(NodeId(2), "memory")];
    assert_eq!(lonely.bootstrap(&members), Err(ClusterError::MemberTaken(NodeId(2))));
    assert_eq!(lonely.status().unwrap().standing, Standing::Unfounded);
}

#[test]
fn requests_are_futures_too() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network, 3);
    let table = nodes[0].create_table("t", TableOptions::siblings().replicas(3)).unwrap();
    let work = async {
        table.put("key", "value").await.unwrap();
        table.get("key").await.unwrap().value().cloned()
    };
    assert_eq!(block_on(work).as_deref(), Some(&b"value"[..]));
    // Many at once from one thread: start them all, then wait.
    let started: Vec<_> = (0..50).map(|key| table.put(format!("{key}"), "v").into_future()).collect();
    for write in started {
        write.wait().unwrap();
    }
}

#[test]
fn a_node_that_is_cut_off_is_suspected_then_believed_dead_and_taken_back() {
    let network = MemoryNetwork::new();
    let nodes: Vec<Node> = (1..=3)
        .map(|node| {
            let config = Config { gossip_every: Duration::from_millis(200), ..Config::default() };
            let transport = network.transport(NodeId(node));
            Node::builder(NodeId(node)).store(store()).transport(transport).config(config).start().unwrap()
        })
        .collect();
    nodes[0].bootstrap(&[1, 2, 3].map(|node| Member::new(NodeId(node), "memory"))).unwrap();
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    let events = nodes[0].events();
    let next = |wanted| {
        for _ in 0..300 {
            if let Some(NodeEvent::Liveness(change)) = events.next_within(Duration::from_millis(100))
                && (change.peer, change.after) == (NodeId(3), wanted)
            {
                return;
            }
        }
        panic!("node 3 was not {wanted} within half a minute");
    };
    for other in [1, 2] {
        network.disconnect(NodeId(3), NodeId(other));
    }
    next(Liveness::Suspect);
    next(Liveness::Dead);
    let believed = |node: &Node, of| {
        let status = node.status().unwrap();
        status.peers.iter().find(|peer| peer.node == NodeId(of)).map(|peer| (peer.liveness, peer.latency.is_some()))
    };
    assert_eq!(believed(&nodes[0], 2), Some((Liveness::Alive, true)), "it has answered");
    carts.put("cart", "milk").wait().unwrap();
    let alone = nodes[2].table("carts").unwrap().put("cart", "bread").deadline(Duration::from_millis(300)).wait();
    assert!(matches!(alone, Err(WriteError::Ambiguous { .. } | WriteError::Unavailable { .. })), "{alone:?}");
    network.heal();
    next(Liveness::Alive);
    drop(nodes);
    // The loop ends because the node has.
    assert!(events.count() < 1024);
}

#[test]
fn a_repair_brings_a_node_what_it_has_missed() {
    let network = MemoryNetwork::new();
    let nodes: Vec<Node> = (1..=3)
        .map(|node| {
            let config = Config {
                hello_every: Duration::from_millis(50),
                gossip_every: Duration::from_millis(50),
                hinted_handoff: false,
                ..Config::default()
            };
            let transport = network.transport(NodeId(node));
            Node::builder(NodeId(node)).store(store()).transport(transport).config(config).start().unwrap()
        })
        .collect();
    nodes[0].bootstrap(&[1, 2, 3].map(|node| Member::new(NodeId(node), "memory"))).unwrap();
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    for other in [1, 2] {
        network.disconnect(NodeId(3), NodeId(other));
    }
    for key in 0..50 {
        carts.put(format!("{key}"), "missed").deadline(Duration::from_millis(300)).wait().unwrap();
    }
    // Until its deadline a write is offered to the third node again and again.
    #[expect(clippy::disallowed_methods, reason = "the test waits for deadlines")]
    std::thread::sleep(Duration::from_millis(400));
    network.heal();
    // It can be asked as soon as the nodes have greeted each other again.
    let scope = || RepairScope::Table("carts".to_owned());
    let report = (0..200).find_map(|_| {
        #[expect(clippy::disallowed_methods, reason = "the test waits for greetings")]
        std::thread::sleep(Duration::from_millis(50));
        nodes[2].repair(scope()).deadline(Duration::from_secs(60)).wait().ok()
    });
    let report = report.expect("all replicas are up");
    assert_eq!((report.equal, report.unfinished.len()), (report.comparisons, 0));
    let there = nodes[2].table("carts").unwrap();
    for key in 0..50 {
        let read = there.get(format!("{key}")).consistency(Consistency::One).wait().unwrap();
        assert_eq!(read.values(), ["missed"], "one replica is asked, and that is this node");
    }
    let repair = nodes[2].status().unwrap().repair;
    assert!(repair.comparisons_equal >= report.equal as u64 && repair.traffic.records_received >= 40, "{repair:?}");
    let nobody = nodes[2].repair(RepairScope::Table("nobody".to_owned())).wait();
    assert_eq!(nobody, Err(RepairError::UnknownTable));
}

#[test]
fn hints_bring_a_node_what_it_has_missed() {
    let network = MemoryNetwork::new();
    let nodes: Vec<Node> = (1..=3)
        .map(|node| {
            let config = Config {
                hello_every: Duration::from_millis(50),
                gossip_every: Duration::from_millis(50),
                repair_every: Duration::MAX,
                ..Config::default()
            };
            let transport = network.transport(NodeId(node));
            Node::builder(NodeId(node)).store(store()).transport(transport).config(config).start().unwrap()
        })
        .collect();
    nodes[0].bootstrap(&[1, 2, 3].map(|node| Member::new(NodeId(node), "memory"))).unwrap();
    let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3)).unwrap();
    for other in [1, 2] {
        network.disconnect(NodeId(3), NodeId(other));
    }
    let births: Vec<_> = (0..50)
        .map(|key| carts.put(format!("{key}"), "missed").deadline(Duration::from_millis(500)).wait().unwrap().birth)
        .collect();
    let pause = || {
        #[expect(clippy::disallowed_methods, reason = "the test waits for greetings")]
        std::thread::sleep(Duration::from_millis(50));
    };
    let kept = || nodes[0].status().unwrap().hints;
    // The last ones are missed at their first retry.
    while kept().targets.iter().map(|target| target.hints).sum::<u64>() < 50 {
        pause();
    }
    let hints = kept();
    assert_eq!((hints.targets.len(), hints.targets[0].target, hints.shed), (1, NodeId(3), 0));
    assert_eq!(hints.targets[0].oldest_birth, births.iter().min().copied());
    let oldest = (0..1024).filter_map(|partition| nodes[0].oldest_hint("carts", PartitionId(partition)).unwrap()).min();
    assert_eq!(oldest, hints.targets[0].oldest_birth);
    assert_eq!(nodes[0].oldest_hint("nobody", PartitionId(0)), Err(ClusterError::UnknownTable));
    network.heal();
    while !kept().targets.is_empty() {
        pause();
    }
    let there = nodes[2].table("carts").unwrap();
    for key in 0..50 {
        let read = there.get(format!("{key}")).consistency(Consistency::One).wait().unwrap();
        assert_eq!(read.values(), ["missed"], "one replica is asked, and that is this node");
    }
    assert!(kept().delivered >= 50 && nodes[2].status().unwrap().repair.traffic.records_received == 0);
}

#[test]
fn a_sloppy_table_is_written_while_two_of_three_replicas_are_away() {
    let network = MemoryNetwork::new();
    let config = Config {
        hello_every: Duration::from_millis(50),
        gossip_every: Duration::from_millis(50),
        repair_every: Duration::MAX,
        ..Config::default()
    };
    let nodes = cluster_with(&network, 5, &config);
    let carts = nodes[0].create_table("carts", TableOptions::siblings().sloppy()).unwrap();
    let layout = carts.layout();
    let [here, away @ ..] = layout.replicas_of(layout.token_of(b"cart")) else { panic!("three replicas") };
    for (node, other) in away.iter().flat_map(|node| (1..=5).map(move |other| (*node, NodeId(other)))) {
        if node != other {
            network.disconnect(node, other);
        }
    }
    let at = |node: &NodeId| nodes.iter().find(|other| other.id() == *node).unwrap().table("carts").unwrap();
    let written = at(here).put("cart", "milk").wait().unwrap();
    assert_eq!(written.acknowledged, 1);
    assert!(written.fallbacks > 0);
    let strict = at(here).put("cart", "bread").strict().deadline(Duration::from_millis(300)).wait();
    assert!(matches!(strict, Err(WriteError::Ambiguous { .. } | WriteError::Unavailable { .. })), "{strict:?}");
    network.heal();
    for node in away {
        let holds = || {
            let read = at(node).get("cart").consistency(Consistency::One).wait();
            read.is_ok_and(|read| read.values().iter().any(|value| *value == "milk"))
        };
        while !holds() {
            #[expect(clippy::disallowed_methods, reason = "the test waits for hints")]
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
