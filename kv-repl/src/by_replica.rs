//! What is known of each replica of one key, in the order of their names. They are few: looking at one after the other is faster than
//! a tree, and takes no memory of its own.

use kv_core::NodeId;
use smallvec::SmallVec;

/// Most tables have three replicas, and most requests ask two of them.
pub(crate) const USUAL: usize = 3;

/// Some nodes, in an order that has a meaning.
pub(crate) type Nodes = SmallVec<[NodeId; USUAL]>;

/// Some nodes, each once, in the order of names.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub(crate) struct NodeSet {
    nodes: Nodes,
}

impl NodeSet {
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Returns whether it was not there.
    pub(crate) fn insert(&mut self, node: NodeId) -> bool {
        let is_new = !self.contains(node);
        if is_new {
            let at = self.nodes.iter().position(|known| *known > node).unwrap_or(self.nodes.len());
            self.nodes.insert(at, node);
        }
        is_new
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&mut self, node: NodeId) -> bool {
        let at = self.nodes.iter().position(|known| *known == node);
        at.map(|at| self.nodes.remove(at)).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().copied()
    }

    pub(crate) fn as_slice(&self) -> &[NodeId] {
        &self.nodes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Extend<NodeId> for NodeSet {
    fn extend<I: IntoIterator<Item = NodeId>>(&mut self, nodes: I) {
        for node in nodes {
            self.insert(node);
        }
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut set = Self::default();
        set.extend(nodes);
        set
    }
}

/// A value for each of some replicas.
#[derive(Clone, Debug)]
pub(crate) struct ByReplica<V> {
    entries: SmallVec<[(NodeId, V); USUAL]>,
}

impl<V> Default for ByReplica<V> {
    fn default() -> Self {
        Self { entries: SmallVec::new() }
    }
}

impl<V> ByReplica<V> {
    fn position(&self, node: NodeId) -> Option<usize> {
        self.entries.iter().position(|(known, _)| *known == node)
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&V> {
        self.position(node).map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut V> {
        self.position(node).map(|at| &mut self.entries[at].1)
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.position(node).is_some()
    }

    /// Returns the value before.
    pub(crate) fn insert(&mut self, node: NodeId, value: V) -> Option<V> {
        if let Some(known) = self.get_mut(node) {
            return Some(std::mem::replace(known, value));
        }
        let at = self.entries.iter().position(|(known, _)| *known > node).unwrap_or(self.entries.len());
        self.entries.insert(at, (node, value));
        None
    }

    pub(crate) fn remove(&mut self, node: NodeId) -> Option<V> {
        self.position(node).map(|at| self.entries.remove(at).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &V)> + Clone {
        self.entries.iter().map(|(node, value)| (*node, value))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone {
        self.iter().map(|(node, _)| node)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_in_a_set_once() {
        let mut set: NodeSet = [3, 1, 2, 1].map(NodeId).into_iter().collect();
        assert_eq!(set.as_slice(), [1, 2, 3].map(NodeId));
        assert_eq!((set.insert(NodeId(2)), set.insert(NodeId(0))), (false, true));
        assert_eq!((set.remove(NodeId(2)), set.remove(NodeId(2)), set.contains(NodeId(2))), (true, false, false));
        assert_eq!((set.iter().count(), set.is_empty()), (3, false));
    }

    #[test]
    fn values_are_in_the_order_of_names() {
        let mut values = ByReplica::default();
        for (node, value) in [(4, 'd'), (1, 'a'), (3, 'c'), (2, 'b')] {
            assert_eq!(values.insert(NodeId(node), value), None);
        }
        assert_eq!(values.insert(NodeId(3), 'x'), Some('c'));
        assert_eq!(values.nodes().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((values.get(NodeId(3)), values.get(NodeId(9))), (Some(&'x'), None));
        assert_eq!((values.remove(NodeId(1)), values.remove(NodeId(1))), (Some('a'), None));
        assert_eq!((values.len(), values.contains(NodeId(1)), values.is_empty()), (3, false, false));
    }
}
