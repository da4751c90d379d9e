use super::*;

fn layout(replicas: usize, nodes: &[(u64, u32, &str)]) -> Layout {
    let builder = nodes.iter().fold(Layout::builder(replicas).partitions(64), |builder, &(id, weight, zone)| {
        builder.node(NodeId(id), Weight(weight), Zone::new(zone))
    });
    builder.build().unwrap()
}

#[test]
fn a_cluster_without_zones_is_not_blamed_for_it() {
    let report = layout(3, &[(1, 1, ""), (2, 1, ""), (3, 1, "")]).report();
    assert_eq!(report.warnings, []);
    assert_eq!(report.excess(), 0.0);
}

#[test]
fn too_few_zones_are_reported() {
    let report = layout(3, &[(1, 1, "a"), (2, 1, "a"), (3, 1, "b"), (4, 1, "b")]).report();
    assert_eq!(report.warnings, [Warning::ReplicasShareZones { zones: 2, together: 2 }]);
}

#[test]
fn a_zone_and_a_node_that_cannot_have_their_share_are_reported() {
    let report = layout(3, &[(1, 1, "a"), (2, 1, "b"), (3, 2, "c"), (4, 2, "c"), (5, 0, "d")]).report();
    let zone = |name, by_weight| Warning::ZoneShare { zone: Zone::new(name), by_weight, target: 64 };
    assert_eq!(report.warnings, [zone("a", 32), zone("b", 32), zone("c", 128)]);
    let report = layout(1, &[(1, 7, ""), (2, 1, "")]).report();
    assert_eq!(report.warnings, []);
    let report = layout(2, &[(1, 6, ""), (2, 1, ""), (3, 1, "")]).report();
    assert_eq!(report.warnings, [Warning::NodeFull { node: NodeId(1), by_weight: 96 }]);
}

#[test]
fn the_table_reads_well() {
    let report = layout(2, &[(1, 6, "a"), (2, 2, "b"), (3, 0, "b"), (12, 1, "a")]).report();
    let printed = report.to_string();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("layout e1 ") && lines[0].ends_with(": 64 partitions x 2 replicas"), "{}", lines[0]);
    let expected = [
        "node     zone           weight     slots    target primaries",
        "n1       a                   6        55        55        27",
        "n2       b                   2        64        64        32",
        "n3       b                   0         0         0         0",
        "n12      a                   1         9         9         5",
        "fullest node: 0.00 % over its target",
        "warning: zone a: 64 slots by the zone rule, 99 by weight",
        "warning: zone b: 64 slots by the zone rule, 28 by weight",
    ];
    assert_eq!(lines[1..], expected);
}
