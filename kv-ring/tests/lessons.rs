//! Lessons that a layout answers for.

use kv_ring::{Layout, LayoutBuilder, NodeId, Weight, Zone, token_of};

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
