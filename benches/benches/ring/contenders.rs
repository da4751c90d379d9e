//! Everything that is compared, under one trait: one node for one key, all nodes of equal weight.

use hashring::HashRing as OtherRing;
use jumphash::JumpHasher;
use kv_ring::{
    HashRing, Layout, LayoutBuilder, NodeId, Rendezvous, Weight, Zone,
    classic::{Jump, Maglev, Strategy},
    token_of,
};
use rendezvous_hash::{DefaultNodeHasher, IdNode, RendezvousNodes};

/// Virtual nodes of each ring.
const PLACES: u32 = 128;

pub(crate) trait Contender {
    fn node_of(&self, key: &str) -> u64;
}

/// Name, and how it is made for the nodes with these ids. A layout is told what it was before, as it would be in a cluster.
pub(crate) type Make = fn(&[u64], Option<&[u64]>) -> Box<dyn Contender>;

pub(crate) const CONTENDERS: [(&str, Make); 8] = [
    ("kv-ring layout", |nodes, before| Box::new(Table(laid_out(nodes, before)))),
    ("kv-ring ring", |nodes, _| Box::new(Ours(HashRing::new(weighted(nodes), PLACES)))),
    ("kv-ring rendezvous", |nodes, _| Box::new(Ours(Rendezvous::new(weighted(nodes))))),
    ("kv-ring maglev", |nodes, _| Box::new(Ours(Maglev::new(weighted(nodes), Maglev::PLACES_DEFAULT)))),
    ("kv-ring jump", |nodes, _| Box::new(Ours(Jump::new(nodes.iter().copied().map(NodeId))))),
    ("hashring", |nodes, _| {
        let mut ring = OtherRing::new();
        ring.batch_add(nodes.iter().flat_map(|&node| (0..PLACES).map(move |place| (node, place))).collect());
        Box::new(ring)
    }),
    ("rendezvous_hash", |nodes, _| {
        let mut set = RendezvousNodes::default();
        for &node in nodes {
            set.insert(IdNode::new(node));
        }
        Box::new(set)
    }),
    ("jumphash", |nodes, _| Box::new(OtherJump { hasher: JumpHasher::new_with_keys(1, 2), nodes: nodes.to_vec() })),
];

fn weighted(nodes: &[u64]) -> impl Iterator<Item = (NodeId, Weight)> {
    nodes.iter().map(|&node| (NodeId(node), Weight(1)))
}

fn laid_out(nodes: &[u64], before: Option<&[u64]>) -> Layout {
    let named = |builder: LayoutBuilder, nodes: &[u64]| {
        nodes.iter().fold(builder, |builder, &node| builder.node(NodeId(node), Weight(1), Zone::default()))
    };
    let partitions = LayoutBuilder::partitions_for(nodes.len(), 1);
    let builder = match before {
        Some(before) => Layout::builder(1).after(&laid_out(before, None)),
        None => Layout::builder(1).partitions(partitions),
    };
    named(builder, nodes).build().expect("a layout")
}

struct Table(Layout);

impl Contender for Table {
    fn node_of(&self, key: &str) -> u64 {
        self.0.replicas_of(self.0.token_of(key.as_bytes()))[0].0
    }
}

struct Ours<S>(S);

impl<S: Strategy> Contender for Ours<S> {
    fn node_of(&self, key: &str) -> u64 {
        self.0.primary(token_of(key.as_bytes())).expect("nodes").0
    }
}

impl Contender for OtherRing<(u64, u32)> {
    fn node_of(&self, key: &str) -> u64 {
        self.get(&key).expect("nodes").0
    }
}

impl Contender for RendezvousNodes<IdNode<u64>, DefaultNodeHasher> {
    fn node_of(&self, key: &str) -> u64 {
        **self.calc_candidates(&key).next().expect("nodes")
    }
}

struct OtherJump {
    hasher: JumpHasher,
    nodes: Vec<u64>,
}

impl Contender for OtherJump {
    fn node_of(&self, key: &str) -> u64 {
        let slots = u32::try_from(self.nodes.len()).expect("a small cluster");
        self.nodes[self.hasher.slot(&key, slots) as usize]
    }
}
