//! Faults of nodes, links, clocks and disks, one at a time and drawn by chance; each mends itself after a while.

use kv_core::NodeId;

use super::options::Options;
use super::world::{Answer, World};
use crate::status::Standing;

/// The alarm that goes off when something is to be mended.
pub(super) const MEND: u64 = u64::MAX - 1;

/// How often each fault happened.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Faults {
    /// Machines that lost power.
    pub crashes: u64,
    /// Times that every machine lost power at once.
    pub blackouts: u64,
    /// Processes that died.
    pub kills: u64,
    /// Nodes that did nothing for a while.
    pub pauses: u64,
    /// Networks cut in two, in both directions or one.
    pub partitions: u64,
    /// Wall clocks that jumped.
    pub clock_jumps: u64,
    /// Disks that synced slowly.
    pub slow_disks: u64,
    /// Disks that were lost, and replaced by empty ones.
    pub wipes: u64,
}

impl Faults {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let processes = self.crashes + self.blackouts + self.kills + self.pauses + self.wipes;
        processes + self.partitions + self.clock_jumps + self.slow_disks
    }
}

/// Breaks things.
pub(super) struct Chaos {
    every_us: u64,
    skew_ms: u64,
    pub(super) faults: Faults,
    /// When which node is started again.
    down: Vec<(u64, NodeId)>,
    links_heal_at: Option<u64>,
    /// The node whose disk was lost last, until it holds again what it held.
    wiped: Option<Wiped>,
}

struct Wiped {
    node: NodeId,
    /// What was asked of it.
    request: Option<u64>,
}

/// How often a node whose disk was lost is looked after, in microseconds.
const LOOK_AFTER_US: u64 = 500_000;

impl Chaos {
    pub(super) fn new(options: &Options, world: &mut World) -> Self {
        let chaos = Self {
            every_us: options.chaos_every_ms * 1000,
            skew_ms: options.clock_skew_ms,
            faults: Faults::default(),
            down: Vec::new(),
            links_heal_at: None,
            wiped: None,
        };
        for node in world.nodes() {
            let skew = chaos.skew(world);
            world.set_skew(node, skew);
            world.set_sync(node, options.sync_max_us);
        }
        chaos
    }

    fn skew(&self, world: &mut World) -> i64 {
        let bound = i64::try_from(self.skew_ms).unwrap_or(0);
        world.random.i64(-bound..=bound)
    }

    /// After how many microseconds to come again, if ever.
    pub(super) fn pause_us(&self, world: &mut World) -> Option<u64> {
        (self.every_us > 0).then(|| world.random.u64(1_000..=self.every_us * 2))
    }

    /// Breaks something.
    pub(super) fn strike(&mut self, world: &mut World) {
        let nodes = world.nodes();
        let node = nodes[world.random.usize(..nodes.len())];
        match world.random.u32(0..13) {
            0..=3 if world.is_up(node) => {
                self.faults.crashes += 1;
                world.crash(node);
                self.down_for_a_while(world, node);
            }
            4 if world.is_up(node) => {
                self.faults.kills += 1;
                world.kill(node);
                self.down_for_a_while(world, node);
            }
            5 => {
                self.faults.pauses += 1;
                let span = world.random.u64(10_000..3_000_000);
                world.pause(node, span);
            }
            6..=8 => {
                self.faults.partitions += 1;
                self.split(world, &nodes);
            }
            9 => {
                self.faults.clock_jumps += 1;
                let skew = self.skew(world);
                world.set_skew(node, skew);
            }
            10 => {
                self.faults.slow_disks += 1;
                let sync_max_us = world.random.u64(1_000..300_000);
                world.set_sync(node, sync_max_us);
            }
            11 => {
                self.faults.blackouts += 1;
                for node in nodes {
                    if world.is_up(node) {
                        world.crash(node);
                        self.down_for_a_while(world, node);
                    }
                }
            }
            12 if self.wiped.is_none() && world.is_serving(node) => {
                self.faults.wipes += 1;
                world.wipe(node);
                self.down_for_a_while(world, node);
                self.wiped = Some(Wiped { node, request: None });
            }
            _ => {}
        }
    }

    /// Has a node whose disk was lost take its place again. No other disk is lost before it holds what it held.
    fn look_after_wiped(&mut self, world: &mut World) {
        let Some(Wiped { node, request }) = &mut self.wiped else { return };
        match request.map(|request| world.take(request)) {
            Some(Answer::Pending) => {}
            Some(Answer::Cluster(Ok(()))) => *request = None,
            // It died, or nobody took notice.
            _ if world.is_up(*node) && !world.is_serving(*node) => *request = Some(world.replace(*node)),
            _ => {}
        }
        let back =
            world.status(*node).is_some_and(|status| status.standing == Standing::Serving && status.importing == 0);
        if request.is_none() && back {
            self.wiped = None;
        } else {
            world.alarm(LOOK_AFTER_US, MEND);
        }
    }

    fn down_for_a_while(&mut self, world: &mut World, node: NodeId) {
        let span = world.random.u64(50_000..4_000_000);
        self.down.push((world.now_us() + span, node));
        world.alarm(span, MEND);
    }

    fn split(&mut self, world: &mut World, nodes: &[NodeId]) {
        let both_ways = world.random.u32(0..4) > 0;
        let side: Vec<bool> = nodes.iter().map(|_| world.random.bool()).collect();
        for (a, from) in nodes.iter().enumerate() {
            for (b, to) in nodes.iter().enumerate() {
                if side[a] != side[b] && (both_ways || side[a]) {
                    world.cut(*from, *to);
                }
            }
        }
        let span = world.random.u64(100_000..4_000_000);
        self.links_heal_at = Some(world.now_us() + span);
        world.alarm(span, MEND);
    }

    /// Mends what is due.
    pub(super) fn mend(&mut self, world: &mut World) {
        let now = world.now_us();
        let (due, later): (Vec<_>, Vec<_>) = self.down.iter().partition(|(at, _)| *at <= now);
        self.down = later;
        for (_, node) in due {
            world.start(node);
        }
        if self.links_heal_at.is_some_and(|at| at <= now) {
            world.heal_links();
            self.links_heal_at = None;
        }
        self.look_after_wiped(world);
    }

    /// Mends everything.
    pub(super) fn heal(&mut self, world: &mut World) {
        world.heal_links();
        world.network.faults = super::NetworkFaults::default();
        for node in world.nodes() {
            world.set_sync(node, 2_000);
            world.pause(node, 0);
            world.start(node);
        }
        if let Some(Wiped { node, .. }) = self.wiped.take()
            && !world.is_serving(node)
        {
            world.replace(node);
        }
    }
}
