//! The node without its surroundings: routes events to machines and actions to where they belong.
//!
//! Feed it frames, requests and the time within a [`Turn`]; then carry out the turn; then ask when it wants to be called
//! again. Machines never call each other: whatever one has to say to another goes through here.

use std::collections::VecDeque;

use bytes::Bytes;
use kv_core::hlc::Stamp;
use kv_core::store::Batch;
use kv_core::time::{Millis, Now};
use kv_core::{NodeId, View};

use crate::caches::Caches;
use crate::catalog::{Catalog, TableSchema};
use crate::comparison::Place;
use crate::config::Settings;
use crate::coordinator::forward::Forwards;
use crate::coordinator::read::Reads;
use crate::coordinator::write::Writes;
use crate::gossip::Gossip;
use crate::hints::Hints;
use crate::identity::{ClusterId, Identity};
use crate::liveness::{Liveness, LivenessChange};
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Request};
use crate::membership::Membership;
use crate::message::Message;
use crate::mint::Minter;
use crate::peers::{DropReason, Peers};
use crate::remembered::{Remembered, RestoreError};
use crate::repair::Repairs;
use crate::replica::Replica;
use crate::request::{Write, WriteError};
use crate::schema::Schema;
use crate::status::{Dropped, PeerStatus, Standing, Status};
use crate::transport::PeerInfo;
use crate::turn::{Output, Turn};
use crate::wire;

/// All machines of a node, and what they share.
pub(crate) struct NodeCore {
    settings: Settings,
    me: Identity,
    standing: Standing,
    catalog: Option<Catalog>,
    peers: Peers,
    peers_changed: bool,
    /// Peers that have become unreachable since the machines last heard of it.
    unreachable: Vec<NodeId>,
    dropped: Dropped,
    /// What this node has changed its mind about since somebody last asked.
    changes: Vec<LivenessChange>,
    membership: Membership,
    gossip: Gossip,
    schema: Schema,
    writes: Writes,
    reads: Reads,
    forwards: Forwards,
    replica: Replica,
    repairs: Repairs,
    caches: Caches,
    hints: Hints,
    /// Requests that came before the node could serve.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    origin: Origin,
    deadline: Millis,
    request: Request,
}

#[derive(Copy, Clone)]
enum To {
    Membership,
    Gossip,
    Schema,
    Writes,
    Reads,
    Forwards,
    Replica,
    Repairs,
    Hints,
}

impl NodeCore {
    /// The node as its earlier lives left it in `view`.
    pub(crate) fn restore(
        settings: Settings,
        me: Identity,
        seeds: &[PeerInfo],
        view: &dyn View,
    ) -> Result<Self, RestoreError> {
        let Remembered { mark, catalog, mut peers, owed } = Remembered::read(&me, view)?;
        peers.learn(seeds, me.node);
        let standing = match &catalog {
            _ if me.quarantined => Standing::Quarantined,
            None => Standing::Unfounded,
            Some(_) => Standing::Confirming,
        };
        let mut caches = Caches::new(settings.clock_drift_max);
        for table in catalog.iter().flat_map(Catalog::tables) {
            hold(&mut caches, table, &me);
        }
        let hints = Hints::restore(&settings, &me, catalog.as_ref(), owed, view)?;
        let mut repairs = Repairs::new(&settings, &me);
        hints.owed().for_each(|(peer, place, ticket)| repairs.owe(Millis::ZERO, peer, place, ticket));
        Ok(Self {
            caches,
            me,
            standing,
            catalog,
            peers,
            peers_changed: true,
            unreachable: Vec::new(),
            dropped: Dropped::default(),
            changes: Vec::new(),
            membership: Membership::new(&settings),
            gossip: Gossip::new(&me, settings.gossip_every),
            schema: Schema::new(&settings, me.boot),
            writes: Writes::new(&settings, me.boot, Minter::new(&settings, mark, &me)),
            reads: Reads::new(&settings, me.boot),
            forwards: Forwards::new(&settings, me.boot),
            replica: Replica::new(),
            repairs,
            hints,
            waiting: VecDeque::new(),
            settings,
        })
    }

    /// Takes a frame that the transport says comes from `from`.
    pub(crate) fn frame(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, bytes: &Bytes) {
        let frame = match wire::decode(bytes) {
            Ok(frame) if frame.header.from == from => frame,
            Ok(_) => return self.drop_message(DropReason::Impostor),
            Err(_) => return self.drop_message(DropReason::Malformed),
        };
        self.dropped.unknown_kind += frame.unknown as u64;
        for message in frame.messages {
            if message.is_introduction() {
                let introduction = || Event::Introduction { header: frame.header, message: message.clone() };
                self.handle(To::Membership, now, turn, introduction());
                // Who knows how many tables is part of a greeting.
                if self.peers.admit(&self.me, self.cluster(), &frame.header).is_ok() {
                    self.handle(To::Schema, now, turn, introduction());
                }
                continue;
            }
            match self.peers.admit(&self.me, self.cluster(), &frame.header) {
                Ok(()) => {
                    self.peers.heard(from, now.monotonic);
                    self.message(now, turn, from, message);
                }
                Err(reason) => self.drop_message(reason),
            }
        }
    }

    /// Takes a message that this node sent to itself.
    pub(crate) fn message(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        let to = match &message {
            Message::Write { .. } | Message::Read { .. } => To::Replica,
            Message::WriteReply { tag, .. } if Reads::owns(*tag) => To::Reads,
            Message::WriteReply { tag, .. } if Hints::owns(*tag) => To::Hints,
            Message::WriteReply { .. } => To::Writes,
            Message::ReadReply { tag, .. } if !Reads::owns(*tag) => To::Writes,
            Message::ReadReply { .. } | Message::DigestReply { .. } => To::Reads,
            Message::RepairAsk { .. } | Message::RepairAnswer { .. } => To::Repairs,
            Message::Forward { .. } | Message::ForwardUpdate { .. } => return self.forwarded(now, turn, from, message),
            Message::Forwarded { .. } => To::Forwards,
            Message::CreateTable { .. }
            | Message::TableCreated { .. }
            | Message::CatalogPush { .. }
            | Message::CatalogHave { .. } => To::Schema,
            Message::Ping { .. }
            | Message::PingRequest { .. }
            | Message::Ack { .. }
            | Message::Nack { .. }
            | Message::News { .. }
            | Message::Exchange { .. } => To::Gossip,
            Message::Hello { .. } | Message::HelloReply { .. } | Message::Unwelcome { .. } | Message::Found(_) => {
                return self.drop_message(DropReason::Premature);
            }
        };
        self.handle(to, now, turn, Event::Message { from, message });
    }

    /// A write that a peer passed on.
    fn forwarded(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        if self.standing != Standing::Serving {
            return self.drop_message(DropReason::Premature);
        }
        let mut actions = Vec::new();
        let environment =
            environment(&self.me, self.standing, self.catalog.as_ref(), (&self.peers, &self.caches), now, turn);
        let is_new = self.forwards.take(&environment, from, &message, &mut actions);
        self.carry_out(now, turn, actions);
        let (tag, time_left, write) = match message {
            Message::Forward { tag, time_left, put, .. } => (tag, time_left, Write::Put(put)),
            Message::ForwardUpdate { tag, time_left, modify, .. } => (tag, time_left, Write::Modify(modify)),
            _ => return,
        };
        if is_new {
            let origin = Origin::Peer { node: from, tag };
            let deadline = now.monotonic.saturating_add(time_left);
            if self.holds(write.key()) {
                let request = Request::Write(write);
                self.handle(To::Writes, now, turn, Event::Request { origin, deadline, request });
            } else {
                self.settle(turn, origin, Outcome::Put(Err(WriteError::UnknownTable)));
            }
        }
    }

    /// Takes a request of a client.
    pub(crate) fn request(&mut self, now: Now, turn: &mut Turn<'_>, client: u64, deadline: Millis, request: Request) {
        let origin = Origin::Client(client);
        match (self.standing, &request) {
            (_, Request::Bootstrap { .. }) => {
                self.handle(To::Membership, now, turn, Event::Request { origin, deadline, request });
            }
            (Standing::Serving, _) if self.requests() >= self.settings.requests_max => {
                self.settle(turn, origin, request.overloaded());
            }
            (Standing::Serving, _) => self.serve(now, turn, Waiting { origin, deadline, request }),
            (Standing::Unfounded | Standing::Confirming, _) if self.waiting.len() < self.settings.requests_max => {
                self.waiting.push_back(Waiting { origin, deadline, request });
            }
            _ => self.settle(turn, origin, request.not_serving(self.standing)),
        }
    }

    fn serve(&mut self, now: Now, turn: &mut Turn<'_>, Waiting { origin, deadline, request }: Waiting) {
        let to = match &request {
            Request::Write(write) if self.holds(write.key()) => To::Writes,
            Request::Write(_) => To::Forwards,
            Request::Get(_) => To::Reads,
            Request::CreateTable { .. } => To::Schema,
            Request::Bootstrap { .. } => To::Membership,
            Request::Repair(_) => To::Repairs,
        };
        self.handle(to, now, turn, Event::Request { origin, deadline, request });
    }

    /// Tells the machines the time.
    pub(crate) fn deadline(&mut self, now: Now, turn: &mut Turn<'_>) {
        self.caches.tick(now);
        for peer in std::mem::take(&mut self.unreachable) {
            self.handle(To::Reads, now, turn, Event::Unreachable(peer));
        }
        for (to, at) in self.deadlines() {
            if at.is_some_and(|at| at <= now.monotonic) {
                self.handle(to, now, turn, Event::Deadline);
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        for request in waiting {
            if self.standing == Standing::Serving {
                self.serve(now, turn, request);
            } else if request.deadline <= now.monotonic
                || matches!(self.standing, Standing::Quarantined | Standing::Halted)
            {
                self.settle(turn, request.origin, request.request.not_serving(self.standing));
            } else {
                self.waiting.push_back(request);
            }
        }
    }

    /// When [`NodeCore::deadline`] should be called next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        if !self.unreachable.is_empty() || (self.standing == Standing::Serving && !self.waiting.is_empty()) {
            return Some(Millis::ZERO);
        }
        let machines = self.deadlines().into_iter().filter_map(|(_, at)| at);
        let sweep = self.caches.next_sweep();
        machines.chain(self.waiting.iter().map(|waiting| waiting.deadline)).chain(sweep).min()
    }

    fn deadlines(&self) -> [(To, Option<Millis>); 8] {
        [
            (To::Membership, self.membership.next_deadline()),
            (To::Gossip, self.gossip.next_deadline()),
            (To::Schema, self.schema.next_deadline()),
            (To::Writes, self.writes.next_deadline()),
            (To::Reads, self.reads.next_deadline()),
            (To::Forwards, self.forwards.next_deadline()),
            (To::Repairs, self.repairs.next_deadline()),
            (To::Hints, self.hints.next_deadline()),
        ]
    }

    fn handle(&mut self, to: To, now: Now, turn: &mut Turn<'_>, event: Event) {
        let mut actions = Vec::new();
        self.caches.tick(now);
        let environment =
            environment(&self.me, self.standing, self.catalog.as_ref(), (&self.peers, &self.caches), now, turn);
        let machine: &mut dyn Machine = match to {
            To::Membership => &mut self.membership,
            To::Gossip => &mut self.gossip,
            To::Schema => &mut self.schema,
            To::Writes => &mut self.writes,
            To::Reads => &mut self.reads,
            To::Forwards => &mut self.forwards,
            To::Replica => &mut self.replica,
            To::Repairs => &mut self.repairs,
            To::Hints => &mut self.hints,
        };
        machine.handle(&environment, event, &mut actions);
        self.carry_out(now, turn, actions);
    }

    fn carry_out(&mut self, now: Now, turn: &mut Turn<'_>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Store { stripe, batch } => {
                    self.repairs.touch(&batch);
                    turn.store(stripe, &batch);
                }
                Action::Cache { key, change } => self.caches.join(&key, &change, self.me.actor()),
                Action::Send { to, message, release } => turn.outputs.push(Output::Send { to, message, release }),
                Action::Reply { origin: Origin::Client(client), outcome, release } => {
                    turn.outputs.push(Output::Reply { client, outcome, release });
                }
                Action::Reply { origin, outcome, .. } => self.settle(turn, origin, outcome),
                Action::Notify(notice) => self.hear(now, turn, notice),
            }
        }
    }

    /// Tells the hints what others have found out, if that is what it is about.
    fn hear(&mut self, now: Now, turn: &mut Turn<'_>, notice: Notice) {
        let mut actions = Vec::new();
        let environment =
            environment(&self.me, self.standing, self.catalog.as_ref(), (&self.peers, &self.caches), now, turn);
        match notice {
            Notice::Missed { target, key, change } => {
                self.hints.missed(&environment, target, &key, &change, &mut actions);
            }
            Notice::Caught { target, key, change } => {
                self.hints.caught(&environment, target, &key, &change, &mut actions);
            }
            Notice::Compared { peer, place, ticket } => self.hints.compared(peer, place, ticket, &mut actions),
            notice => return self.notice(now, notice),
        }
        self.carry_out(now, turn, actions);
    }

    /// Gives an outcome to whoever waits for it.
    fn settle(&mut self, turn: &mut Turn<'_>, origin: Origin, outcome: Outcome) {
        match (origin, outcome) {
            (Origin::Client(client), outcome) => {
                turn.outputs.push(Output::Reply { client, outcome, release: crate::machine::Release::Now });
            }
            (Origin::Peer { node, tag }, Outcome::Put(outcome)) => {
                let mut actions = Vec::new();
                self.forwards.settle(node, tag, outcome, &mut actions);
                for action in actions {
                    if let Action::Send { to, message, release } = action {
                        turn.outputs.push(Output::Send { to, message, release });
                    }
                }
            }
            (Origin::Peer { .. }, _) => unreachable!("peers pass on nothing but writes through here"),
        }
    }

    fn notice(&mut self, now: Now, notice: Notice) {
        match notice {
            Notice::Founded(founding) => {
                let catalog = Catalog::new(*founding);
                self.peers_changed |= self.peers.learn(&catalog.peers(), self.me.node);
                self.catalog = Some(catalog);
                self.standing = Standing::Confirming;
            }
            Notice::TableAdded(table) => {
                hold(&mut self.caches, &table, &self.me);
                self.catalog.as_mut().expect("tables are added to a cluster").add(table);
                self.repairs.look_again();
            }
            Notice::Peers(infos) => self.peers_changed |= self.peers.learn(&infos, self.me.node),
            Notice::Dropped(reason) => self.drop_message(reason),
            Notice::Met { peer, life } => self.peers.meet(peer, life),
            Notice::Greeted(peer) => {
                self.peers.greeted(peer);
                self.peers.heard(peer, now.monotonic);
                self.hints.greeted(peer, now.monotonic);
                self.repairs.greeted(peer, now.monotonic);
            }
            Notice::Silent(peer) => {
                self.peers.silent(peer);
                self.unreachable.push(peer);
            }
            Notice::Liveness(change) => {
                self.peers.believe(change.peer, change.after);
                if change.after == Liveness::Dead {
                    self.peers.silent(change.peer);
                    self.unreachable.push(change.peer);
                }
                self.changes.push(change);
            }
            Notice::Confirmed => self.standing = Standing::Serving,
            Notice::Quarantined => {
                self.me.quarantined = true;
                self.standing = Standing::Quarantined;
            }
            Notice::ActorEpoch(epoch) => self.me.epoch = epoch,
            Notice::CacheFull(table) => self.caches.count_refused(table),
            Notice::Observed(stamp) => self.writes.minter().observe(stamp, now),
            Notice::Owed { peer, place, ticket } => self.repairs.owe(now.monotonic, peer, place, ticket),
            Notice::Missed { .. } | Notice::Caught { .. } | Notice::Compared { .. } => {
                unreachable!("hints were told of it")
            }
        }
    }

    const fn drop_message(&mut self, reason: DropReason) {
        self.dropped.count(reason);
    }

    /// Whether this node is a replica of a key.
    fn holds(&self, key: &kv_core::key::RecordKey) -> bool {
        let table = self.catalog.as_ref().and_then(|catalog| catalog.table(key.table()));
        table.is_some_and(|table| table.replicas_of(key.token()).contains(&self.me.node))
    }

    /// The cluster, or [`ClusterId::NONE`].
    pub(crate) fn cluster(&self) -> ClusterId {
        self.catalog.as_ref().map_or(ClusterId::NONE, |catalog| catalog.founding().cluster)
    }

    pub(crate) const fn me(&self) -> &Identity {
        &self.me
    }

    pub(crate) const fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    /// What is held of cache tables.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn caches(&self) -> &Caches {
        &self.caches
    }

    /// What is wrong with a hash that is taken for right, between two turns.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check_trees(&self, store: &dyn View) -> Option<String> {
        self.repairs.check(store, self.cluster())
    }

    /// What is wrong with what is believed of hints, between two turns.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check_hints(&self, store: &dyn View) -> Option<String> {
        self.hints.check(self.catalog.as_ref(), store)
    }

    /// What is kept for others.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn hints(&mut self) -> &mut Hints {
        &mut self.hints
    }

    /// Nothing that this node keeps of a place for others was born before: see [`Hints::oldest_birth`].
    pub(crate) fn oldest_hint(&self, place: Place) -> Option<Stamp> {
        self.hints.oldest_birth(place)
    }

    pub(crate) const fn standing(&self) -> Standing {
        self.standing
    }

    /// Notes whether the transport took the last frame to a peer.
    pub(crate) fn sent(&mut self, to: NodeId, taken: bool) {
        if self.peers.taken(to, taken) {
            self.unreachable.push(to);
        }
    }

    /// The peers, when they have changed since the last call.
    pub(crate) fn take_changed_peers(&mut self) -> Option<Vec<PeerInfo>> {
        std::mem::take(&mut self.peers_changed).then(|| self.peers.infos())
    }

    /// What this node has changed its mind about since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<LivenessChange> {
        std::mem::take(&mut self.changes)
    }

    /// The header of frames to a peer.
    pub(crate) fn header_to(&self, to: NodeId) -> wire::Header {
        self.peers.header_to(&self.me, self.cluster(), to)
    }

    /// The store did not take what a turn decided. Dots of that turn may have been seen by others, or will be: their actor
    /// is not used again.
    pub(crate) fn store_failed(&mut self, now: Now, refused: &Batch) {
        self.repairs.forget();
        for (peer, place, ticket) in self.hints.store_failed(now.monotonic, self.catalog.as_ref(), refused) {
            self.repairs.owe(now.monotonic, peer, place, ticket);
        }
        self.writes.store_failed(self.me.node);
        self.me.epoch += 1;
        self.writes.minter().store_failed();
    }

    /// The store will never take anything again in this life.
    pub(crate) const fn halt(&mut self) {
        self.standing = Standing::Halted;
    }

    fn requests(&self) -> usize {
        self.writes.len() + self.reads.len() + self.forwards.len() + self.waiting.len()
    }

    pub(crate) fn status(&self, now: Now) -> Status {
        let peer = |node| {
            let belief = self.gossip.belief(node, now.monotonic).unwrap_or_default();
            PeerStatus {
                node,
                reachable: self.peers.is_reachable(node),
                boot: self.peers.life(node).map_or(crate::identity::Boot(0), |life| life.boot),
                liveness: belief.liveness,
                refutations: belief.claim.refutations,
                latency: belief.latency.map(|(usual, _)| usual),
                latency_deviation: belief.latency.map(|(_, deviation)| deviation),
                phi: belief.phi,
            }
        };
        Status {
            node: self.me.node,
            incarnation: self.me.incarnation,
            boot: self.me.boot,
            cluster: self.cluster(),
            standing: self.standing,
            patience: self.gossip.health_multiplier(),
            peers: self.peers.nodes().map(peer).collect(),
            tables: self.catalog.iter().flat_map(Catalog::tables).map(|table| table.name.clone()).collect(),
            dropped: self.dropped,
            requests: self.requests(),
            extra: self.reads.extra() + self.writes.extra() + self.forwards.extra(),
            repair: self.repairs.status(),
            caches: self.caches.status(),
            hints: self.hints.status(),
        }
    }
}

/// Makes room for a cache table, if this node holds a part of it.
fn hold(caches: &mut Caches, table: &TableSchema, me: &Identity) {
    if table.layout.partitions_of(me.node).next().is_some() {
        caches.add(table, me.nonce);
    }
}

fn environment<'a>(
    me: &'a Identity,
    standing: Standing,
    catalog: Option<&'a Catalog>,
    (peers, caches): (&'a Peers, &'a Caches),
    now: Now,
    turn: &'a Turn<'_>,
) -> Environment<'a> {
    Environment { now, view: turn, me, standing, catalog, peers, caches }
}
