use super::*;

fn targets(partitions: u32, replicas: usize, nodes: &[(u32, usize)]) -> Targets {
    holding(partitions, replicas, nodes, &vec![0; nodes.len()])
}

fn holding(partitions: u32, replicas: usize, nodes: &[(u32, usize)], held: &[u32]) -> Targets {
    let (weights, zone_of): (Vec<u32>, Vec<usize>) = nodes.iter().copied().unzip();
    Targets::of(Demand { partitions, replicas, weights: &weights, zone_of: &zone_of, held })
}

#[test]
fn shares_follow_weights_and_zero_gets_nothing() {
    let got = targets(1024, 1, &[(1, 0), (2, 0), (0, 0), (5, 0)]);
    assert_eq!(got.nodes, [128, 256, 0, 640]);
}

#[test]
fn a_node_never_holds_a_partition_twice_and_the_rest_share_what_it_cannot_take() {
    // By weight alone the first would hold 2,688 of 3,072 slots.
    let got = targets(1024, 3, &[(70, 0), (1, 0), (4, 0), (5, 0)]);
    assert_eq!(got.nodes, [1024, 205, 819, 1024]);
}

#[test]
fn equal_nodes_differ_by_one_slot_at_most() {
    let got = targets(1024, 3, &[(3, 0); 7]);
    assert_eq!(got.nodes, [439, 439, 439, 439, 439, 439, 438]);
}

#[test]
fn a_zone_holds_no_more_than_one_replica_of_each_when_there_are_enough_zones() {
    let got = targets(64, 3, &[(8, 0), (8, 0), (1, 1), (1, 2), (1, 3)]);
    assert_eq!(got.zones[0], ZoneTarget { per_partition_min: 0, per_partition_max: 1, slots: 64 });
    assert_eq!(got.nodes, [32, 32, 43, 43, 42]);
}

#[test]
fn with_too_few_zones_each_takes_its_even_part_whatever_its_weight() {
    // Four replicas over three zones: each has one of every partition, one has two.
    let got = targets(8, 4, &[(9, 0), (9, 0), (9, 1), (9, 1), (1, 2), (1, 2)]);
    let bounds: Vec<_> = got.zones.iter().map(|zone| (zone.per_partition_min, zone.per_partition_max)).collect();
    assert_eq!(bounds, [(1, 2), (1, 2), (1, 2)]);
    assert_eq!(got.nodes, [6, 6, 6, 6, 4, 4]);
}

#[test]
fn a_zone_of_one_node_offers_one_replica() {
    let got = targets(8, 5, &[(1, 0), (1, 1), (1, 2), (1, 2), (1, 2), (1, 2)]);
    let bounds: Vec<_> = got.zones.iter().map(|zone| (zone.per_partition_min, zone.per_partition_max)).collect();
    assert_eq!(bounds, [(1, 1), (1, 1), (2, 3)]);
    assert_eq!(got.nodes, [8, 8, 6, 6, 6, 6]);
}

#[test]
fn extreme_weights_do_not_overflow() {
    let got = targets(1 << 24, 3, &[(u32::MAX, 0), (u32::MAX, 1), (1, 2), (u32::MAX - 1, 3)]);
    assert_eq!(got.nodes.iter().map(|&slots| u64::from(slots)).sum::<u64>(), 3 << 24);
    assert!(got.nodes[2] <= 1, "{:?}", got.nodes);
}

#[test]
fn rounding_goes_where_more_is_held_already() {
    // The level is 438.86; by remainder and order the last would be rounded down.
    let got = holding(1024, 3, &[(3, 0); 7], &[438, 439, 439, 439, 439, 439, 439]);
    assert_eq!(got.nodes, [438, 439, 439, 439, 439, 439, 439]);
    // Nobody is rounded up beyond the next whole number, and a whole level stays what it is.
    let got = holding(8, 1, &[(1, 0); 4], &[5, 1, 1, 1]);
    assert_eq!(got.nodes, [2, 2, 2, 2]);
    let got = holding(16, 1, &[(1, 0); 3], &[1, 1, 14]);
    assert_eq!(got.nodes, [5, 5, 6]);
}
