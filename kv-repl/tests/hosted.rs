//! Three nodes on one thread, which runs their loops itself.

#![cfg(feature = "tcp")]

mod common;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::store;
use kv_core::key::Key;
use kv_repl::transport::{TcpLoop, TcpOptions, TcpTransport};
use kv_repl::{Consistency, Member, Node, NodeId, TableOptions};

/// Remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn rounds(loops: &mut [TcpLoop]) {
    for each in loops {
        assert!(each.round(Duration::from_millis(1)).is_continue());
    }
}

/// What somebody on another thread waits for comes about in the rounds of this one.
fn meanwhile<T: Send>(loops: &mut [TcpLoop], work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            rounds(loops);
        }
        worker.join().unwrap()
    })
}

/// Finishes a request on this thread. It is polled again only after it was woken.
fn finish<F: IntoFuture>(loops: &mut [TcpLoop], request: F) -> F::Output {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(request.into_future());
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        while !flag.0.swap(false, Ordering::AcqRel) {
            rounds(loops);
        }
    }
}

#[test]
fn three_nodes_live_and_stop_on_one_thread() {
    let bound = [1, 2, 3].map(|node| {
        TcpTransport::bind_hosted(NodeId(node), "127.0.0.1:0", TcpOptions::default()).expect("a free port")
    });
    let members: Vec<Member> =
        (1..).zip(&bound).map(|(node, (at, _))| Member::new(NodeId(node), at.local_addr())).collect();
    let (transports, loops): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    let mut loops = loops;
    let start = |(transport, node)| Node::builder(NodeId(node)).store(store()).transport(transport).start().unwrap();
    let nodes: Vec<Node> = transports.into_iter().zip(1..).map(start).collect();
    let table = meanwhile(&mut loops, || {
        nodes[0].bootstrap(&members).unwrap();
        nodes[0].create_table("t", TableOptions::last_write_wins().replicas(3)).unwrap()
    });
    for key in 0..20 {
        let key = Key::from(format!("key {key}"));
        let value = format!("value of {key:?}");
        finish(&mut loops, table.put(key.clone(), value.clone()).consistency(Consistency::Quorum)).unwrap();
        let read = finish(&mut loops, table.get(key).consistency(Consistency::Quorum)).unwrap();
        assert_eq!(read.value().map(|value| value.to_vec()), Some(value.into_bytes()));
    }
    assert!(loops.iter().all(|each| each.patience().is_some_and(|patience| patience < Duration::from_secs(5))));
    for (node, mut its) in nodes.into_iter().zip(loops) {
        node.stop();
        assert!(its.round(Duration::from_secs(9)).is_break());
        assert!(its.round(Duration::from_secs(9)).is_break());
    }
}

/// A round that looks at no sockets begins what was asked on this thread, and hears nothing of what others answer.
#[test]
fn a_round_without_sockets_begins_requests() {
    let bound = [1, 2].map(|node| {
        TcpTransport::bind_hosted(NodeId(node), "127.0.0.1:0", TcpOptions::default()).expect("a free port")
    });
    let members: Vec<Member> =
        (1..).zip(&bound).map(|(node, (at, _))| Member::new(NodeId(node), at.local_addr())).collect();
    let (transports, mut loops): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    let start = |(transport, node)| Node::builder(NodeId(node)).store(store()).transport(transport).start().unwrap();
    let nodes: Vec<Node> = transports.into_iter().zip(1..).map(start).collect();
    let table = meanwhile(&mut loops, || {
        nodes[0].bootstrap(&members).unwrap();
        nodes[0].create_table("t", TableOptions::last_write_wins().replicas(2)).unwrap()
    });
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut here = pin!(table.get("k").consistency(Consistency::One).into_future());
    let mut everywhere = pin!(table.get("k").consistency(Consistency::All).into_future());
    let mut context = Context::from_waker(&waker);
    assert!(here.as_mut().poll(&mut context).is_pending() && everywhere.as_mut().poll(&mut context).is_pending());
    assert!(loops[0].round_without_sockets().is_continue());
    assert!(here.as_mut().poll(&mut context).is_ready(), "this node holds the key");
    for _ in 0..20 {
        assert!(loops[1].round(Duration::from_millis(1)).is_continue());
        assert!(loops[0].round_without_sockets().is_continue());
        assert!(everywhere.as_mut().poll(&mut context).is_pending(), "the other node's answer lies in a socket");
    }
    while everywhere.as_mut().poll(&mut context).is_pending() {
        rounds(&mut loops);
    }
}

/// A node that is stopped on another thread waits for the rounds of its host.
#[test]
fn a_node_may_be_stopped_on_another_thread() {
    let (transport, mut its) =
        TcpTransport::bind_hosted(NodeId(1), "127.0.0.1:0", TcpOptions::default()).expect("a free port");
    let address = transport.local_addr();
    let node = Node::builder(NodeId(1)).store(store()).transport(transport).start().unwrap();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| node.stop());
        while its.round(Duration::from_millis(50)).is_continue() {}
        stopping.join().unwrap();
    });
    // The port is free again.
    TcpTransport::bind(NodeId(1), address).expect("nobody listens there");
}
