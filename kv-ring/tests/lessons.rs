//! Lessons that a layout answers for.

use kv_ring::{
    Change, DeltaError, Layout, LayoutBuilder, NodeId, Stage, Topology, TopologyError, Weight, Zone, token_of,
};

fn cluster(nodes: u64, partitions: u32) -> LayoutBuilder {
    (1..=nodes).fold(Layout::builder(3).partitions(partitions), |builder, node| {
        builder.node(NodeId(node), Weight(1), Zone::new(["a", "b", "c"][usize::try_from(node % 3).unwrap()]))
    })
}

/// Two nodes must not act on two rings: whoever holds another layout of the same epoch is found out by its hash.
#[test]
fn lesson_11_two_layouts_of_one_epoch_are_told_apart() {
    let one = cluster(5, 64).build().unwrap();
    let other = cluster(6, 64).build().unwrap();
    assert_eq!(one.epoch(), other.epoch());
    assert_ne!(one.hash(), other.hash());

    // The smallest possible difference: two replicas of the last partition trade places.
    let mut bytes = one.encode();
    let last = bytes.len() - 1;
    bytes.swap(last, last - 1);
    let swapped = Layout::decode(&bytes).unwrap();
    assert_eq!(swapped.epoch(), one.epoch());
    assert_ne!(swapped.hash(), one.hash());
}

/// No node asks another where a key lives: the whole layout of a large cluster fits on every node and in a few frames, and what
/// was sent routes like what was built.
#[test]
fn lesson_18_every_node_holds_the_whole_layout() {
    let layout = cluster(300, 4096).build().unwrap();
    let bytes = layout.encode();
    let slots = 4096 * 3;
    assert!(bytes.len() <= 3 * slots + 300 * 16, "{} bytes", bytes.len());

    let received = Layout::decode(&bytes).unwrap();
    for key in 0..10_000_u32 {
        let token = token_of(&key.to_le_bytes());
        assert_eq!(received.replicas_of(token), layout.replicas_of(token));
        assert!(received.range_of(received.partition_of(token)).contains(&token));
    }
}

/// Two nodes must not act on two rings, continued: what was made for one layout is not taken for another.
#[test]
fn lesson_11_a_plan_and_a_delta_are_good_for_one_layout_alone() {
    let one = cluster(5, 64).build().unwrap();
    let other = cluster(6, 64).build().unwrap();
    let plan = one.plan(&Change::new().drain(NodeId(1))).unwrap();
    assert!(Topology::new(one.clone()).begin(&plan).is_ok());
    // Of the same epoch, and of a later one.
    assert!(matches!(Topology::new(other.clone()).begin(&plan), Err(TopologyError::StalePlan(_))));
    assert!(matches!(Topology::new(plan.next().clone()).begin(&plan), Err(TopologyError::StalePlan(_))));
    let delta = one.delta_to(plan.next()).unwrap();
    assert_eq!(one.apply(&delta).as_ref(), Ok(plan.next()));
    assert!(matches!(other.apply(&delta), Err(DeltaError::OtherBase { .. })));
    assert!(matches!(plan.next().apply(&delta), Err(DeltaError::OtherBase { .. })));
}

/// During a move a majority of the old set and a majority of the new set is needed. Counted as "the old quorum and one more for
/// the pending node", two quorums have nobody in common once two nodes move.
#[test]
fn lesson_12_a_quorum_during_a_move_is_one_of_each_set() {
    let layout = (1..=5)
        .fold(Layout::builder(3).partitions(16), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
        .build()
        .unwrap();
    let change =
        Change::new().replace(NodeId(1), NodeId(11)).replace(NodeId(2), NodeId(12)).replace(NodeId(3), NodeId(13));
    let mut topology = Topology::new(layout);
    topology.begin(&topology.layout().plan(&change).unwrap()).unwrap();
    let moving: Vec<_> = topology.moving().collect();
    let mut pending_quorums_miss = 0;
    for stage in [Stage::Joint, Stage::Streaming, Stage::Imported, Stage::Switched] {
        let before = topology.clone();
        topology.advance(&moving, stage).unwrap();
        for &(_, partition) in &moving {
            let (earlier, now) = (before.placement(partition), topology.placement(partition));
            let mut nodes: Vec<NodeId> = now.old.iter().chain(now.new).copied().collect();
            nodes.sort_unstable();
            nodes.dedup();
            for answered in 0..1_u32 << nodes.len() {
                let is_in = |node: NodeId| answered >> nodes.binary_search(&node).unwrap() & 1 == 1;
                // What one coordinator takes for a write and another, one decision behind or ahead, for a read.
                assert!(!(earlier.is_quorum(is_in) && now.is_quorum(|node| !is_in(node))), "{stage} of {partition}");
                // A node that is in both sets counts in both; one more answer from anywhere is not the same.
                let is_pending_quorum =
                    |is_in: &dyn Fn(NodeId) -> bool| nodes.iter().filter(|&&node| is_in(node)).count() > 2;
                let majority_of_new = now.new.iter().filter(|&&node| !is_in(node)).count() >= 2;
                pending_quorums_miss += u32::from(is_pending_quorum(&is_in) && majority_of_new);
                let has_majority = |set: &[NodeId]| set.iter().filter(|&&node| is_in(node)).count() >= 2;
                let is_joint = stage != Stage::Switched;
                let wanted = has_majority(now.new) && (has_majority(now.old) || !is_joint);
                assert_eq!(now.is_quorum(is_in), wanted, "{stage} of {partition}");
            }
        }
    }
    assert!(pending_quorums_miss > 0, "the rule that this guards against misses quorums");
}
