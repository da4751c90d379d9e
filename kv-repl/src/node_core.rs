//! The node without its surroundings: routes events to machines and actions to where they belong.
//!
//! Feed it frames, requests and the time within a [`Turn`]; then carry out the turn; then ask when it wants to be called
//! again. Machines never call each other: whatever one has to say to another goes through here.

mod floors;
mod status;
mod together;

use std::collections::VecDeque;

use bytes::Bytes;
use kv_core::store::{Batch, StoreError};
use kv_core::time::{Millis, Now};
use kv_core::{NodeId, View};

use crate::admission::{Admission, Limits};
use crate::config::Settings;
use crate::coordinator::describe::Describes;
use crate::coordinator::forward::Forwards;
use crate::coordinator::read::Reads;
use crate::coordinator::scan::Scans;
use crate::coordinator::write::Writes;
use crate::floors::Floors;
use crate::gossip::Gossip;
use crate::hints::Hints;
use crate::identity::Identity;
use crate::machine::{Action, Event, Machine, Notice, Origin, Outcome, Release, Request, Stripe};
use crate::membership::Membership;
use crate::message::Message;
use crate::mint::Minter;
use crate::peers::DropReason;
use crate::remembered::{Remembered, RestoreError};
use crate::repair::Repairs;
use crate::replica::Replica;
use crate::request::{Write, WriteError};
use crate::schema::Schema;
use crate::shared::Shared;
use crate::status::Standing;
use crate::trace;
use crate::transport::{Lane, PeerInfo};
use crate::turn::{Output, Turn};
use crate::wire;

/// All machines of a node, and what they share.
pub(crate) struct NodeCore {
    pub(crate) shared: Shared,
    membership: Membership,
    gossip: Gossip,
    schema: Schema,
    writes: Writes,
    reads: Reads,
    forwards: Forwards,
    scans: Scans,
    describes: Describes,
    replica: Replica,
    repairs: Repairs,
    hints: Hints,
    admission: Admission,
    /// Requests that came before the node could serve.
    waiting: VecDeque<Waiting>,
    /// Empty: where the next event's actions go.
    actions: Vec<Action>,
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
    Scans,
    Describes,
}

impl NodeCore {
    /// The node as its earlier lives left it in `view`.
    pub(crate) fn restore(
        settings: Settings,
        me: Identity,
        seeds: &[PeerInfo],
        view: &dyn View,
        batch: &mut Batch,
    ) -> Result<Self, RestoreError> {
        let Remembered { mark, catalog, mut peers, imported, owed, floors } = Remembered::read(&me, view)?;
        peers.learn(seeds, me.node);
        let hints = Hints::restore(&settings, &me, catalog.as_ref(), owed, view)?;
        let mut repairs = Repairs::new(&settings, &me);
        repairs.restore(&me, view, batch)?;
        hints.owed().for_each(|(peer, place, ticket)| repairs.owe(Millis::ZERO, peer, place, ticket));
        let floors = Floors::restore(floors, settings.purge_after.is_some());
        let shared = Shared::restore(me, catalog, peers, imported, floors, settings.clock_drift_max);
        repairs.import(Millis::ZERO, &shared.imports);
        Ok(Self {
            membership: Membership::new(&settings),
            gossip: Gossip::new(&me, settings.gossip_every),
            schema: Schema::new(&settings, me.boot),
            writes: Writes::new(&settings, me.boot, Minter::new(&settings, mark, &me)),
            reads: Reads::new(&settings, me.boot),
            forwards: Forwards::new(&settings, me.boot),
            scans: Scans::new(&settings, me.boot),
            describes: Describes::new(&settings, me.boot),
            replica: Replica::new(&settings),
            repairs,
            hints,
            admission: Admission::new(Limits::of(&settings)),
            waiting: VecDeque::new(),
            actions: Vec::new(),
            shared,
        })
    }

    /// The life before has ended without order. What it coordinated may have been missed by others, and it did not come to note that:
    /// all that this node shares with them is owed a comparison. What makes that durable is added to `batch`.
    pub(crate) fn forgot(&mut self, batch: &mut Batch) {
        let Shared { me, catalog, .. } = &self.shared;
        self.hints.owe_everything(me.node, catalog.as_ref(), batch);
        self.hints.owed().for_each(|(peer, place, ticket)| self.repairs.owe(Millis::ZERO, peer, place, ticket));
    }

    /// Takes a frame that the transport says comes from `from`.
    pub(crate) fn frame(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, lane: Lane, bytes: &Bytes) {
        self.shared.traffic.received.frame(lane, bytes.len());
        let frame = match wire::decode(bytes) {
            Ok(frame) if frame.header.from == from => frame,
            Ok(_) => return self.shared.drop_message(DropReason::Impostor),
            Err(_) => return self.shared.drop_message(DropReason::Malformed),
        };
        self.shared.dropped.unknown_kind += frame.unknown as u64;
        for message in frame.messages {
            self.shared.traffic.received.message(&message);
            if message.is_introduction() {
                let introduction = || Event::Introduction { header: frame.header, message: message.clone() };
                self.handle(To::Membership, now, turn, introduction());
                // Who knows how many tables is part of a greeting.
                if self.shared.admit(&frame.header).is_ok() {
                    self.handle(To::Schema, now, turn, introduction());
                }
                continue;
            }
            match self.shared.admit(&frame.header) {
                Ok(()) => {
                    self.shared.peers.heard(from, now.monotonic);
                    self.message(now, turn, from, message);
                }
                Err(reason) => self.shared.drop_message(reason),
            }
        }
    }

    /// Takes a message that this node sent to itself.
    pub(crate) fn message(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        let to = match &message {
            Message::Write { .. } | Message::Read { .. } => To::Replica,
            Message::WriteReply { tag, .. } if Reads::owns(*tag) => To::Reads,
            Message::WriteReply { tag, .. } if Hints::owns(*tag) => To::Hints,
            Message::Keep { .. } => To::Hints,
            Message::WriteReply { .. } | Message::Kept { .. } => To::Writes,
            Message::ReadReply { tag, .. } if !Reads::owns(*tag) => To::Writes,
            Message::ReadReply { .. } | Message::DigestReply { .. } => To::Reads,
            Message::RepairAsk { .. } | Message::RepairAnswer { .. } | Message::FloorTold { .. } => To::Repairs,
            Message::FloorAsk { .. } => return self.floor_asked(now, turn, from, &message),
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
            Message::Describe { .. } => return self.look(now, turn, from, message),
            Message::Described { .. } => To::Describes,
            Message::Scan { .. } => To::Replica,
            Message::Listed { .. } => To::Scans,
            Message::Together(_) => return self.together(now, turn, from, message),
            // What it has told itself is durable now.
            Message::Found(_) if from == self.shared.me.node => To::Membership,
            Message::Hello { .. }
            | Message::HelloReply { .. }
            | Message::Unwelcome { .. }
            | Message::Found(_)
            | Message::Replace { .. } => {
                return self.shared.drop_message(DropReason::Premature);
            }
        };
        self.handle(to, now, turn, Event::Message { from, message });
    }

    /// A write that a peer passed on.
    fn forwarded(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        if self.shared.standing != Standing::Serving {
            return self.shared.drop_message(DropReason::Premature);
        }
        let mut actions = Vec::new();
        let environment = self.shared.environment(now, turn);
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
            if self.shared.lacks(write.key()) {
                return self.settle(turn, origin, Outcome::Put(Err(WriteError::Importing)));
            }
            if !self.shared.holds(write.key()) {
                return self.settle(turn, origin, Outcome::Put(Err(WriteError::UnknownTable)));
            }
            let request = Request::Write(write);
            match self.admission.admit(origin, request.bytes()) {
                Ok(()) => self.handle(To::Writes, now, turn, Event::Request { origin, deadline, request }),
                Err(retry_after) => self.settle(turn, origin, request.overloaded(retry_after)),
            }
        }
    }

    /// Takes a request of a client.
    pub(crate) fn request(&mut self, now: Now, turn: &mut Turn<'_>, client: u64, deadline: Millis, request: Request) {
        let origin = Origin::Client(client);
        match (self.shared.standing, &request) {
            (_, Request::Bootstrap { .. } | Request::Replace) => {
                self.handle(To::Membership, now, turn, Event::Request { origin, deadline, request });
            }
            (Standing::Quarantined | Standing::Halted, _) => {
                self.settle(turn, origin, request.not_serving(self.shared.standing));
            }
            (Standing::Serving | Standing::Unfounded | Standing::Confirming, _) => {
                if let Err(retry_after) = self.admission.admit(origin, request.bytes()) {
                    return self.settle(turn, origin, request.overloaded(retry_after));
                }
                let request = Waiting { origin, deadline, request };
                match self.shared.standing {
                    Standing::Serving => self.serve(now, turn, request),
                    _ => self.waiting.push_back(request),
                }
            }
        }
    }

    fn serve(&mut self, now: Now, turn: &mut Turn<'_>, Waiting { origin, deadline, request }: Waiting) {
        let to = match &request {
            Request::Write(write) if self.shared.holds(write.key()) => To::Writes,
            Request::Write(_) => To::Forwards,
            Request::Get(_) => To::Reads,
            Request::CreateTable { .. } => To::Schema,
            Request::Bootstrap { .. } | Request::Replace => To::Membership,
            Request::Repair(_) => To::Repairs,
            Request::Describe(_) => To::Describes,
            Request::Scan(_) => To::Scans,
        };
        self.handle(to, now, turn, Event::Request { origin, deadline, request });
    }

    /// Tells the machines the time.
    pub(crate) fn deadline(&mut self, now: Now, turn: &mut Turn<'_>) {
        self.shared.caches.tick(now);
        for peer in self.shared.take_unreachable() {
            for to in [To::Reads, To::Scans, To::Describes] {
                self.handle(to, now, turn, Event::Unreachable(peer));
            }
        }
        for (to, at) in self.deadlines() {
            if at.is_some_and(|at| at <= now.monotonic) {
                self.handle(to, now, turn, Event::Deadline);
            }
        }
        if let Some(notes) = self.repairs.note(now.monotonic) {
            turn.store(Stripe::HINTS, &notes);
        }
        let waiting = std::mem::take(&mut self.waiting);
        for request in waiting {
            if self.shared.standing == Standing::Serving {
                self.serve(now, turn, request);
            } else if request.deadline <= now.monotonic
                || matches!(self.shared.standing, Standing::Quarantined | Standing::Halted)
            {
                self.settle(turn, request.origin, request.request.not_serving(self.shared.standing));
            } else {
                self.waiting.push_back(request);
            }
        }
    }

    /// When [`NodeCore::deadline`] should be called next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        if self.shared.has_lost_peers() || (self.shared.standing == Standing::Serving && !self.waiting.is_empty()) {
            return Some(Millis::ZERO);
        }
        let machines = self.deadlines().into_iter().filter_map(|(_, at)| at);
        let sweep = self.shared.caches.next_sweep();
        machines.chain(self.waiting.iter().map(|waiting| waiting.deadline)).chain(sweep).min()
    }

    fn deadlines(&self) -> [(To, Option<Millis>); 10] {
        [
            (To::Membership, self.membership.next_deadline()),
            (To::Gossip, self.gossip.next_deadline()),
            (To::Schema, self.schema.next_deadline()),
            (To::Writes, self.writes.next_deadline()),
            (To::Reads, self.reads.next_deadline()),
            (To::Forwards, self.forwards.next_deadline()),
            (To::Repairs, self.repairs.next_deadline()),
            (To::Hints, self.hints.next_deadline()),
            (To::Scans, self.scans.next_deadline()),
            (To::Describes, self.describes.next_deadline()),
        ]
    }

    fn handle(&mut self, to: To, now: Now, turn: &mut Turn<'_>, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.shared.caches.tick(now);
        let environment = self.shared.environment(now, turn);
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
            To::Scans => &mut self.scans,
            To::Describes => &mut self.describes,
        };
        machine.handle(&environment, event, &mut actions);
        self.carry_out(now, turn, actions);
    }

    fn carry_out(&mut self, now: Now, turn: &mut Turn<'_>, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            match action {
                Action::Store { stripe, batch } => {
                    let marks = self.repairs.touch(&batch);
                    turn.store(stripe, &batch);
                    if !marks.is_empty() {
                        turn.store(stripe, &marks);
                    }
                }
                Action::Cache { key, change } => self.shared.caches.join(&key, &change, self.shared.me.actor()),
                Action::Send { to, message, release } => turn.outputs.push(Output::Send { to, message, release }),
                Action::Reply { origin: origin @ Origin::Client(client), outcome, release } => {
                    self.admission.end(origin);
                    turn.outputs.push(Output::Reply { client, outcome, release });
                }
                Action::Reply { origin: Origin::Scan { tag, position }, outcome: Outcome::Get(outcome), .. } => {
                    self.handle(To::Scans, now, turn, Event::ReadEnded { tag, position, outcome });
                }
                Action::Read { tag, position, deadline, get } => {
                    let (origin, request) = (Origin::Scan { tag, position }, Request::Get(get));
                    self.handle(To::Reads, now, turn, Event::Request { origin, deadline, request });
                }
                Action::Reply { origin, outcome, .. } => self.settle(turn, origin, outcome),
                Action::Notify(notice) => self.hear(now, turn, notice),
            }
        }
        // An event within this event has left a smaller one, or none.
        self.actions = actions;
    }

    /// Tells what one machine has found out to those that it concerns, and to what all of them share.
    fn hear(&mut self, now: Now, turn: &mut Turn<'_>, notice: Notice) {
        trace::notice(self.shared.me.node, &notice);
        if let Notice::Observed(stamp) = notice {
            // One for each record that passes, and nobody else's business.
            return self.writes.minter().observe(stamp, now);
        }
        let mut actions = Vec::new();
        let environment = self.shared.environment(now, turn);
        match &notice {
            Notice::Missed { target, key, change } => {
                self.hints.missed(&environment, *target, key, change, &mut actions);
            }
            Notice::Caught { target, key, change } => {
                self.hints.caught(&environment, *target, key, change, &mut actions);
            }
            Notice::Compared { peer, place, ticket } => {
                self.hints.compared(*peer, *place, *ticket, &mut actions);
                let Shared { me, catalog, imports, .. } = &mut self.shared;
                let imported = imports.compared(me.node, catalog.as_ref(), *peer, *place);
                actions.extend(imported.map(|batch| Action::Store { stripe: Stripe::META, batch }));
            }
            Notice::Owed { peer, place, ticket } => self.repairs.owe(now.monotonic, *peer, *place, *ticket),
            Notice::Moot { peer, place } => self.repairs.moot(*peer, *place),
            Notice::TableAdded(_) => self.repairs.look_again(),
            Notice::Shed => self.admission.refused(),
            Notice::Greeted(peer) => {
                self.hints.greeted(*peer, now.monotonic);
                self.repairs.greeted(*peer, now.monotonic);
            }
            _ => {}
        }
        self.after(now, notice);
        self.carry_out(now, turn, actions);
    }

    /// Has what all machines share take note, and tells those machines that look at it then.
    fn after(&mut self, now: Now, notice: Notice) {
        let (is_founding, is_refounding) =
            (matches!(notice, Notice::Founded(_)), matches!(notice, Notice::Refounded(_)));
        let is_table = matches!(notice, Notice::TableAdded(_));
        self.shared.hear(now, notice);
        let Shared { me, catalog, imports, .. } = &self.shared;
        if is_founding {
            self.gossip.begin_again(me);
        }
        if let Some(catalog) = catalog.as_ref().filter(|_| is_refounding) {
            let members = &catalog.founding().members;
            self.gossip.replaced(members.iter().map(|member| (member.member.node, member.incarnation)));
        }
        if is_table {
            self.repairs.import(now.monotonic, imports);
        }
    }

    /// Gives an outcome to whoever waits for it.
    fn settle(&mut self, turn: &mut Turn<'_>, origin: Origin, outcome: Outcome) {
        self.admission.end(origin);
        match (origin, outcome) {
            (Origin::Client(client), outcome) => {
                turn.outputs.push(Output::Reply { client, outcome, release: Release::Now });
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
            (Origin::Peer { .. } | Origin::Scan { .. }, _) => {
                unreachable!("peers pass on nothing but writes through here, and scans nothing")
            }
        }
    }

    /// The store did not take what a turn decided. Dots of that turn may have been seen by others, or will be: their actor
    /// is not used again.
    pub(crate) fn store_failed(&mut self, now: Now, refused: &Batch, view: &dyn View) -> Result<(), StoreError> {
        self.shared.floors.store_failed(refused, view)?;
        self.repairs.refused(refused);
        let known = (self.shared.me.node, self.shared.catalog.as_ref());
        for (peer, place, ticket) in self.hints.store_failed(now.monotonic, known, refused) {
            self.repairs.owe(now.monotonic, peer, place, ticket);
        }
        self.writes.store_failed(self.shared.me.node);
        self.shared.me.epoch += 1;
        self.writes.minter().store_failed();
        Ok(())
    }

    /// The store will never take anything again in this life.
    pub(crate) fn halt(&mut self) {
        if self.shared.standing != Standing::Halted {
            trace::halted(self.shared.me.node);
        }
        self.shared.standing = Standing::Halted;
    }

    /// What the last batch of a life says besides that nothing was forgotten.
    pub(crate) fn finish(&mut self, batch: &mut Batch) {
        self.repairs.note_everything(batch);
        self.shared.me.save(true, batch);
    }

    /// So many bytes of answers wait for the disk.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.shared.overload = self.admission.hold(bytes);
    }
}
