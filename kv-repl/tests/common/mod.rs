//! Clusters in one process, over the in-memory transport and the in-memory store.

#![allow(dead_code, reason = "each test program uses a part of it")]

use kv_core::MemStore;
use kv_core::record::RecordJoin;
use kv_core::store::{Space, SpaceOptions};
use kv_repl::config::Config;
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Member, Node, NodeId};

pub(crate) fn store() -> MemStore {
    let join = SpaceOptions { merge: Some(std::sync::Arc::new(RecordJoin)) };
    let plain = SpaceOptions::default;
    MemStore::new([(Space::META, plain()), (Space::DATA, join), (Space::HINTS, plain())])
}

pub(crate) fn start(network: &MemoryNetwork, node: u64) -> Node {
    Node::builder(NodeId(node)).store(store()).transport(network.transport(NodeId(node))).start().unwrap()
}

pub(crate) fn cluster(network: &MemoryNetwork, size: u64) -> Vec<Node> {
    cluster_with(network, size, &Config::default())
}

pub(crate) fn cluster_with(network: &MemoryNetwork, size: u64, config: &Config) -> Vec<Node> {
    let start = |node| {
        let transport = network.transport(NodeId(node));
        Node::builder(NodeId(node)).store(store()).transport(transport).config(config.clone()).start().unwrap()
    };
    let nodes: Vec<Node> = (1..=size).map(start).collect();
    let members: Vec<Member> = (1..=size).map(|node| Member::new(NodeId(node), "memory")).collect();
    nodes[0].bootstrap(&members).unwrap();
    // Whoever serves may still have to hear from others, and a level that needs all of them does not wait for that.
    let reaches_all = |node: &Node| node.status().is_some_and(|status| status.peers.iter().all(|peer| peer.reachable));
    while !nodes.iter().all(reaches_all) {
        std::thread::yield_now();
    }
    nodes
}

/// An executor of one future, for a thread that has nothing else to do.
pub(crate) fn block_on<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
