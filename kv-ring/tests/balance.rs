//! Every node gets its share, on the grid of cluster sizes, replication factors, zones and weights that people run.

use kv_ring::{Layout, NodeId, Report, Weight, Zone};

#[derive(Copy, Clone, Debug)]
enum Zones {
    None,
    Three,
    /// Half of the nodes in one zone, a third in the next, the rest in a third.
    Uneven,
}

impl Zones {
    fn of(self, node: u64, nodes: u64) -> Zone {
        match self {
            Self::None => Zone::default(),
            Self::Three => Zone::new(["a", "b", "c"][usize::try_from(node % 3).unwrap()]),
            Self::Uneven if node * 2 <= nodes => Zone::new("a"),
            Self::Uneven if node * 6 <= nodes * 5 => Zone::new("b"),
            Self::Uneven => Zone::new("c"),
        }
    }
}

fn layout(nodes: u64, replicas: usize, zones: Zones, equal: bool) -> Layout {
    // As recommended: a hundred slots per unit of weight, at least.
    let partitions = u32::try_from((nodes * 100).next_power_of_two().max(1024)).unwrap();
    let weight = |node: u64| if equal { Weight(1) } else { Weight(1 << (node % 3)) };
    (1..=nodes)
        .fold(Layout::builder(replicas).partitions(partitions), |builder, node| {
            builder.node(NodeId(node), weight(node), zones.of(node, nodes))
        })
        .build()
        .unwrap()
}

/// The zone rule, seen from outside: how many replicas of each partition are in each zone.
fn assert_zones_are_even(layout: &Layout, context: &str) {
    let zone = |node: &NodeId| layout.member(*node).unwrap().zone.clone();
    let mut zones: Vec<(Zone, usize)> = Vec::new();
    for member in layout.nodes() {
        match zones.iter_mut().find(|(name, _)| *name == member.zone) {
            Some((_, nodes)) => *nodes += 1,
            None => zones.push((member.zone.clone(), 1)),
        }
    }
    for partition in layout.partition_ids() {
        let replicas = layout.replicas(partition);
        let counts: Vec<(usize, usize)> = zones
            .iter()
            .map(|(name, nodes)| (replicas.iter().filter(|&node| zone(node) == *name).count(), *nodes))
            .collect();
        for &(more, _) in &counts {
            for &(fewer, nodes) in &counts {
                assert!(more <= fewer + 1 || fewer == nodes, "{context}: {counts:?}");
            }
        }
    }
}

fn assert_loads_are_even(report: &Report, context: &str) {
    for load in &report.loads {
        assert_eq!(load.slots, load.target, "{context}: {load:?}");
        let share = f64::from(load.slots) / report.class.replicas as f64;
        assert!((f64::from(load.primaries) - share).abs() < 1.0, "{context}: {load:?}");
    }
    let slots: u32 = report.loads.iter().map(|load| load.slots).sum();
    let primaries: u32 = report.loads.iter().map(|load| load.primaries).sum();
    assert_eq!(slots as usize, report.partitions as usize * report.class.replicas);
    assert_eq!(primaries, report.partitions);
}

/// Where neither the zone rule nor "distinct nodes" stands in the way, the target is the plain share by weight.
fn assert_targets_are_shares(report: &Report, context: &str) {
    let slots = f64::from(report.partitions) * report.class.replicas as f64;
    let weights: f64 = report.loads.iter().map(|load| f64::from(load.weight.0)).sum();
    for load in &report.loads {
        let share = slots * f64::from(load.weight.0) / weights;
        assert!((f64::from(load.target) - share).abs() < 1.0, "{context}: {load:?}, share {share}");
    }
}

#[test]
fn loads_primaries_and_zones_are_even_on_the_whole_grid() {
    let mut plain = 0;
    for nodes in [3, 5, 7, 30, 100] {
        for replicas in [1, 3, 5] {
            for zones in [Zones::None, Zones::Three, Zones::Uneven] {
                for equal in [true, false] {
                    if replicas as u64 > nodes {
                        continue;
                    }
                    let context = format!("{nodes} nodes, {replicas} replicas, zones {zones:?}, equal {equal}");
                    let layout = layout(nodes, replicas, zones, equal);
                    let report = layout.report();
                    assert_loads_are_even(&report, &context);
                    assert_zones_are_even(&layout, &context);
                    if report.warnings.is_empty() {
                        assert_targets_are_shares(&report, &context);
                        plain += 1;
                    }
                }
            }
        }
    }
    assert!(plain >= 30, "most of the grid has no obstacles, {plain} did not");
}

#[test]
fn more_nodes_than_slots_leave_some_without() {
    let layout = (1..=10)
        .fold(Layout::builder(3).partitions(2), |builder, node| builder.node(NodeId(node), Weight(1), Zone::default()))
        .build()
        .unwrap();
    let report = layout.report();
    assert_eq!(report.loads.iter().filter(|load| load.slots == 1).count(), 6);
    assert_eq!(report.loads.iter().filter(|load| load.slots == 0).count(), 4);
}
