//! Strategies side by side: the same nodes, the same keys, and what every node then holds.
//!
//! Twelve nodes of weight 1 and 2 in three zones; then a thirteenth joins; then, without it, the fifth leaves. Each
//! key has three replicas in distinct zones. What a node should hold is the target of a [`Layout`] of these members: its share
//! by weight, as far as zones allow it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use kv_ring::classic::{BoundedRing, Jump, Maglev, Strategy, Zoned};
use kv_ring::{
    Change, ChangeError, HashRing, Layout, LayoutBuilder, Member, NodeId, Plan, Rendezvous, Token, Weight, Zone,
    token_of,
};

const REPLICAS: usize = 3;
const NODES: u64 = 12;
const JOINS: NodeId = NodeId(13);
const LEAVES: NodeId = NodeId(5);

/// When the loads are looked at.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Moment {
    /// Twelve nodes.
    Before,
    /// A thirteenth has joined.
    Added,
    /// The fifth of the twelve has left.
    Removed,
}

impl Moment {
    /// All three, in their order.
    pub const ALL: [Self; 3] = [Self::Before, Self::Added, Self::Removed];
}

/// What a strategy did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// Load as a part of what it should be, of every node that is there, at each moment.
    pub loads: [BTreeMap<NodeId, f64>; 3],
    /// Replicas that moved when the node was added, and when it was removed, as a multiple of the least.
    pub moved: [f64; 2],
    /// What a preference list costs, in the median.
    pub lookup_ns: f64,
}

impl Outcome {
    /// The fullest and the emptiest node before anything changed.
    #[must_use]
    pub fn extremes(&self, moment: Moment) -> (f64, f64) {
        let loads = self.loads[moment as usize].values().copied();
        (loads.clone().fold(0.0, f64::max), loads.fold(f64::INFINITY, f64::min))
    }
}

/// All strategies, and the plans that a layout makes of the two changes.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// How many keys were placed.
    pub keys: u32,
    /// Strategy by strategy.
    pub outcomes: Vec<Outcome>,
    plans: [Plan; 2],
}

/// Places keys under every strategy.
///
/// # Errors
/// None in practice: the members have a layout.
pub fn compare(keys: u32) -> Result<Comparison, ChangeError> {
    let zone = |id: u64| Zone::new(["a", "b", "c"][usize::try_from(id % 3).expect("less than three")]);
    let weight = |id: u64| Weight(if id <= NODES / 2 { 1 } else { 2 });
    let partitions = LayoutBuilder::partitions_for(100, REPLICAS);
    let layout = (1..=NODES)
        .fold(Layout::builder(REPLICAS).partitions(partitions), |builder, id| {
            builder.node(NodeId(id), weight(id), zone(id))
        })
        .build()?;
    let added = layout.plan(&Change::new().add(JOINS, weight(JOINS.0), zone(JOINS.0)))?;
    let removed = layout.plan(&Change::new().remove(LEAVES))?;
    let layouts = [&layout, added.next(), removed.next()];

    let tokens: Vec<Token> = (0..keys).map(|key| token_of(&key.to_le_bytes())).collect();
    let shares = layouts.map(targets);
    let weighted = |members: &[Member]| members.iter().map(|member| (member.id, member.weight)).collect::<Vec<_>>();
    let mut trials = Trials { layouts, tokens: &tokens, shares: &shares, outcomes: Vec::new() };
    trials.try_layouts();
    trials.try_strategy("ring, 128 places a weight", |members| HashRing::new(weighted(members), 128));
    trials.try_bounded("ring, loads up to 110 %", |members| BoundedRing::new(weighted(members), 128, 0.1));
    trials.try_strategy("rendezvous", |members| Rendezvous::new(weighted(members)));
    trials.try_strategy("maglev, 65,537 places", |members| Maglev::new(weighted(members), Maglev::PLACES_DEFAULT));
    trials.try_strategy("jump (knows no weights)", |members| Jump::new(members.iter().map(|member| member.id)));
    Ok(Comparison { keys, outcomes: trials.outcomes, plans: [added, removed] })
}

/// What every node should hold, as a part of all replicas.
fn targets(layout: &Layout) -> BTreeMap<NodeId, f64> {
    let slots = f64::from(layout.partitions()) * REPLICAS as f64;
    layout.report().loads.into_iter().map(|load| (load.node, f64::from(load.target) / slots)).collect()
}

/// Three nodes for each key.
type Lists = Vec<[NodeId; REPLICAS]>;

struct Trials<'a> {
    layouts: [&'a Layout; 3],
    tokens: &'a [Token],
    shares: &'a [BTreeMap<NodeId, f64>; 3],
    outcomes: Vec<Outcome>,
}

impl Trials<'_> {
    fn try_layouts(&mut self) {
        let lists = self
            .layouts
            .map(|layout| timed(self.tokens, |&token| layout.replicas_of(token).try_into().expect("three replicas")));
        self.enter("layout, partitions", &lists);
    }

    fn try_strategy<S: Strategy>(&mut self, name: &'static str, make: impl Fn(&[Member]) -> S) {
        let lists = self.layouts.map(|layout| {
            let strategy = Zoned::new(make(layout.nodes()), zones(layout));
            let mut list = Vec::new();
            timed(self.tokens, |&token| {
                strategy.preference_list(token, REPLICAS, &mut list);
                list[..].try_into().expect("three nodes and more")
            })
        });
        self.enter(name, &lists);
    }

    /// Keys come one after the other, and each takes a unit of its three nodes' bounds.
    fn try_bounded(&mut self, name: &'static str, make: impl Fn(&[Member]) -> BoundedRing) {
        let lists = self.layouts.map(|layout| {
            let mut ring = make(layout.nodes());
            let mut order = Vec::new();
            let zones: BTreeMap<NodeId, Zone> = zones(layout).collect();
            timed(self.tokens, |&token| {
                ring.preference_list(token, layout.nodes().len(), &mut order);
                let mut list: Vec<NodeId> = Vec::with_capacity(REPLICAS);
                for &node in &order {
                    if list.len() < REPLICAS && list.iter().all(|other| zones[other] != zones[&node]) {
                        list.push(node);
                        ring.charge(node);
                    }
                }
                list[..].try_into().expect("three zones")
            })
        });
        self.enter(name, &lists);
    }

    fn enter(&mut self, name: &'static str, lists: &[(Lists, f64); 3]) {
        let replicas = (self.tokens.len() * REPLICAS) as f64;
        let mut loads: [BTreeMap<NodeId, f64>; 3] = Default::default();
        for (moment, (lists, _)) in lists.iter().enumerate() {
            let shares = &self.shares[moment];
            let mut held: BTreeMap<NodeId, f64> = shares.keys().map(|&node| (node, 0.0)).collect();
            lists.iter().flatten().for_each(|node| *held.get_mut(node).expect("a member") += 1.0);
            loads[moment] = held.into_iter().map(|(node, count)| (node, count / replicas / shares[&node])).collect();
        }
        let moved = [1, 2].map(|moment| {
            let pairs = lists[0].0.iter().zip(&lists[moment].0);
            let moved = pairs.map(|(old, new)| new.iter().filter(|node| !old.contains(node)).count()).sum::<usize>();
            let before = |node| self.shares[0].get(node).copied().unwrap_or(0.0);
            let least: f64 = self.shares[moment].iter().map(|(node, share)| (share - before(node)).max(0.0)).sum();
            moved as f64 / (least * replicas)
        });
        self.outcomes.push(Outcome { name, loads, moved, lookup_ns: lists[0].1 });
    }
}

fn zones(layout: &Layout) -> impl Iterator<Item = (NodeId, Zone)> + '_ {
    layout.nodes().iter().map(|member| (member.id, member.zone.clone()))
}

/// How many lists are timed at once: long against the clock, short against what else the machine does.
const ROUND: usize = 1000;

/// The list of every token, and what one of them costs: the median of many short rounds, which an interruption does not move.
fn timed(tokens: &[Token], mut list: impl FnMut(&Token) -> [NodeId; REPLICAS]) -> (Lists, f64) {
    let mut lists = Lists::with_capacity(tokens.len());
    let mut rounds_ns: Vec<f64> = Vec::new();
    for round in tokens.chunks(ROUND) {
        let start = Instant::now();
        lists.extend(round.iter().map(&mut list));
        rounds_ns.push(start.elapsed().as_secs_f64() * 1e9 / round.len() as f64);
    }
    rounds_ns.sort_unstable_by(f64::total_cmp);
    (lists, rounds_ns.get(rounds_ns.len() / 2).copied().unwrap_or(0.0))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} keys, {REPLICAS} replicas in distinct zones, {NODES} nodes of weight 1 and 2\n", self.keys)?;
        writeln!(
            f,
            "{:<26} {:>17} {:>17} {:>17} {:>11} {:>11} {:>9}",
            "load / target, min - max",
            "before",
            format!("{JOINS} joins"),
            format!("{LEAVES} leaves"),
            "moved, join",
            "moved, leave",
            "lookup"
        )?;
        for outcome in &self.outcomes {
            write!(f, "{:<26}", outcome.name)?;
            for moment in Moment::ALL {
                let (most, least) = outcome.extremes(moment);
                write!(f, " {:>17}", format!("{:.1} - {:.1} %", least * 100.0, most * 100.0))?;
            }
            let [added, removed] = outcome.moved.map(|moved| format!("{moved:.2} x"));
            writeln!(f, " {added:>11} {removed:>11} {:>6.0} ns", outcome.lookup_ns)?;
        }
        writeln!(f, "\nmoved: replicas that moved, as a multiple of the least that the targets allow")?;
        writeln!(
            f,
            "bounded loads are bounded by weight alone; where zones give a node less, it may have more of that\n"
        )?;
        for plan in &self.plans {
            writeln!(f, "{plan}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_even_and_moves_the_least_and_all_strategies_keep_distinct_zones() {
        let comparison = compare(20_000).unwrap();
        assert_eq!(comparison.outcomes.len(), 6);
        for (outcome, place) in comparison.outcomes.iter().zip(0..) {
            for loads in &outcome.loads {
                assert!((11..=13).contains(&loads.len()), "{}", outcome.name);
            }
            let (most, least) = outcome.extremes(Moment::Added);
            if place == 0 {
                assert!(most < 1.06 && least > 0.94, "{least} to {most}: no more than the keys' chance");
                assert!(outcome.moved.iter().all(|moved| (0.9..1.1).contains(moved)), "{:?}", outcome.moved);
            }
            assert!(outcome.moved.iter().all(|moved| *moved > 0.8), "{}: less than the least", outcome.name);
        }
    }
}
