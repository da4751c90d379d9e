use super::*;
use crate::{ClassId, PartitionId, Token};

fn equal(nodes: u64) -> LayoutBuilder {
    (1..=nodes).fold(Layout::builder(3), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
}

#[test]
fn the_order_of_nodes_does_not_matter() {
    let nodes = [(1, 4, "a"), (2, 1, "b"), (3, 2, "c"), (7, 2, "a"), (9, 1, "b")];
    let build = |order: &[usize]| {
        let builder =
            order.iter().map(|&index| nodes[index]).fold(Layout::builder(3), |builder, (id, weight, zone)| {
                builder.node(NodeId(id), Weight(weight), Zone::new(zone))
            });
        builder.partitions(256).build().unwrap()
    };
    let layout = build(&[0, 1, 2, 3, 4]);
    assert_eq!(build(&[4, 2, 0, 3, 1]), layout);
    assert_eq!(build(&[3, 4, 1, 0, 2]).hash(), layout.hash());
}

#[test]
fn a_frozen_layout() {
    // What every machine and every release computes for these members. A cluster founded by several nodes of
    // different releases relies on it.
    let builder = [(1, 1, "a"), (2, 2, "b"), (3, 1, "c"), (4, 1, "c")].into_iter();
    let layout = builder
        .fold(Layout::builder(2).partitions(8), |builder, (id, weight, zone)| {
            builder.node(NodeId(id), Weight(weight), Zone::new(zone))
        })
        .build()
        .unwrap();
    let rows: Vec<Vec<u64>> =
        layout.partition_ids().map(|id| layout.replicas(id).iter().map(|node| node.0).collect()).collect();
    assert_eq!(rows, [[3, 2], [1, 2], [2, 4], [2, 1], [2, 3], [4, 2], [3, 2], [1, 4]]);
}

#[test]
fn frozen_hashes_of_larger_layouts() {
    let hashes = [(3, 1), (30, 3), (100, 5)].map(|(nodes, zones)| {
        let names = ["a", "b", "c", "d", "e"];
        let builder = (1..=nodes).fold(Layout::builder(3), |builder, id: u64| {
            let zone = names[usize::try_from(id % zones).unwrap()];
            builder.node(NodeId(id * id), Weight(1 << (id % 3)), Zone::new(zone))
        });
        builder.build().unwrap().hash()
    });
    assert_eq!(hashes, [0x3ca8_c169_0aec_ce22, 0x5254_d3c2_356d_39e5, 0xe477_69a3_eb12_c84e]);
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    assert_eq!(Layout::builder(0).node(NodeId(1), Weight(1), Zone::default()).build(), Err(LayoutError::NoReplicas));
    assert_eq!(
        Layout::builder(33).node(NodeId(1), Weight(1), Zone::default()).build(),
        Err(LayoutError::TooManyReplicas { replicas: 33 })
    );
    for partitions in [0, 3, 1000, (1 << 24) + 1, 1 << 25] {
        assert_eq!(equal(3).partitions(partitions).build(), Err(LayoutError::PartitionCount { partitions }));
    }
    assert_eq!(equal(3).node(NodeId(2), Weight(5), Zone::new("b")).build(), Err(LayoutError::DuplicateNode(NodeId(2))));
    assert_eq!(equal(3).node(NodeId(0), Weight(1), Zone::default()).build(), Err(LayoutError::ReservedNode));
    assert_eq!(Layout::builder(1).build(), Err(LayoutError::NoWeight));
    assert_eq!(Layout::builder(1).node(NodeId(1), Weight(0), Zone::default()).build(), Err(LayoutError::NoWeight));
    assert_eq!(
        equal(2).node(NodeId(3), Weight(0), Zone::default()).build(),
        Err(LayoutError::TooFewNodes { replicas: 3, nodes: 2 })
    );
    assert_eq!(
        equal(3).node(NodeId(4), Weight(1), Zone::new(&"z".repeat(256))).build(),
        Err(LayoutError::ZoneName { node: NodeId(4), bytes: 256 })
    );
    let many =
        (1..=65_536).fold(Layout::builder(1), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()));
    assert_eq!(many.build(), Err(LayoutError::TooManyNodes { nodes: 65_536 }));
    let earlier = equal(3).partitions(64).build().unwrap();
    assert_eq!(
        equal(3).partitions(128).after(&earlier).build(),
        Err(LayoutError::PartitionsChanged { had: 64, wanted: 128 })
    );
}

#[test]
fn a_layout_made_from_an_earlier_one_is_its_next_epoch_and_keeps_what_it_can() {
    let earlier = equal(5).partitions(256).build().unwrap();
    assert_eq!(earlier.epoch(), Epoch(1));
    let later = equal(6).after(&earlier).build().unwrap();
    assert_eq!((later.epoch(), later.partitions()), (Epoch(2), 256));
    let moved = |partition: PartitionId| {
        later.replicas(partition).iter().filter(|node| !earlier.replicas(partition).contains(node)).count()
    };
    let moves: usize = later.partition_ids().map(moved).sum();
    assert_eq!(moves, 128, "a sixth of 768 slots, all to the new node");
    assert_eq!(later.load_of(NodeId(6)).unwrap().slots, 128);
}

#[test]
fn the_replication_factor_can_change_from_one_epoch_to_the_next() {
    let three = equal(5).partitions(64).build().unwrap();
    let widen = (1..=5)
        .fold(Layout::builder(5).after(&three), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()));
    let five = widen.build().unwrap();
    for partition in three.partition_ids() {
        assert!(three.replicas(partition).iter().all(|node| five.replicas(partition).contains(node)));
    }
}

#[test]
fn one_partition_and_one_node_are_enough() {
    let layout = Layout::builder(1).partitions(1).node(NodeId(8), Weight(1), Zone::default()).build().unwrap();
    assert_eq!(layout.replicas_of(layout.token_of(b"anything")), [NodeId(8)]);
    assert_eq!(layout.range_of(PartitionId(0)), Token(0)..=Token(u64::MAX));
}

#[test]
fn when_replicas_are_given_up_the_right_ones_are() {
    // Zones of very different weight: with two replicas the heaviest has one of every partition, and which other one goes decides
    // whether any replica has to move.
    let weighted = |replicas| {
        (1..=30).fold(Layout::builder(replicas).partitions(1024), |builder, id| {
            let zone = usize::try_from(id % 3).unwrap();
            builder.node(NodeId(id), Weight(1 << zone), Zone::new(["a", "b", "c"][zone]))
        })
    };
    let three = weighted(3).build().unwrap();
    let two = weighted(2).after(&three).build().unwrap();
    let new = |partition: PartitionId| {
        two.replicas(partition).iter().filter(|node| !three.replicas(partition).contains(node)).count()
    };
    let moves: usize = two.partition_ids().map(new).sum();
    assert!(moves <= 20, "{moves} of 2048 replicas moved");
}

/// Five nodes in three zones.
fn zoned() -> LayoutBuilder {
    (1..=5).fold(Layout::builder(3).partitions(64), |builder, id| {
        builder.node(NodeId(id), Weight(1), Zone::new(["a", "b", "c"][usize::try_from(id % 3).unwrap()]))
    })
}

#[test]
fn every_class_has_its_own_assignment_under_its_own_rule() {
    let anywhere = PlacementClass { replicas: 1, zones: ZoneRule::Ignore };
    let layout = zoned().class(PlacementClass::replicas(5)).class(anywhere).build().unwrap();
    assert_eq!(layout.classes().collect::<Vec<_>>(), [ClassId(0), ClassId(1), ClassId(2)]);
    assert_eq!(layout.class_of(anywhere), Some(ClassId(2)));
    assert_eq!(layout.class_of(PlacementClass::replicas(4)), None);
    assert_eq!(layout.assignment(ClassId(3)), None);
    let lengths = layout.assignments().iter().map(|assignment| assignment.replicas_of(Token(7)).len());
    assert_eq!(lengths.collect::<Vec<_>>(), [3, 5, 1]);
    // By weight alone: 64 slots over five equal nodes. The zone rule would give the node that is alone in its zone more.
    let loads: Vec<u32> = layout.report_of(ClassId(2)).unwrap().loads.into_iter().map(|load| load.slots).collect();
    assert_eq!(loads, [13, 13, 13, 13, 12]);
    assert_eq!(layout.report_of(ClassId(2)).unwrap().warnings, []);
    // The first class is what it is without the others.
    assert_eq!(layout.assignments()[0], zoned().build().unwrap().assignments()[0]);
}

#[test]
fn distinct_zones_are_had_or_the_layout_is_refused() {
    let layout = zoned().zones(ZoneRule::Distinct).build().unwrap();
    for (_, row) in layout.assignments()[0].rows() {
        let zones: BTreeSet<&str> = row.iter().map(|&node| layout.member(node).unwrap().zone.name()).collect();
        assert_eq!(zones.len(), 3);
    }
    let distinct = PlacementClass { replicas: 4, zones: ZoneRule::Distinct };
    assert_eq!(zoned().class(distinct).build(), Err(LayoutError::TooFewZones { replicas: 4, zones: 3 }));
}

#[test]
fn classes_that_cannot_be_are_refused_by_name() {
    let three = PlacementClass::replicas(3);
    let duplicate = LayoutError::DuplicateClass { replicas: 3, zones: ZoneRule::Spread };
    assert_eq!(zoned().class(three).build(), Err(duplicate));
    let many = (4..=19).fold(zoned(), |builder, replicas| builder.class(PlacementClass::replicas(replicas)));
    assert_eq!(many.build(), Err(LayoutError::TooManyClasses { classes: 17 }));
    assert_eq!(
        zoned().class(PlacementClass::replicas(6)).build(),
        Err(LayoutError::TooFewNodes { replicas: 6, nodes: 5 })
    );
    let two = zoned().class(PlacementClass::replicas(2)).build().unwrap();
    assert_eq!(zoned().after(&two).build(), Err(LayoutError::ClassesLost { had: 2, wanted: 1 }));
}
