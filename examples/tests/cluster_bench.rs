//! The door and the driver of the cluster bench, against one node.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::Parser as _;
use kv_core::MemStore;
use kv_core::record::RecordJoin;
use kv_core::store::{Space, SpaceOptions};
use kv_examples::cluster_bench::front::{House, serve, wait_for};
use kv_examples::cluster_bench::load::{self, Kind, Load, LoadError, ask, key, value};
use kv_examples::cluster_bench::{Arguments, BenchError, SCENARIOS, run};
use kv_repl::transport::{TcpOptions, TcpTransport};
use kv_repl::{Member, Node, NodeId, Table, TableOptions};

struct Quiet;

impl House for Quiet {
    fn statistics(&self) -> String {
        "7".to_owned()
    }
}

/// A node with a door, that serve as long as the test runs.
fn server() -> SocketAddr {
    let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let (transport, mut rounds) = TcpTransport::bind_hosted(NodeId(1), loopback, TcpOptions::default()).unwrap();
    let member = Member::new(NodeId(1), transport.local_addr());
    let front = mio::net::TcpListener::bind(loopback).unwrap();
    let address = front.local_addr().unwrap();
    let (open, opened) = mpsc::channel();
    thread::spawn(move || {
        let (node, table): (Node, Table) = wait_for(&mut rounds, &opened).expect("a table is there");
        let outcome = serve(front, rounds, &table, &Quiet);
        drop(node);
        outcome
    });
    let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
    let store = MemStore::new([(Space::META, SpaceOptions::default()), (Space::DATA, records)]);
    let node = Node::builder(NodeId(1)).store(store).transport(transport).start().unwrap();
    node.bootstrap(&[member]).unwrap();
    let table = node.create_table("bench", TableOptions::last_write_wins().replicas(1)).unwrap();
    open.send((node, table)).unwrap();
    address
}

fn load(kind: Kind, keys: u64) -> Load {
    let span = Duration::from_millis(100);
    Load { kind, clients: 3, pipeline: 4, confirm: None, keys, value_bytes: 40, span, seed: 1 }
}

#[test]
fn what_the_driver_writes_through_the_door_it_reads_back() {
    let server = server();
    let entries: Vec<_> = (0..50).map(|number| (key(number), value(number, 40))).collect();
    load::fill(server, &entries).unwrap();
    assert_eq!(ask(server, &[b"GET", &key(49)]).unwrap(), value(49, 40));
    for kind in [Kind::Put, Kind::Get] {
        let measured = load::run(&[server], &load(kind, 50)).unwrap();
        assert!(measured.operations >= 12 && measured.operations.is_multiple_of(4), "{measured:?}");
        assert_eq!(measured.batches.len() * 4, measured.operations);
        assert!(measured.took >= Duration::from_millis(50), "{measured:?}");
    }
    assert_eq!(ask(server, &[b"STATS"]).unwrap(), b"7");
}

#[test]
fn a_missing_or_a_wrong_value_fails_the_run() {
    let server = server();
    load::fill(server, &[(key(0), value(0, 40))]).unwrap();
    load::run(&[server], &load(Kind::Get, 1)).unwrap();
    assert!(matches!(load::run(&[server], &load(Kind::Get, 5)), Err(LoadError::Wrong(_))));
    load::fill(server, &[(key(0), value(1, 40))]).unwrap();
    assert!(matches!(load::run(&[server], &load(Kind::Get, 1)), Err(LoadError::Wrong(_))));
}

#[test]
fn the_door_refuses_what_it_does_not_know_and_goes_on_for_others() {
    let server = server();
    assert!(matches!(ask(server, &[b"FLUSHALL"]), Err(LoadError::Refused(_))));
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"no protocol at all\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "the connection ends");
    assert_eq!(ask(server, &[b"PING"]).unwrap(), b"PONG");
    // Many commands at once are all answered, in order.
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let commands = b"*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nSTATS\r\n".repeat(1000);
    stream.write_all(&commands).unwrap();
    let expected = b"+PONG\r\n$1\r\n7\r\n".repeat(1000);
    let mut found = vec![0; expected.len()];
    stream.read_exact(&mut found).unwrap();
    assert!(found == expected);
}

#[test]
fn a_filter_that_leaves_nothing_is_an_error() {
    let arguments = Arguments::parse_from(["cluster_bench", "--only", "nothing like that"]);
    assert!(matches!(run(&arguments, &mut |_| ()), Err(BenchError::NoLoad(_))));
    assert_eq!(SCENARIOS.len(), 12);
}
