//! Three nodes in memory, and a network with links to cut.

use std::sync::Arc;

use kv_core::MemStore;
use kv_core::record::RecordJoin;
use kv_core::store::{Space, SpaceOptions};
use kv_repl::transport::MemoryNetwork;
use kv_repl::{Member, Node, NodeId, Table, TableOptions};

use super::Failure;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

pub(super) struct Cluster {
    network: MemoryNetwork,
    nodes: Vec<Node>,
}

impl Cluster {
    pub(super) fn start() -> Result<Self, Failure> {
        let network = MemoryNetwork::new();
        let mut nodes = Vec::new();
        for id in NODES {
            let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
            let store = MemStore::new([
                (Space::META, SpaceOptions::default()),
                (Space::DATA, records),
                (Space::HINTS, SpaceOptions::default()),
            ]);
            nodes.push(Node::builder(id).store(store).transport(network.transport(id)).start()?);
        }
        nodes[0].bootstrap(&NODES.map(|id| Member::new(id, "in memory")))?;
        Ok(Self { network, nodes })
    }

    /// A table on all three nodes, as each of them serves it.
    pub(super) fn create_table(&self, name: &str, options: TableOptions) -> Result<Vec<Table>, Failure> {
        self.nodes[0].create_table(name, options.replicas(3))?;
        Ok(self.nodes.iter().map(|node| node.table(name)).collect::<Result<_, _>>()?)
    }

    /// Cuts node 3 off from the others.
    pub(super) fn cut(&self) {
        self.network.disconnect(NODES[0], NODES[2]);
        self.network.disconnect(NODES[1], NODES[2]);
    }

    pub(super) fn heal(&self) {
        self.network.heal();
    }
}
