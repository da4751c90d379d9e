//! Which nodes hold which partition: an assignment that meets the targets exactly, keeps what is held and moves little.
//!
//! 1. *Keep*: every replica of the previous assignment stays, if its node is still a member with a share and the zone rule
//!    still allows it there; where some must go, the nodes that are furthest behind their targets stay.
//! 2. *Fill*: partition by partition, holes go to the node that is furthest behind its target, jittered by a hash so that
//!    nodes of equal standing meet in ever different sets: when one fails, its load falls on all the others, not on two
//!    neighbours. A node (or zone) that must be in every partition still to come goes first; with that, a first
//!    assignment comes out whole (Gale and Ryser's construction of a matrix from its sums, 1957).
//! 3. *Augment*: a hole that no node below its target may take is closed by the cheapest chain of exchanges (Ford and Fulkerson;
//!    the cheapest, so that few replicas move, after Busacker and Gowen, 1961).
//! 4. *Shed*: while a node is below its target, and so another above, the cheapest chain of exchanges moves one slot.
//!
//! A chain costs the replicas that it takes from where they were: those that move already may as well move elsewhere. So moves
//! are the least possible when a node comes or goes, and close to it after any other change.
//!
//! Ties are broken by node ids and a fixed hash: equal inputs give equal assignments on every machine.

use std::collections::VecDeque;

use crate::targets::Targets;

/// The index of a node in the order of node ids.
pub(crate) type Index = u16;

/// No node: what a previous assignment says where its node is gone, and what no finished assignment contains.
pub(crate) const HOLE: Index = Index::MAX;

/// What an assignment is made from.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) partitions: u32,
    pub(crate) replicas: usize,
    pub(crate) targets: &'a Targets,
    pub(crate) zone_of: &'a [usize],
    /// A number per node that other nodes have no influence on (its id), for ties.
    pub(crate) salts: &'a [u64],
    pub(crate) previous: Option<Previous<'a>>,
}

/// What is held now: as many partitions, in the same order.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Previous<'a> {
    /// How many replicas each partition had, which may be another number than now.
    pub(crate) replicas: usize,
    /// With [`HOLE`] for a node that is gone.
    pub(crate) holders: &'a [Index],
}

/// The nodes of partition 0, then those of partition 1, and so on: `replicas` distinct nodes each, in no particular order.
/// Every node has exactly its target.
pub(crate) fn assign(problem: Problem<'_>) -> Vec<Index> {
    let mut table = Table::new(problem);
    table.keep();
    table.fill();
    table.close_holes();
    table.shed();
    assert!(
        table.holders.iter().all(|&holder| holder != HOLE),
        "an assignment that meets the targets exists, and flows find it"
    );
    assert_eq!(table.load, problem.targets.nodes, "every node has its target");
    table.holders
}

/// A fixed hash of a partition and a node, for ties and for orders without meaning (the finaliser of SplitMix64; Steele, Lea
/// and Flood, 2014).
pub(crate) const fn mix(partition: u32, salt: u64) -> u64 {
    let mut z = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (partition as u64).wrapping_mul(0xd134_2543_de82_ef95);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The assignment in the making.
struct Table<'a> {
    problem: Problem<'a>,
    holders: Vec<Index>,
    load: Vec<u32>,
    zone_load: Vec<u64>,
    /// How many replicas of one partition are beyond the least of their zones.
    extra_max: usize,
    /// 2^[`STANDING_BITS`] / target of each node.
    reciprocal: Vec<u64>,
}

/// The bits of a full standing (load = target), those below of its jitter, and where the urgency begins.
const STANDING_BITS: u32 = 40;
const JITTER_BITS: u32 = 16;
const URGENCY_SHIFT: u32 = 60;
const _: () =
    assert!(STANDING_BITS + JITTER_BITS + 1 < URGENCY_SHIFT, "a load up to its target leaves the urgency alone");

/// `to` takes the place of `from` in `partition`.
#[derive(Copy, Clone)]
struct Exchange {
    partition: u32,
    from: Index,
    to: Index,
}

/// What a search for a chain knows of each node: how cheaply it is reached, and by what.
struct Search {
    cost: Vec<u32>,
    reached_by: Vec<Option<Exchange>>,
}

impl Search {
    fn new(nodes: usize) -> Self {
        Self { cost: vec![u32::MAX; nodes], reached_by: vec![None; nodes] }
    }

    fn is_reached(&self, node: Index) -> bool {
        self.reached_by[usize::from(node)].is_some()
    }

    fn chain_to(&self, end: Index) -> Vec<Exchange> {
        let mut chain = Vec::new();
        let mut at = end;
        while let Some(exchange) = self.reached_by[usize::from(at)] {
            chain.push(exchange);
            at = exchange.to;
        }
        chain
    }
}

impl<'a> Table<'a> {
    fn new(problem: Problem<'a>) -> Self {
        let Targets { nodes, zones } = problem.targets;
        Self {
            problem,
            holders: vec![HOLE; problem.partitions as usize * problem.replicas],
            load: vec![0; nodes.len()],
            zone_load: vec![0; zones.len()],
            extra_max: problem.replicas - zones.iter().map(|zone| zone.per_partition_min).sum::<usize>(),
            reciprocal: nodes.iter().map(|&target| (1 << STANDING_BITS) / u64::from(target.max(1))).collect(),
        }
    }

    fn keep(&mut self) {
        let Some(Previous { replicas, holders }) = self.problem.previous else { return };
        assert_eq!(
            holders.len() / replicas,
            self.problem.partitions as usize,
            "the number of partitions never changes"
        );
        let mut candidates = Vec::with_capacity(replicas);
        for (partition, row) in (0..self.problem.partitions).zip(holders.chunks_exact(replicas)) {
            // When not all can stay, those that are furthest behind do.
            candidates.clear();
            let members = row.iter().filter(|&&node| node != HOLE && self.problem.targets.nodes[usize::from(node)] > 0);
            let left = u64::from(self.problem.partitions - partition);
            candidates.extend(members.map(|&node| (self.standing(partition, node, left), node)));
            self.enter_best(partition, &candidates);
        }
    }

    fn fill(&mut self) {
        let is_open = |&partition: &u32| self.holders[self.row(partition)].contains(&HOLE);
        let open: Vec<u32> = (0..self.problem.partitions).filter(is_open).collect();
        let mut below_target: Vec<Index> = (0..self.nodes()).filter(|&node| self.need(node) > 0).collect();
        let mut candidates = Vec::with_capacity(below_target.len());
        for (done, &partition) in open.iter().enumerate() {
            let left = (open.len() - done) as u64;
            candidates.clear();
            candidates.extend(below_target.iter().map(|&node| (self.standing(partition, node, left), node)));
            self.enter_best(partition, &candidates);
            if self.holders[self.row(partition)].iter().any(|&node| node != HOLE && self.need(node) == 0) {
                below_target.retain(|&node| self.need(node) > 0);
            }
        }
    }

    /// Lets the candidates of the lowest standings in, as long as there are holes.
    fn enter_best(&mut self, partition: u32, candidates: &[(u64, Index)]) {
        while self.holders[self.row(partition)].contains(&HOLE) {
            let mut best = None;
            for &candidate in candidates {
                // In this order, because the comparison is cheap and rarely true.
                if best.is_none_or(|best| candidate < best) && self.may_enter(partition, candidate.1) {
                    best = Some(candidate);
                }
            }
            let Some((_, node)) = best else { return };
            self.enter(partition, node);
        }
    }

    /// How much the node may wait for its turn, in a partition after which `left - 1` are to come: first by urgency, then
    /// by load / target, jittered by part of a slot.
    fn standing(&self, partition: u32, node: Index, left: u64) -> u64 {
        let index = usize::from(node);
        let jitter = mix(partition, self.problem.salts[index]) >> (64 - JITTER_BITS);
        let load = (u64::from(self.load[index]) << JITTER_BITS) + jitter;
        // A load of up to the target stays below the limit; one that is kept above it comes last, and it does not matter in
        // which order.
        let standing = load.saturating_mul(self.reciprocal[index]).min((1 << URGENCY_SHIFT) - 1);
        self.urgency(node, left) << URGENCY_SHIFT | standing
    }

    /// 0 for a node that must be in all of the partitions that are left, 1 for one whose zone must, 3 for one whose zone
    /// has no replicas to spare beyond its least, 2 for all others.
    fn urgency(&self, node: Index, left: u64) -> u64 {
        let zone = self.problem.zone_of[usize::from(node)];
        let target = self.problem.targets.zones[zone];
        let zone_need = target.slots.saturating_sub(self.zone_load[zone]);
        if u64::from(self.need(node)) >= left {
            0
        } else if zone_need >= left * target.per_partition_max as u64 {
            1
        } else if zone_need <= left * target.per_partition_min as u64 {
            3
        } else {
            2
        }
    }

    fn close_holes(&mut self) {
        let mut starting_at = 0;
        while let Some(at) = self.holders[starting_at..].iter().position(|&holder| holder == HOLE) {
            starting_at += at;
            let partition = u32::try_from(starting_at / self.problem.replicas).expect("no more than 2^24 partitions");
            // Each node that may enter here ends a chain. The chain runs backwards: the last node takes the hole, and its place
            // elsewhere goes to the one before it, until one is reached that has room.
            let ends: Vec<Index> = (0..self.nodes()).filter(|&node| self.may_enter(partition, node)).collect();
            if let Some(&node) = ends.iter().find(|&&node| self.need(node) > 0) {
                self.enter(partition, node);
                continue;
            }
            let is_end = |table: &Self, node: Index| table.may_enter(partition, node);
            let (chain, last) = self.chain(0, is_end).expect("a hole can be closed while a node is below its target");
            // The chain may pass through this very partition; entering first would change what it was checked against.
            self.exchange(&chain);
            self.enter(partition, last);
        }
    }

    fn shed(&mut self) {
        while self.load != self.problem.targets.nodes {
            let is_end = |table: &Self, node: Index| {
                table.load[usize::from(node)] > table.problem.targets.nodes[usize::from(node)]
            };
            let (chain, _) = self.chain(1, is_end).expect("a node above its target can be relieved");
            self.exchange(&chain);
        }
    }

    /// The cheapest chain of exchanges that starts at a node below its target and ends at one where `is_end` holds, and that
    /// node: each node but the first gives up one slot to the one before it. The shortest among equals.
    ///
    /// What an exchange costs is a replica taken from where it was before: replicas that move already may as well
    /// move elsewhere. A chain of the cost `least` ends the search, because the caller knows that none is cheaper.
    fn chain(&self, least: u32, is_end: impl Fn(&Self, Index) -> bool) -> Option<(Vec<Exchange>, Index)> {
        let mut search = Search::new(self.load.len());
        let mut queue: VecDeque<Index> = (0..self.nodes()).filter(|&node| self.need(node) > 0).collect();
        for &start in &queue {
            search.cost[usize::from(start)] = 0;
        }
        let mut dearer = VecDeque::new();
        for cost in 0.. {
            if let Some(&end) = queue.iter().find(|&&node| search.is_reached(node) && is_end(self, node)) {
                return Some((search.chain_to(end), end));
            }
            while let Some(to) = queue.pop_front() {
                if search.cost[usize::from(to)] < cost {
                    continue;
                }
                // Start at a place that depends on how much the node holds, so that what it takes is spread over the partitions.
                let offset = mix(self.load[usize::from(to)], self.problem.salts[usize::from(to)]);
                for step in 0..self.problem.partitions {
                    #[expect(clippy::cast_possible_truncation, reason = "any 32 bits of a hash will do")]
                    let partition = (offset as u32).wrapping_add(step) & (self.problem.partitions - 1);
                    let row = self.row(partition);
                    if self.holders[row.clone()].contains(&to) {
                        continue;
                    }
                    for from in self.holders[row].iter().copied().filter(|&from| from != HOLE) {
                        if search.cost[usize::from(from)] <= cost || !self.may_replace(partition, from, to) {
                            continue;
                        }
                        let exchange = Exchange { partition, from, to };
                        let cost_here = cost + self.cost(exchange);
                        if search.cost[usize::from(from)] <= cost_here {
                            continue;
                        }
                        search.cost[usize::from(from)] = cost_here;
                        search.reached_by[usize::from(from)] = Some(exchange);
                        // Nothing is left that is cheaper than the cost that is being looked at.
                        if cost_here <= least.max(cost) && is_end(self, from) {
                            return Some((search.chain_to(from), from));
                        }
                        if cost_here == cost { &mut queue } else { &mut dearer }.push_back(from);
                    }
                }
            }
            if dearer.is_empty() {
                return None;
            }
            std::mem::swap(&mut queue, &mut dearer);
        }
        unreachable!("the loop has no end of its own")
    }

    /// 1 when a replica leaves the node it was on before, for one where it was not.
    fn cost(&self, Exchange { partition, from, to }: Exchange) -> u32 {
        let Some(Previous { replicas, holders }) = self.problem.previous else { return 0 };
        let before = &holders[partition as usize * replicas..][..replicas];
        u32::from(before.contains(&from) && !before.contains(&to))
    }

    fn exchange(&mut self, chain: &[Exchange]) {
        for &Exchange { partition, from, to } in chain {
            assert!(self.may_replace(partition, from, to), "exchanges of a shortest chain do not hinder each other");
            self.leave(partition, from);
            self.enter(partition, to);
        }
    }

    fn may_enter(&self, partition: u32, node: Index) -> bool {
        let row = &self.holders[self.row(partition)];
        row.contains(&HOLE) && !row.contains(&node) && self.zone_allows(row, node, HOLE)
    }

    fn may_replace(&self, partition: u32, from: Index, to: Index) -> bool {
        let row = &self.holders[self.row(partition)];
        !row.contains(&to) && row.contains(&from) && self.zone_allows(row, to, from)
    }

    /// Whether the row, without `leaving`, has room for one more of the node's zone: below the zone's least, or below its
    /// most while the row may still have more than the least somewhere. When all rows are full, the leasts are met.
    fn zone_allows(&self, row: &[Index], node: Index, leaving: Index) -> bool {
        let zones = &self.problem.targets.zones;
        let zone = self.problem.zone_of[usize::from(node)];
        let mut in_zone = 0;
        let mut extra = 0;
        for (position, &holder) in row.iter().enumerate() {
            if holder == HOLE || holder == leaving {
                continue;
            }
            let of = self.problem.zone_of[usize::from(holder)];
            in_zone += usize::from(of == zone);
            let before = row[..position]
                .iter()
                .filter(|&&other| other != HOLE && other != leaving && self.problem.zone_of[usize::from(other)] == of)
                .count();
            extra += usize::from(before >= zones[of].per_partition_min);
        }
        in_zone < zones[zone].per_partition_min || (in_zone < zones[zone].per_partition_max && extra < self.extra_max)
    }

    fn enter(&mut self, partition: u32, node: Index) {
        self.replace(partition, HOLE, node);
        self.load[usize::from(node)] += 1;
        self.zone_load[self.problem.zone_of[usize::from(node)]] += 1;
    }

    fn leave(&mut self, partition: u32, node: Index) {
        self.replace(partition, node, HOLE);
        self.load[usize::from(node)] -= 1;
        self.zone_load[self.problem.zone_of[usize::from(node)]] -= 1;
    }

    fn replace(&mut self, partition: u32, old: Index, new: Index) {
        let row = self.row(partition);
        let place = self.holders[row].iter_mut().find(|holder| **holder == old);
        *place.expect("the place was looked at before") = new;
    }

    fn row(&self, partition: u32) -> std::ops::Range<usize> {
        let start = partition as usize * self.problem.replicas;
        start..start + self.problem.replicas
    }

    fn nodes(&self) -> Index {
        Index::try_from(self.load.len()).expect("the builder bounds the number of nodes")
    }

    fn need(&self, node: Index) -> u32 {
        self.problem.targets.nodes[usize::from(node)].saturating_sub(self.load[usize::from(node)])
    }
}

#[cfg(test)]
mod tests;
