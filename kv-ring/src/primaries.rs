//! The order of replicas within a partition. The first is the primary: it coordinates, proposes, and answers single-replica
//! reads when all else is equal, so primaries are spread in proportion to what nodes hold. The others follow in an
//! order without meaning, so that the second choice is spread as well.
//!
//! Where there was an order before, it stays: replicas that stay keep their places, newcomers take those of the leavers. So
//! primaries change where they must, and a layout differs from the one before only in rows in which something happened.
//!
//! Every node is primary of its slots divided by the replication factor, rounded down or up: a share of `1 / replicas` of each of
//! its slots is a fractional solution, so a whole one exists (as in `targets`), and chains of handovers find it.

use crate::assign::{HOLE, Index, Previous, mix};

/// Puts the replicas of every partition in order of preference.
pub(crate) fn order(holders: &mut [Index], replicas: usize, salts: &[u64], previous: Option<Previous<'_>>) {
    let mut kept = vec![None; holders.len() / replicas];
    for (partition, row) in (0..).zip(holders.chunks_exact_mut(replicas)) {
        row.sort_unstable_by_key(|&node| (mix(partition, !salts[usize::from(node)]), node));
        if let Some(Previous { replicas, holders }) = previous {
            let before = &holders[partition as usize * replicas..][..replicas];
            keep_places(row, before);
            kept[partition as usize] = Some(before[0]).filter(|primary| row.contains(primary));
        }
    }
    if replicas > 1 {
        let mut board = Board::new(holders, replicas, salts.len());
        board.choose(&kept);
        board.level();
        let primaries = board.primary;
        for (row, primary) in holders.chunks_exact_mut(replicas).zip(primaries) {
            let place = row.iter().position(|&node| node == primary).expect("a primary is a replica");
            row[..=place].rotate_right(1);
        }
    }
}

/// Who was in the row before stands where it stood, and the others fill the gaps in the order in which they are.
fn keep_places(row: &mut [Index], before: &[Index]) {
    let mut newcomers = row.iter().copied().filter(|node| !before.contains(node)).collect::<Vec<_>>().into_iter();
    let stays: Vec<bool> = before.iter().map(|node| *node != HOLE && row.contains(node)).collect();
    let mut places = before.iter().zip(stays);
    for place in row {
        // A gap that no newcomer fills closes, as when there are to be fewer replicas.
        *place = loop {
            match places.next() {
                Some((&node, true)) => break node,
                Some((_, false)) => match newcomers.next() {
                    Some(node) => break node,
                    None => continue,
                },
                None => break newcomers.next().expect("a row is made of those who stay and newcomers"),
            }
        };
    }
}

struct Board<'a> {
    holders: &'a [Index],
    replicas: usize,
    /// The partitions that each node holds.
    held: Vec<Vec<u32>>,
    primary: Vec<Index>,
    count: Vec<usize>,
}

impl<'a> Board<'a> {
    fn new(holders: &'a [Index], replicas: usize, nodes: usize) -> Self {
        let mut held = vec![Vec::new(); nodes];
        for (partition, row) in (0..).zip(holders.chunks_exact(replicas)) {
            for &node in row {
                held[usize::from(node)].push(partition);
            }
        }
        Self { holders, replicas, held, primary: Vec::new(), count: vec![0; nodes] }
    }

    /// A first choice: the primary there was, else the replica that is furthest behind its share; equals in the order of the row.
    fn choose(&mut self, kept: &[Option<Index>]) {
        for &primary in kept.iter().flatten() {
            self.count[usize::from(primary)] += 1;
        }
        for (row, &kept) in self.holders.chunks_exact(self.replicas).zip(kept) {
            if let Some(primary) = kept {
                self.primary.push(primary);
                continue;
            }
            let standing = |node: Index| {
                ((self.count[usize::from(node)] as u64) << 32) / self.held[usize::from(node)].len() as u64
            };
            let chosen = *row.iter().min_by_key(|&&node| standing(node)).expect("a row has replicas");
            self.primary.push(chosen);
            self.count[usize::from(chosen)] += 1;
        }
    }

    fn least(&self, node: Index) -> usize {
        self.held[usize::from(node)].len() / self.replicas
    }

    fn most(&self, node: Index) -> usize {
        self.held[usize::from(node)].len().div_ceil(self.replicas)
    }

    /// Hands over primaries until every node is within its bounds.
    fn level(&mut self) {
        let nodes = 0..Index::try_from(self.count.len()).expect("the builder bounds the number of nodes");
        for node in nodes {
            while self.count[usize::from(node)] < self.least(node) {
                self.hand_over(node, Direction::Take, |board, end| board.count[usize::from(end)] > board.least(end));
            }
            while self.count[usize::from(node)] > self.most(node) {
                self.hand_over(node, Direction::Give, |board, end| board.count[usize::from(end)] < board.most(end));
            }
        }
    }

    /// Moves one primary to or from `start` along the shortest chain of nodes that share a partition, ending where `is_end`
    /// holds; the nodes between keep their count.
    fn hand_over(&mut self, start: Index, direction: Direction, is_end: impl Fn(&Self, Index) -> bool) {
        let mut reached: Vec<Option<(u32, Index)>> = vec![None; self.count.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &partition in &self.held[usize::from(at)] {
                let primary = self.primary[partition as usize];
                if (primary == at) == (direction == Direction::Take) {
                    continue;
                }
                let row = &self.holders[partition as usize * self.replicas..][..self.replicas];
                let others = row.iter().copied().filter(|&other| match direction {
                    Direction::Take => other == primary,
                    Direction::Give => other != at,
                });
                for other in others {
                    if other == start || reached[usize::from(other)].is_some() {
                        continue;
                    }
                    reached[usize::from(other)] = Some((partition, at));
                    if is_end(self, other) {
                        self.apply(&reached, other, direction);
                        return;
                    }
                    queue.push_back(other);
                }
            }
        }
        unreachable!("shares of every slot are a fractional solution, so a whole one exists and a chain leads to it");
    }

    fn apply(&mut self, reached: &[Option<(u32, Index)>], end: Index, direction: Direction) {
        let mut at = end;
        while let Some((partition, before)) = reached[usize::from(at)] {
            let (loser, winner) = if direction == Direction::Take { (at, before) } else { (before, at) };
            assert_eq!(self.primary[partition as usize], loser, "a shortest chain uses each partition once");
            self.primary[partition as usize] = winner;
            self.count[usize::from(loser)] -= 1;
            self.count[usize::from(winner)] += 1;
            at = before;
        }
    }
}

/// Which way a chain carries a primary: to its start, or away from it.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Direction {
    Take,
    Give,
}
