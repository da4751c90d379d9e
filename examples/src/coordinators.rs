//! The nodes as their clients see them: a table at each, or nobody there.

use std::sync::{PoisonError, RwLock};

use kv_repl::{NodeId, Table};
use kv_ring::Layout;

/// Handles of one table at all nodes of a cluster. Nodes go and come while clients use it.
pub struct Coordinators {
    layout: Layout,
    nodes: Vec<NodeId>,
    tables: Vec<RwLock<Option<Table>>>,
}

impl Coordinators {
    /// The table at each node.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(tables: Vec<(NodeId, Table)>) -> Self {
        let layout = tables.first().expect("a cluster has nodes").1.layout().clone();
        let (nodes, tables) = tables.into_iter().map(|(node, table)| (node, RwLock::new(Some(table)))).unzip();
        Self { layout, nodes, tables }
    }

    /// Who holds what.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All nodes, up or not.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The node has come (back), or gone.
    pub fn set(&self, node: NodeId, table: Option<Table>) {
        *self.slot(node).write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// Whom to ask for a write: a replica of the key, which mints the write itself and so saves passing it on. Each attempt
    /// turns to the next one.
    #[must_use]
    pub fn for_write(&self, key: &[u8], attempt: usize) -> (NodeId, Table) {
        let replicas = self.layout.replicas_of(self.layout.token_of(key));
        self.first_up(replicas, attempt)
    }

    /// Whom to ask for a read: all nodes in turn, holders of the key or not.
    #[must_use]
    pub fn for_read(&self, turn: usize) -> (NodeId, Table) {
        self.first_up(&self.nodes, turn)
    }

    fn first_up(&self, nodes: &[NodeId], turn: usize) -> (NodeId, Table) {
        let in_turn = nodes.iter().cycle().skip(turn % nodes.len()).take(nodes.len());
        let up = |node: &NodeId| {
            let table = self.slot(*node).read().unwrap_or_else(PoisonError::into_inner);
            table.clone().map(|table| (*node, table))
        };
        in_turn.chain(&self.nodes).find_map(up).expect("one node at most is down")
    }

    fn slot(&self, node: NodeId) -> &RwLock<Option<Table>> {
        let place = self.nodes.iter().position(|known| *known == node).expect("a member of the cluster");
        &self.tables[place]
    }
}
