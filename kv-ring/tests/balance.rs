//! Every node gets its share, on the grid of cluster sizes, replication factors, zones and weights that people run.
//!
//! All cells of up to 100 nodes are tried. Of the larger ones, where a cell takes a second, every cell of three replicas is, and
//! of one and of five replicas each pair of zones and weights once: so any two of the four properties meet at every size.
//! `KV_RING_WHOLE_GRID=1 cargo test -p kv-ring --test balance` tries all of them.

use std::collections::{BTreeMap, BTreeSet};

use kv_ring::{Change, Layout, LayoutBuilder, NodeId, Plan, Report, Weight, Zone};

mod oracle;

use oracle::{Question, least_moves};

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

fn weight(node: u64, equal: bool) -> Weight {
    if equal { Weight(1) } else { Weight(1 << (node % 3)) }
}

fn layout(nodes: u64, replicas: usize, zones: Zones, equal: bool) -> Layout {
    let partitions = LayoutBuilder::partitions_for(usize::try_from(nodes).unwrap(), replicas);
    (1..=nodes)
        .fold(Layout::builder(replicas).partitions(partitions), |builder, node| {
            builder.node(NodeId(node), weight(node, equal), zones.of(node, nodes))
        })
        .build()
        .unwrap()
}

/// The load that each node ought to have, in fractions of slots, by a way of its own: the share by weight, cut at what the
/// zone rule and one replica of each partition per node allow, and what is cut shared among the others, until nothing is.
fn ideal_loads(layout: &Layout) -> Vec<f64> {
    let partitions = f64::from(layout.partitions());
    let replicas = layout.replication_factor();
    let nodes = layout.nodes();
    let names: BTreeSet<&Zone> = nodes.iter().map(|member| &member.zone).collect();
    let members_of = |zone: &Zone| nodes.iter().filter(|member| member.zone == *zone).count();
    let level = (1..).find(|&level| names.iter().map(|zone| members_of(zone).min(level)).sum::<usize>() >= replicas);
    let level = level.unwrap();
    // The whole as a function of the level of the water; it only grows, so halving finds it.
    let loads_at = |water: f64| -> Vec<f64> {
        let mut loads: Vec<f64> =
            nodes.iter().map(|member| (water * f64::from(member.weight.0)).min(partitions)).collect();
        for zone in &names {
            let inside: Vec<usize> = (0..nodes.len()).filter(|&index| nodes[index].zone == **zone).collect();
            let sum: f64 = inside.iter().map(|&index| loads[index]).sum();
            let [least, most] = [level - 1, level].map(|bound| inside.len().min(bound) as f64 * partitions);
            let wanted = sum.clamp(least, most);
            if wanted != sum {
                let of_zone = |water: f64, index: usize| (water * f64::from(nodes[index].weight.0)).min(partitions);
                let water = halved(wanted, |water| inside.iter().map(|&index| of_zone(water, index)).sum());
                inside.iter().for_each(|&index| loads[index] = of_zone(water, index));
            }
        }
        loads
    };
    let total = partitions * replicas as f64;
    loads_at(halved(total, |water| loads_at(water).iter().sum()))
}

/// Where a function that grows reaches a value.
fn halved(value: f64, of: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0 + value);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if of(middle) < value { low = middle } else { high = middle }
    }
    high
}

/// What a plan moves, against the least that any could.
fn assert_moves_are_few(plan: &Plan, context: &str) {
    let moves = plan.moves().len();
    if moves as u64 * 100 <= plan.moves_min() * 102 {
        return;
    }
    // The loads alone allow less. Does the assignment they come from?
    let (base, next) = (plan.base(), plan.next());
    let number = |node: NodeId| next.nodes().binary_search_by_key(&node, |member| member.id).ok();
    let held: Vec<Vec<usize>> =
        base.assignments()[0].rows().map(|(_, row)| row.iter().filter_map(|&node| number(node)).collect()).collect();
    let names: Vec<&Zone> =
        next.nodes().iter().map(|member| &member.zone).collect::<BTreeSet<_>>().into_iter().collect();
    let zone_of: Vec<usize> = next.nodes().iter().map(|member| names.binary_search(&&member.zone).unwrap()).collect();
    let mut bounds = vec![(usize::MAX, 0); names.len()];
    for (_, row) in next.assignments()[0].rows() {
        for (zone, (least, most)) in bounds.iter_mut().enumerate() {
            let count = row.iter().filter(|&&node| zone_of[number(node).unwrap()] == zone).count();
            (*least, *most) = (count.min(*least), count.max(*most));
        }
    }
    let targets: Vec<u32> = next.report().loads.iter().map(|load| load.slots).collect();
    let question = Question {
        held: &held,
        replicas: next.replication_factor(),
        targets: &targets,
        zone_of: &zone_of,
        bounds: &bounds,
    };
    let least = least_moves(&question).unwrap();
    assert!(moves * 100 <= least * 102, "{context}: {moves} moves, {least} are needed");
}

/// The zone rule, seen from outside: how many replicas of each partition are in each zone.
fn assert_zones_are_even(layout: &Layout, context: &str) {
    let mut zones: Vec<(&Zone, usize)> = Vec::new();
    let mut zone_of = BTreeMap::new();
    for member in layout.nodes() {
        let place = zones.iter().position(|(name, _)| *name == &member.zone).unwrap_or(zones.len());
        if place == zones.len() {
            zones.push((&member.zone, 0));
        }
        zones[place].1 += 1;
        zone_of.insert(member.id, place);
    }
    for (_, row) in layout.assignments()[0].rows() {
        let mut counts: Vec<(usize, usize)> = zones.iter().map(|&(_, nodes)| (0, nodes)).collect();
        row.iter().for_each(|node| counts[zone_of[node]].0 += 1);
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

/// Whether a cell is tried when the whole grid is not asked for.
fn is_default(nodes: u64, replicas: usize, zones: Zones, equal: bool) -> bool {
    let is_one_of_two = (zones as usize + usize::from(equal) + usize::from(replicas == 1)).is_multiple_of(2);
    nodes <= 100 || replicas == 3 || is_one_of_two
}

#[test]
fn loads_primaries_and_zones_are_even_on_the_grid() {
    let whole = std::env::var_os("KV_RING_WHOLE_GRID").is_some();
    let mut plain = 0;
    for nodes in [3, 5, 7, 30, 100, 300, 1000] {
        for replicas in [1, 3, 5] {
            for zones in [Zones::None, Zones::Three, Zones::Uneven] {
                for equal in [true, false] {
                    if replicas as u64 > nodes || !(whole || is_default(nodes, replicas, zones, equal)) {
                        continue;
                    }
                    let context = format!("{nodes} nodes, {replicas} replicas, zones {zones:?}, equal {equal}");
                    let layout = layout(nodes, replicas, zones, equal);
                    let report = layout.report();
                    assert_loads_are_even(&report, &context);
                    assert_zones_are_even(&layout, &context);
                    for (load, ideal) in report.loads.iter().zip(ideal_loads(&layout)) {
                        assert!((f64::from(load.slots) - ideal).abs() <= 1.0, "{context}: {load:?}, ideally {ideal}");
                    }
                    let added = nodes + 1;
                    let add = Change::new().add(NodeId(added), weight(added, equal), zones.of(added, nodes));
                    let remove = Change::new().remove(NodeId(nodes / 2 + 1));
                    for (name, change) in [("add", add), ("remove", remove)] {
                        if name == "remove" && nodes == replicas as u64 {
                            continue;
                        }
                        let plan = layout.plan(&change).unwrap();
                        let context = format!("{context}, {name}");
                        assert_moves_are_few(&plan, &context);
                        assert_loads_are_even(&plan.next().report(), &context);
                        assert_zones_are_even(plan.next(), &context);
                    }
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
