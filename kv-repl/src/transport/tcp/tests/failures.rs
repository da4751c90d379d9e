//! Nodes that stop and come back.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::harness::{Stranger, echo, encoded, introduce, keep, member, member_with, wait_until};
use crate::transport::tcp::{TcpOptions, TcpTransport};
use crate::transport::{Lane, PeerInfo, SendError, Transport, Turn};
use kv_core::NodeId;

#[test]
fn a_peer_that_restarts_on_its_port_is_found_again() {
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    for life in 0..3 {
        let address = b.transport.local_addr().to_string();
        if life == 0 {
            b.transport.detach();
        }
        wait_until("a has noticed", || {
            a.transport.try_send(b.id, Lane::Request, Bytes::from_static(b"lost")) == Err(SendError::Unreachable)
        });
        let again = member_with(2, echo, &address, TcpOptions::default());
        again.transport.peers_changed(&[a.info()]);
        wait_until("a sends again", || a.transport.try_send(b.id, Lane::Request, Bytes::from_static(b"hello")).is_ok());
        wait_until("it is answered", || a.node.texts().iter().any(|text| text == "hello"));
        a.node.take_handled();
        // A clean connection breaks with nothing in it.
        assert_eq!(a.transport.stats().reconnects, life + 1);
    }
}

#[test]
fn a_peer_that_dials_us_is_dialed_back_at_once() {
    let never_again = TcpOptions {
        redial_wait: Duration::from_secs(3600),
        redial_wait_max: Duration::from_secs(3600),
        ..TcpOptions::default()
    };
    let a = member_with(1, keep, "127.0.0.1:0", never_again);
    let b = member(2);
    introduce(&[&a, &b]);
    let address = b.transport.local_addr().to_string();
    drop(b);
    wait_until("a has lost it", || a.transport.stats().reconnects == 0 && a.transport.stats().accepted == 1);
    let b = member_with(2, keep, &address, TcpOptions::default());
    b.transport.peers_changed(&[a.info()]);
    wait_until("a has dialed it back", || a.transport.stats().reconnects == 1);
    a.send(b.id, "welcome back");
    wait_until("it has arrived", || b.node.frames() == 1);
}

#[test]
fn a_peer_that_comes_back_without_a_word_is_dialed_over_the_old_connection() {
    let a = member(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let info = PeerInfo { node: NodeId(9), address: listener.local_addr().unwrap().to_string() };
    a.transport.peers_changed(&[info]);
    // Never closed, as by a machine whose power went.
    let _former_life = Stranger::accept_as(&listener, 9);
    wait_until("a is connected", || a.transport.stats().connects == 1);
    let _answer = Stranger::dial_as(&a, 9);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(a.transport.stats().connects, 1, "an answer to a dial is not a new life");
    let _comes_back = Stranger::dial_as(&a, 9);
    let mut new_life = Stranger::accept_as(&listener, 9);
    wait_until("a is connected again", || a.transport.stats().reconnects == 1);
    a.send(NodeId(9), "hello");
    let mut arrived = vec![0; encoded(b"hello").len()];
    new_life.stream.read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, encoded(b"hello"));
}

#[test]
fn detaching_frees_the_node_the_port_and_the_thread() {
    let a = member(4_242);
    let b = member(2);
    introduce(&[&a, &b]);
    let is_listed = std::path::Path::new("/proc/self/task").exists();
    wait_until("its thread runs", || threads_named("kv-tcp-n4242") == usize::from(is_listed));
    a.transport.detach();
    // A thread that was joined may be listed a moment longer.
    wait_until("its thread is gone", || threads_named("kv-tcp-n4242") == 0);
    assert_eq!(Arc::strong_count(&a.node), 1, "nobody else holds the node");
    assert_eq!(a.transport.try_send(b.id, Lane::Request, Bytes::new()), Err(SendError::Unreachable));
    TcpListener::bind(a.transport.local_addr()).expect("the port is free");
    a.transport.detach();
}

/// How many threads of this process have the name; zero always where the system does not say.
fn threads_named(name: &str) -> usize {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

#[test]
fn a_node_that_stops_in_its_turn_ends_the_loop() {
    let a = member(1);
    *a.node.answer.lock().unwrap() = Turn::Stopped;
    a.node.in_a_turn(|_| {});
    wait_until("the loop has ended", || Arc::strong_count(&a.node) == 1);
    assert_eq!(a.transport.try_send(NodeId(2), Lane::Request, Bytes::new()), Err(SendError::Unreachable));
    a.transport.detach();
}

#[test]
fn a_node_may_detach_its_transport_in_its_turn() {
    let a = member(1);
    a.node.in_a_turn(|transport| transport.detach());
    wait_until("the loop has ended", || Arc::strong_count(&a.node) == 1);
    a.transport.detach();
    TcpListener::bind(a.transport.local_addr()).expect("the port is free");
}

#[test]
fn a_transport_that_never_had_a_node_ends_when_it_is_dropped() {
    let transport = TcpTransport::bind(NodeId(4_343), "127.0.0.1:0").unwrap();
    let address = transport.local_addr();
    assert!(TcpTransport::bind(NodeId(1), address).is_err(), "one listener per port");
    drop(transport);
    wait_until("its thread is gone", || threads_named("kv-tcp-n4343") == 0);
    TcpListener::bind(address).expect("the port is free");
}

#[test]
fn a_turn_that_panics_ends_the_loop_and_fails_the_sends() {
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    a.node.in_a_turn(|_| panic!("a broken invariant of the node (part of the test)"));
    wait_until("sends fail", || a.transport.try_send(b.id, Lane::Request, Bytes::new()).is_err());
    b.send(a.id, "anybody there?");
    wait_until("b has noticed", || {
        b.transport.try_send(a.id, Lane::Request, Bytes::new()) == Err(SendError::Unreachable)
    });
}
