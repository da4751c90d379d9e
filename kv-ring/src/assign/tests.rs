use proptest::prelude::*;

use super::*;
use crate::targets::Demand;

#[path = "../../tests/oracle/mod.rs"]
mod oracle;

use oracle::{Question, least_moves};

/// A maximum flow by shortest augmenting paths (Edmonds and Karp, 1972): the oracle.
struct Flow {
    /// Residual capacities by arc; arc 2i and 2i+1 are each other's reverse.
    arcs: Vec<(usize, u64)>,
    from: Vec<Vec<usize>>,
}

impl Flow {
    fn new(vertices: usize) -> Self {
        Self { arcs: Vec::new(), from: vec![Vec::new(); vertices] }
    }

    fn arc(&mut self, from: usize, to: usize, capacity: u64) {
        self.from[from].push(self.arcs.len());
        self.arcs.push((to, capacity));
        self.from[to].push(self.arcs.len());
        self.arcs.push((from, 0));
    }

    fn maximum(&mut self, source: usize, sink: usize) -> u64 {
        let mut total = 0;
        loop {
            let mut reached: Vec<Option<usize>> = vec![None; self.from.len()];
            let mut queue = VecDeque::from([source]);
            while let Some(at) = queue.pop_front() {
                for &arc in &self.from[at] {
                    let (to, capacity) = self.arcs[arc];
                    if capacity > 0 && to != source && reached[to].is_none() {
                        reached[to] = Some(arc);
                        queue.push_back(to);
                    }
                }
            }
            let mut path = Vec::new();
            let mut at = sink;
            while let Some(arc) = reached[at] {
                path.push(arc);
                at = self.arcs[arc ^ 1].0;
            }
            let Some(pushed) = path.iter().map(|&arc| self.arcs[arc].1).min() else { return total };
            for arc in path {
                self.arcs[arc].1 -= pushed;
                self.arcs[arc ^ 1].1 += pushed;
            }
            total += pushed;
        }
    }
}

/// How many slots can be placed when every node holds at most its cap, every partition at most `per_zone` in one zone.
fn most_slots(partitions: usize, replicas: u64, zone_of: &[usize], caps: &[u64], per_zone: u64) -> u64 {
    let zones = zone_of.iter().max().unwrap() + 1;
    let first_pair = 2 + partitions;
    let first_node = first_pair + partitions * zones;
    let mut flow = Flow::new(first_node + caps.len());
    for partition in 0..partitions {
        flow.arc(0, 2 + partition, replicas);
        for zone in 0..zones {
            flow.arc(2 + partition, first_pair + partition * zones + zone, per_zone);
        }
        for (node, &zone) in zone_of.iter().enumerate() {
            flow.arc(first_pair + partition * zones + zone, first_node + node, 1);
        }
    }
    for (node, &cap) in caps.iter().enumerate() {
        flow.arc(first_node + node, 1, cap);
    }
    flow.maximum(0, 1)
}

#[derive(Clone, Debug)]
struct Case {
    partitions: u32,
    replicas: usize,
    weights: Vec<u32>,
    zone_of: Vec<usize>,
}

impl Case {
    fn targets(&self) -> Targets {
        Targets::of(Demand {
            partitions: self.partitions,
            replicas: self.replicas,
            weights: &self.weights,
            zone_of: &self.zone_of,
            held: &vec![0; self.weights.len()],
        })
    }

    fn assigned(&self, targets: &Targets, previous: Option<Previous<'_>>) -> Vec<Index> {
        let salts: Vec<u64> = (1..=self.weights.len() as u64).collect();
        let Self { partitions, replicas, zone_of, .. } = self;
        let problem =
            Problem { partitions: *partitions, replicas: *replicas, targets, zone_of, salts: &salts, previous };
        let holders = assign(problem);
        self.check(targets, &holders);
        holders
    }

    /// All that the module promises of an assignment.
    fn check(&self, targets: &Targets, holders: &[Index]) {
        let mut load = vec![0; self.weights.len()];
        for row in holders.chunks_exact(self.replicas) {
            let mut in_zone = vec![0; targets.zones.len()];
            for (place, &node) in row.iter().enumerate() {
                assert!(!row[..place].contains(&node), "replicas are on distinct nodes");
                load[usize::from(node)] += 1;
                in_zone[self.zone_of[usize::from(node)]] += 1;
            }
            for (zone, &count) in targets.zones.iter().zip(&in_zone) {
                assert!((zone.per_partition_min..=zone.per_partition_max).contains(&count), "the zone rule holds");
            }
        }
        assert_eq!(load, targets.nodes);
    }
}

fn cases(nodes_max: usize, bits_max: u32) -> impl Strategy<Value = Case> {
    (1..=5_usize, 0..=bits_max, 1..=5_usize)
        .prop_flat_map(move |(replicas, bits, zones)| {
            let node = (prop_oneof![4 => Just(1_u32), 4 => 1..=9_u32, 1 => Just(0), 1 => 1..=u32::MAX], 0..zones);
            (Just(replicas), Just(bits), prop::collection::vec(node, replicas..=nodes_max.max(replicas)))
        })
        .prop_filter_map("too few nodes with a weight", |(replicas, bits, nodes)| {
            let (weights, zones): (Vec<u32>, Vec<usize>) = nodes.into_iter().unzip();
            if weights.iter().filter(|&&weight| weight > 0).count() < replicas {
                return None;
            }
            let mut numbers = zones.clone();
            numbers.sort_unstable();
            numbers.dedup();
            let zone_of = zones.iter().map(|zone| numbers.binary_search(zone).unwrap()).collect();
            Some(Case { partitions: 1 << bits, replicas, weights, zone_of })
        })
}

/// Assigns before and after. Which node of the new members is which of the old, if any, is arbitrary.
fn change(before: &Case, after: Case, seed: u64) {
    let after = Case { partitions: before.partitions, ..after };
    let held = before.assigned(&before.targets(), None);
    let renamed: Vec<Index> = held
        .iter()
        .map(|&node| {
            let node = (u64::from(node).wrapping_add(seed) % 16) as usize;
            if node < after.weights.len() { Index::try_from(node).unwrap() } else { HOLE }
        })
        .collect();
    after.assigned(&after.targets(), Some(Previous { replicas: before.replicas, holders: &renamed }));
}

/// The only node with room is reached by an exchange that costs nothing, behind one that costs something.
#[test]
fn a_chain_may_end_at_the_cost_that_is_being_looked_at() {
    let before =
        Case { partitions: 4, replicas: 2, weights: vec![1, 1, 1, 1, 5, 2, 1], zone_of: vec![0, 0, 1, 0, 0, 1, 0] };
    let after = Case {
        partitions: 32,
        replicas: 5,
        weights: vec![0, 8, 1, 1, 1, 4, 5, 1_490_493_433],
        zone_of: vec![1, 1, 1, 0, 1, 0, 0, 0],
    };
    change(&before, after, 13_045_582_641_587_017_473);
}

proptest! {
    #[test]
    fn targets_and_zone_rule_are_met_whatever_the_members(case in cases(24, 7)) {
        let targets = case.targets();
        case.assigned(&targets, None);
    }

    #[test]
    fn targets_and_zone_rule_are_met_after_any_change(before in cases(12, 5), after in cases(12, 5), seed: u64) {
        change(&before, after, seed);
    }

    #[test]
    fn no_assignment_keeps_the_fullest_node_a_slot_lower(case in cases(7, 4)) {
        let targets = case.targets();
        let slots = u64::from(case.partitions) * case.replicas as u64;
        let level = targets.zones.iter().map(|zone| zone.per_partition_max).max().unwrap() as u64;
        let partitions = case.partitions as usize;
        let any: Vec<u64> = case.weights.iter().map(|&weight| if weight > 0 { slots } else { 0 }).collect();
        let most = |caps: &[u64], level| most_slots(partitions, case.replicas as u64, &case.zone_of, caps, level);
        prop_assert_eq!(most(&any, level), slots);
        prop_assert!(most(&any, level - 1) < slots, "fewer replicas per zone would do");

        // The zone rule has a least as well; without one (level 1) the flow knows all of the constraints.
        if level == 1 {
            let (worst, weight) = targets
                .nodes
                .iter()
                .zip(&case.weights)
                .filter(|&(&target, _)| target > 0)
                .map(|(&target, &weight)| (u64::from(target - 1), u64::from(weight)))
                .max_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
                .unwrap();
            // Every node strictly below `worst / weight` slots per unit of weight.
            let caps: Vec<u64> =
                case.weights.iter().map(|&own| (worst * u64::from(own)).div_ceil(weight).saturating_sub(1)).collect();
            prop_assert!(most(&caps, level) < slots, "{:?} could be lower", targets.nodes);
        }
    }
}

/// Replicas that the assignment moves, and how many any would have to.
fn moved_and_least(before: &Case, after: &Case, held: &[Index]) -> (usize, usize) {
    let targets = after.targets();
    let now = after.assigned(&targets, Some(Previous { replicas: before.replicas, holders: held }));
    let rows = held.chunks_exact(before.replicas).zip(now.chunks_exact(after.replicas));
    let moved = rows.map(|(held, now)| now.iter().filter(|node| !held.contains(node)).count()).sum();
    let held: Vec<Vec<usize>> =
        held.chunks_exact(before.replicas).map(|row| row.iter().map(|&node| usize::from(node)).collect()).collect();
    let bounds: Vec<(usize, usize)> =
        targets.zones.iter().map(|zone| (zone.per_partition_min, zone.per_partition_max)).collect();
    let question = Question {
        held: &held,
        replicas: after.replicas,
        targets: &targets.nodes,
        zone_of: &after.zone_of,
        bounds: &bounds,
    };
    (moved, least_moves(&question).expect("an assignment that meets the targets exists"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, ..ProptestConfig::default() })]
    #[test]
    fn a_node_that_comes_or_goes_moves_the_least_there_is(before in cases(12, 5), which: usize, weight in 0..4_u32) {
        let mut after = before.clone();
        let node = which % after.weights.len();
        after.weights[node] = if after.weights[node] == 0 { weight } else { 0 };
        let weighted = after.weights.iter().filter(|&&weight| weight > 0).count();
        prop_assume!(weighted >= after.replicas);
        let held = before.assigned(&before.targets(), None);
        let (moved, least) = moved_and_least(&before, &after, &held);
        prop_assert!(moved * 100 <= least * 102 + 100, "{moved} moves, {least} are needed");
    }

    /// Greedy steps are not always the best of all, but close: of 800 such changes, 790 moved the least there is, the others
    /// one replica more.
    #[test]
    fn any_change_moves_little_more_than_the_least_there_is(before in cases(12, 5), after in cases(12, 5)) {
        let after = Case { partitions: before.partitions, ..after };
        let held = before.assigned(&before.targets(), None);
        let held: Vec<Index> =
            held.into_iter().map(|node| if usize::from(node) < after.weights.len() { node } else { HOLE }).collect();
        let (moved, least) = moved_and_least(&before, &after, &held);
        prop_assert!(moved * 100 <= least * 105 + 300, "{moved} moves, {least} are needed");
    }
}

/// Thirteen equal nodes, and the same without node `gone`.
fn with_and_without(zones: usize, gone: usize) -> (Case, Case) {
    let with =
        Case { partitions: 1024, replicas: 3, weights: vec![1; 13], zone_of: (0..13).map(|n| n % zones).collect() };
    let mut without = with.clone();
    without.weights[gone] = 0;
    (with, without)
}

/// Replicas that went to another node, and how many must by the targets alone.
fn moves(before: &Case, after: &Case) -> (usize, usize) {
    let (old, new) = (before.targets(), after.targets());
    let held = before.assigned(&old, None);
    let now = after.assigned(&new, Some(Previous { replicas: before.replicas, holders: &held }));
    let rows = held.chunks_exact(before.replicas).zip(now.chunks_exact(before.replicas));
    let moved = rows.map(|(held, now)| now.iter().filter(|node| !held.contains(node)).count()).sum();
    let floor = new.nodes.iter().zip(&old.nodes).map(|(&new, &old)| new.saturating_sub(old) as usize).sum();
    (moved, floor)
}

#[test]
fn a_new_node_takes_its_share_and_nothing_else_moves() {
    for zones in [1, 3, 4] {
        let (with, without) = with_and_without(zones, 12);
        let (moved, floor) = moves(&without, &with);
        assert!(moved * 100 <= floor * 102, "{moved} moves, {floor} are needed, {zones} zones");
    }
}

#[test]
fn a_drained_node_gives_its_share_and_nothing_else_moves() {
    for zones in [1, 3] {
        let (with, without) = with_and_without(zones, 5);
        let (moved, floor) = moves(&with, &without);
        assert!(moved * 100 <= floor * 102, "{moved} moves, {floor} are needed, {zones} zones");
    }
}

#[test]
fn a_zone_that_is_short_of_a_node_asks_for_no_more_moves_than_it_must() {
    // Four zones for three replicas: those that must move first make room in zones that are short of it, which the loads
    // alone do not tell.
    let (with, without) = with_and_without(4, 5);
    let held = with.assigned(&with.targets(), None);
    let (moved, least) = moved_and_least(&with, &without, &held);
    assert!(moved * 100 <= least * 102, "{moved} moves, {least} are needed");
}

#[test]
fn nothing_moves_when_nothing_changed() {
    let case =
        Case { partitions: 256, replicas: 3, weights: vec![1, 2, 4, 1, 2, 4, 1], zone_of: vec![0, 0, 1, 1, 1, 2, 2] };
    let targets = case.targets();
    let held = case.assigned(&targets, None);
    assert_eq!(case.assigned(&targets, Some(Previous { replicas: 3, holders: &held })), held);
}

#[test]
fn a_failed_nodes_load_falls_on_all_the_others() {
    let case = Case { partitions: 1024, replicas: 3, weights: vec![1; 10], zone_of: vec![0; 10] };
    let holders = case.assigned(&case.targets(), None);
    let mut shared = [0_u32; 10];
    for row in holders.chunks_exact(3).filter(|row| row.contains(&0)) {
        for &node in row {
            shared[usize::from(node)] += 1;
        }
    }
    // 308 partitions with two others each, over nine nodes: 68 apiece.
    assert!(shared[1..].iter().all(|&count| (40..=100).contains(&count)), "{shared:?}");
}
