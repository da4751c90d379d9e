//! Failure detection by itself, among many nodes: the real machine and real frames, without stores and requests around
//! it.
//!
//! A [`World`](super::World) is a whole cluster, and too large to have a thousand of; this is a thousand of the one machine,
//! to see how fast deaths are noticed, how often the living are suspected, and what it costs.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use super::network::{Network, NetworkFaults};
use crate::check::LivenessLedger;
use crate::gossip::Gossip;
use crate::identity::{Boot, ClusterId, Identity};
use crate::liveness::{Liveness, LivenessChange};
use crate::machine::{Action, Notice};
use crate::wire::{self, FrameWriter, Header};

const CLUSTER: ClusterId = ClusterId(1);

/// Many nodes that only watch each other.
pub struct Swarm {
    now_us: u64,
    order: u64,
    agenda: BTreeMap<(u64, u64), Due>,
    random: fastrand::Rng,
    network: Network,
    period: Millis,
    places: Vec<Place>,
    seen: Seen,
    ledger: LivenessLedger,
}

struct Place {
    machine: Option<Gossip>,
    boot: Boot,
    /// When it is to be woken, as planned.
    wake_at: Option<u64>,
    /// How late it looks at what has arrived.
    lag_us: u64,
}

enum Due {
    /// A frame reaches a machine.
    Arrives {
        from: NodeId,
        to: NodeId,
        frame: Bytes,
    },
    /// A node gets round to a frame.
    Handle {
        from: NodeId,
        to: NodeId,
        frame: Bytes,
    },
    Wake(NodeId),
}

/// What has happened so far.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Seen {
    /// Frames that were sent.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How often a node came to suspect one that was up.
    pub suspicions_of_the_living: u64,
    /// How often a node came to believe one dead that was up.
    pub deaths_of_the_living: u64,
}

impl Swarm {
    /// Nodes 1 to `nodes`, all up, that ask one another each `period_ms`.
    #[must_use]
    pub fn new(seed: u64, nodes: u64, period_ms: u64, faults: NetworkFaults) -> Self {
        let mut swarm = Self {
            now_us: 0,
            order: 0,
            agenda: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            network: Network::new(faults),
            period: Millis(period_ms),
            places: Vec::new(),
            seen: Seen::default(),
            ledger: LivenessLedger::default(),
        };
        let place = || Place { machine: None, boot: Boot(0), wake_at: None, lag_us: 0 };
        swarm.places.extend((0..nodes).map(|_| place()));
        for node in swarm.nodes() {
            swarm.start(node);
        }
        swarm
    }

    /// The names of all nodes, up or not.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        (1..=self.places.len() as u64).map(NodeId).collect()
    }

    /// What has happened so far.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    /// Rules that were broken.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.ledger.violations()
    }

    /// Whether a node is up.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.place(node).machine.is_some()
    }

    /// How many nodes that are up believe so of `peer`.
    #[must_use]
    pub fn believing(&self, peer: NodeId, liveness: Liveness) -> usize {
        let now = self.millis();
        let machines = self.places.iter().filter_map(|place| place.machine.as_ref());
        machines.filter(|machine| machine.belief(peer, now).is_some_and(|belief| belief.liveness == liveness)).count()
    }

    /// Whether every node that is up takes every other one that is up for alive.
    #[must_use]
    pub fn is_united(&self) -> bool {
        let up: Vec<NodeId> = self.nodes().into_iter().filter(|node| self.is_up(*node)).collect();
        up.iter().all(|node| self.believing(*node, Liveness::Alive) == up.len() - 1)
    }

    /// How many times as long as usual a node waits for others.
    ///
    /// # Panics
    /// When it is down.
    #[must_use]
    pub fn health_multiplier(&self, node: NodeId) -> u64 {
        self.place(node).machine.as_ref().expect("a node that is up").health_multiplier()
    }

    /// A node dies.
    pub fn kill(&mut self, node: NodeId) {
        let place = self.place_mut(node);
        (place.machine, place.wake_at) = (None, None);
    }

    /// A node starts, for the first time or again.
    pub fn start(&mut self, node: NodeId) {
        let nonce = self.random.u64(1..);
        let now = self.millis();
        let members: Vec<_> = self.nodes().into_iter().map(|node| (node, Incarnation(node.0))).collect();
        let period = self.period;
        let place = self.place_mut(node);
        place.boot = Boot(place.boot.0 + 1);
        let me =
            Identity { node, incarnation: Incarnation(node.0), boot: place.boot, nonce, epoch: 1, quarantined: false };
        let mut machine = Gossip::new(&me, period);
        machine.know(members.into_iter());
        machine.begin(now);
        place.machine = Some(machine);
        self.plan(node);
    }

    /// A node looks at everything that arrives so much later.
    pub fn slow_down(&mut self, node: NodeId, lag_us: u64) {
        self.place_mut(node).lag_us = lag_us;
    }

    /// Makes the network as rough as this from now on.
    pub const fn network_is(&mut self, faults: NetworkFaults) {
        self.network.faults = faults;
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.network.cut(from, to);
    }

    /// Cuts the first `first` nodes off the others.
    pub fn split(&mut self, first: u64) {
        for from in self.nodes() {
            for to in self.nodes() {
                if (from.0 <= first) != (to.0 <= first) {
                    self.network.cut(from, to);
                }
            }
        }
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.network.heal();
    }

    /// Lets so many periods pass.
    pub fn run(&mut self, periods: u64) {
        let end = self.now_us + periods * self.period.0 * 1000;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now_us = entry.key().0;
            let due = entry.remove();
            self.step(due);
        }
        self.now_us = end;
    }

    /// Lets time pass until `done`, or `periods_max` are over. Returns how many periods it took.
    pub fn run_until(&mut self, periods_max: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        (0..=periods_max).find(|period| {
            if *period > 0 {
                self.run(1);
            }
            done(self)
        })
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Arrives { from, to, frame } => {
                let lag_us = self.place(to).lag_us;
                self.schedule(lag_us, Due::Handle { from, to, frame });
            }
            Due::Handle { from, to, frame } => self.handle(from, to, &frame),
            Due::Wake(node) => {
                let (now, at) = (self.millis(), self.now_us);
                let place = self.place_mut(node);
                if place.wake_at != Some(at) {
                    return;
                }
                place.wake_at = None;
                let mut actions = Vec::new();
                if let Some(machine) = &mut place.machine {
                    machine.due(now, &mut actions);
                }
                self.carry_out(node, actions);
            }
        }
    }

    fn handle(&mut self, from: NodeId, to: NodeId, frame: &Bytes) {
        let now = self.millis();
        let place = self.place_mut(to);
        let Some(machine) = &mut place.machine else { return };
        let frame = wire::decode(frame).expect("a node sends whole frames");
        // As nodes do: a frame to or from an earlier life says nothing about this one.
        if frame.header.to_boot != place.boot {
            return;
        }
        let mut actions = Vec::new();
        for message in frame.messages {
            machine.receive(now, from, frame.header.from_boot, message, &mut actions);
        }
        self.carry_out(to, actions);
    }

    fn carry_out(&mut self, node: NodeId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, message, .. } => {
                    let header = self.header(node, to);
                    let mut frame = FrameWriter::new(&header);
                    assert!(frame.push(&message, usize::MAX), "there is no limit");
                    let frame = frame.finish();
                    self.seen.frames += 1;
                    self.seen.bytes += frame.len() as u64;
                    for delay in self.network.delays(node, to, &mut self.random) {
                        self.schedule(delay, Due::Arrives { from: node, to, frame: frame.clone() });
                    }
                }
                Action::Notify(Notice::Liveness(change)) => self.changed(node, &change),
                Action::Notify(Notice::Dropped(_)) => {}
                other => unreachable!("failure detection does nothing else: {other:?}"),
            }
        }
        if let Some(machine) = &self.place(node).machine {
            let claim = machine.claim();
            self.ledger.claimed(node, claim);
        }
        self.plan(node);
    }

    fn changed(&mut self, observer: NodeId, change: &LivenessChange) {
        let boot = self.place(observer).boot;
        self.ledger.changed(observer, boot, change);
        if self.is_up(change.peer) && self.place(change.peer).boot == change.claim.boot {
            match change.after {
                Liveness::Alive => {}
                Liveness::Suspect => self.seen.suspicions_of_the_living += 1,
                Liveness::Dead => self.seen.deaths_of_the_living += 1,
            }
        }
    }

    fn header(&self, from: NodeId, to: NodeId) -> Header {
        Header {
            cluster: CLUSTER,
            from,
            from_incarnation: Incarnation(from.0),
            from_boot: self.place(from).boot,
            to_incarnation: Incarnation(to.0),
            to_boot: self.place(to).boot,
        }
    }

    fn plan(&mut self, node: NodeId) {
        let now = self.now_us;
        let place = self.place_mut(node);
        let Some(machine) = &place.machine else { return };
        let at = (machine.next_due().0 * 1000).max(now + 1);
        if place.wake_at.is_none_or(|planned| at < planned) {
            place.wake_at = Some(at);
            self.schedule(at - now, Due::Wake(node));
        }
    }

    fn schedule(&mut self, after_us: u64, due: Due) {
        self.order += 1;
        self.agenda.insert((self.now_us + after_us, self.order), due);
    }

    const fn millis(&self) -> Millis {
        Millis(self.now_us / 1000)
    }

    fn place(&self, node: NodeId) -> &Place {
        &self.places[index(node)]
    }

    fn place_mut(&mut self, node: NodeId) -> &mut Place {
        &mut self.places[index(node)]
    }
}

fn index(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("nodes count from one")
}
