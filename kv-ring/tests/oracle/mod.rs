//! The least number of replicas that must move, by minimum-cost flow: slow, simple, and knowing nothing of how the ring does it.

use std::collections::VecDeque;

/// What an assignment has to be, and what is held before it.
pub(crate) struct Question<'a> {
    /// Who holds each partition now; nodes are numbered from 0.
    pub(crate) held: &'a [Vec<usize>],
    /// How many replicas each partition is to have.
    pub(crate) replicas: usize,
    /// How many slots each node is to have.
    pub(crate) targets: &'a [u32],
    /// The zone of each node, numbered from 0.
    pub(crate) zone_of: &'a [usize],
    /// Least and most replicas of one partition in each zone.
    pub(crate) bounds: &'a [(usize, usize)],
}

/// A unit of flow through an arc of a zone's least is worth more than any number of moves.
const LEAST: i64 = 1 << 32;

/// Replicas on nodes that do not hold them, in the assignment that has the fewest; `None` when there is none.
pub(crate) fn least_moves(question: &Question<'_>) -> Option<usize> {
    let Question { held, replicas, targets, zone_of, bounds } = *question;
    let (source, sink, first_node) = (0, 1, 2);
    let first_row = first_node + targets.len();
    let vertices = first_row + held.len() * (1 + bounds.len());
    let mut flow = Flow::new(vertices);
    for (node, &target) in targets.iter().enumerate() {
        flow.arc(first_node + node, sink, i64::from(target), 0);
    }
    let mut leasts = 0;
    for (partition, holders) in held.iter().enumerate() {
        let row = first_row + partition * (1 + bounds.len());
        flow.arc(source, row, i64::try_from(replicas).unwrap(), 0);
        for (zone, &(least, most)) in bounds.iter().enumerate() {
            flow.arc(row, row + 1 + zone, i64::try_from(least).unwrap(), -LEAST);
            flow.arc(row, row + 1 + zone, i64::try_from(most - least).unwrap(), 0);
            leasts += i64::try_from(least).unwrap();
        }
        for (node, &zone) in zone_of.iter().enumerate() {
            flow.arc(row + 1 + zone, first_node + node, 1, i64::from(!holders.contains(&node)));
        }
    }
    let (units, cost) = flow.cheapest_maximum(source, sink);
    let moves = cost + LEAST * leasts;
    (units == held.len() * replicas && moves < LEAST).then(|| usize::try_from(moves).unwrap())
}

/// Arcs in pairs: 2i and 2i + 1 are each other's reverse.
struct Flow {
    to: Vec<usize>,
    room: Vec<i64>,
    cost: Vec<i64>,
    from: Vec<Vec<usize>>,
}

impl Flow {
    fn new(vertices: usize) -> Self {
        Self { to: Vec::new(), room: Vec::new(), cost: Vec::new(), from: vec![Vec::new(); vertices] }
    }

    fn arc(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        for (from, to, room, cost) in [(from, to, room, cost), (to, from, 0, -cost)] {
            self.from[from].push(self.to.len());
            self.to.push(to);
            self.room.push(room);
            self.cost.push(cost);
        }
    }

    /// Successive cheapest paths (Busacker and Gowen, 1961), each found by Bellman and Ford's relaxation.
    fn cheapest_maximum(&mut self, source: usize, sink: usize) -> (usize, i64) {
        let (mut units, mut total) = (0, 0);
        loop {
            let mut cost = vec![i64::MAX; self.from.len()];
            let mut by = vec![usize::MAX; self.from.len()];
            let mut waits = vec![false; self.from.len()];
            let mut queue = VecDeque::from([source]);
            cost[source] = 0;
            while let Some(at) = queue.pop_front() {
                waits[at] = false;
                for &arc in &self.from[at] {
                    let (to, through) = (self.to[arc], cost[at] + self.cost[arc]);
                    if self.room[arc] > 0 && through < cost[to] {
                        cost[to] = through;
                        by[to] = arc;
                        if !waits[to] {
                            waits[to] = true;
                            queue.push_back(to);
                        }
                    }
                }
            }
            if cost[sink] == i64::MAX {
                return (units, total);
            }
            let mut at = sink;
            while at != source {
                self.room[by[at]] -= 1;
                self.room[by[at] ^ 1] += 1;
                at = self.to[by[at] ^ 1];
            }
            units += 1;
            total += cost[sink];
        }
    }
}
