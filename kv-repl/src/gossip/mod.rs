//! Who is up: every node asks others at random, tells what it finds out, and believes what it hears later.
//!
//! 1. Once in a period a node asks another one whether it lives ([`probe`]). Without an answer it asks through others; without
//!    an answer from these either it suspects it, unless it has reason to doubt itself ([`health`]).
//! 2. A suspicion is told, confirmed by others who find the same, and ends in death when its time is over ([`suspicion`]). Who
//!    hears that it is suspected contradicts with a later claim. It hears so from everybody who talks to it.
//! 3. What is new travels with the questions and answers, and for a short while by itself to a few more nodes, each rumour a
//!    bounded number of times ([`rumours`]). So a period costs a node the same however many there are.
//! 4. When it joins, and from time to time, a node exchanges all it believes with somebody, sometimes with one who is believed
//!    to be dead: so two halves of a network find each other again. A death that is heard of in an exchange is taken for a
//!    suspicion, for it may be old.
//!
//! What is believed decides whom a coordinator asks first. It never decides who owns what (lesson 11).
//!
//! Sources: SWIM (see [`crate::liveness`]), Lifeguard (see [`health`]); the exchanges and the news between the questions are
//! those of HashiCorp's memberlist.

mod beliefs;
mod health;
mod members;
mod pace;
mod probe;
mod rhythm;
mod rumours;
mod suspicion;

use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

pub(crate) use self::beliefs::Belief;

use self::beliefs::{Beliefs, Source};
use self::health::Health;
use self::members::Member;
use self::pace::{EXCHANGED_MAX, HELPERS, NEWS_FANOUT, Pace};
use self::probe::{Probe, Relays, Round, Verdict};
use crate::identity::{Boot, Identity};
use crate::liveness::{Claim, Liveness, Rumour};
use crate::machine::{Action, Environment, Event, Machine, Notice, Release};
use crate::message::Message;
use crate::peers::DropReason;
use crate::stats::Histogram;
use crate::status::Standing;

/// The machine of failure detection.
#[derive(Debug)]
pub(crate) struct Gossip {
    period: Millis,
    pace: Pace,
    random: fastrand::Rng,
    beliefs: Beliefs,
    health: Health,
    round: Round,
    probe: Option<Probe>,
    relays: Relays,
    last_sequence: u64,
    /// When anybody was last heard of.
    heard_at: Millis,
    /// The node serves, and asks others.
    begun: bool,
    /// Somebody has answered with all it believes.
    joined: bool,
    next_probe: Millis,
    next_news: Option<Millis>,
    next_exchange: Millis,
    next_reunion: Millis,
    /// How long those took to answer that were asked directly.
    round_trips: Histogram,
}

impl Gossip {
    /// A machine that knows of nobody yet. It is seeded by the life's nonce.
    pub(crate) fn new(me: &Identity, period: Millis) -> Self {
        Self {
            period,
            pace: Pace::new(period, 1),
            random: fastrand::Rng::with_seed(me.nonce),
            beliefs: Beliefs::new(me),
            health: Health::default(),
            round: Round::default(),
            probe: None,
            relays: Relays::default(),
            last_sequence: 0,
            heard_at: Millis::ZERO,
            begun: false,
            joined: false,
            next_probe: Millis::ZERO,
            next_news: None,
            next_exchange: Millis::ZERO,
            next_reunion: Millis::ZERO,
            round_trips: Histogram::default(),
        }
    }

    /// Names the members of the cluster, this node among them or not.
    pub(crate) fn know(&mut self, members: impl Iterator<Item = (NodeId, Incarnation)>) {
        self.beliefs.know(members);
        self.pace = Pace::new(self.period, self.beliefs.members.nodes());
    }

    /// This node has become a member, and its life may have got another number.
    pub(crate) fn begin_again(&mut self, me: &Identity) {
        *self = Self { round_trips: std::mem::take(&mut self.round_trips), ..Self::new(me, self.period) };
    }

    /// Members may have other storages than before: nothing is known of these.
    pub(crate) fn replaced(&mut self, members: impl Iterator<Item = (NodeId, Incarnation)>) {
        members.for_each(|(node, incarnation)| self.beliefs.members.replaced(node, incarnation));
    }

    /// Begins to ask, after a part of a period that differs from node to node.
    pub(crate) fn begin(&mut self, now: Millis) {
        let mut within = |span: Millis| now.saturating_add(Millis(self.random.u64(1..=span.0.max(1))));
        self.next_probe = within(self.pace.period()).saturating_add(self.pace.period());
        self.next_exchange = within(self.pace.period());
        self.next_reunion = within(self.pace.reunion());
        self.heard_at = now;
        self.begun = true;
        self.plan_news(now);
    }

    /// What is believed of a peer, if it is a member.
    pub(crate) fn belief(&self, peer: NodeId, now: Millis) -> Option<Belief> {
        self.beliefs.of(peer, now)
    }

    /// How many times as long as usual this node waits for others, because of its own state.
    pub(crate) fn health_multiplier(&self) -> u64 {
        self.health.multiplier()
    }

    /// The latest claim of this node.
    pub(crate) const fn claim(&self) -> Claim {
        self.beliefs.claim()
    }

    /// How long peers took to answer.
    pub(crate) const fn round_trips(&self) -> &Histogram {
        &self.round_trips
    }

    /// How many rumours are being told.
    pub(crate) fn telling(&self) -> usize {
        self.beliefs.telling()
    }

    // ---- what comes in ----

    /// Takes a message from a member that is in its life `boot`.
    pub(crate) fn receive(&mut self, now: Millis, from: NodeId, boot: Boot, message: Message, out: &mut Vec<Action>) {
        let Some(member) = self.beliefs.members.get_mut(from) else {
            return out.push(Action::Notify(Notice::Dropped(DropReason::Stranger)));
        };
        if matches!(message, Message::Ping { .. } | Message::PingRequest { .. } | Message::Ack { .. }) {
            member.rhythm.heard(now);
        }
        self.heard_at = now;
        let before = self.beliefs.claim();
        self.beliefs.met(now, from, boot, out);
        match message {
            Message::Ping { sequence, rumours } => {
                self.hear(now, rumours, Source::News, out);
                let rumours = self.beliefs.rumours_for(from, &self.pace);
                send(from, Message::Ack { sequence, rumours }, out);
            }
            Message::PingRequest { sequence, target, rumours } => {
                self.hear(now, rumours, Source::News, out);
                self.help(now, from, sequence, target, out);
            }
            Message::Ack { sequence, rumours } => {
                self.hear(now, rumours, Source::News, out);
                self.acknowledged(now, from, sequence, out);
            }
            Message::Nack { sequence } => {
                if let Some(probe) = self.probe.as_mut().filter(|probe| probe.sequence == sequence) {
                    probe.nack(from);
                }
            }
            Message::News { rumours } => self.hear(now, rumours, Source::News, out),
            Message::Exchange { asks, rumours } => {
                self.hear(now, rumours, Source::Exchange, out);
                if asks {
                    self.exchange(from, false, out);
                } else {
                    self.joined = true;
                }
            }
            _ => unreachable!("the router sends gossip here"),
        }
        if self.beliefs.claim() > before {
            // Whoever is suspected may have answered too late.
            self.health.worse(1);
        }
        self.plan_news(now);
    }

    fn hear(&mut self, now: Millis, rumours: Vec<Rumour>, source: Source, out: &mut Vec<Action>) {
        for rumour in rumours {
            self.beliefs.hear(now, rumour, source, out);
        }
    }

    fn acknowledged(&mut self, now: Millis, from: NodeId, sequence: u64, out: &mut Vec<Action>) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.sequence == sequence) {
            let was_answered = probe.is_answered();
            let span = probe.answered(now, from);
            if !was_answered && probe.is_answered() {
                self.health.better();
            }
            if let (Some(span), Some(member)) = (span, self.beliefs.members.get_mut(from)) {
                member.rhythm.answered_after(span);
                self.round_trips.record_time(span.as_duration());
            }
        } else if let Some(relay) = self.relays.answered(from, sequence) {
            let rumours = self.beliefs.rumours_for(relay.asker, &self.pace);
            send(relay.asker, Message::Ack { sequence: relay.sequence, rumours }, out);
        }
    }

    /// Asks `target` for `asker`.
    fn help(&mut self, now: Millis, asker: NodeId, sequence: u64, target: NodeId, out: &mut Vec<Action>) {
        if self.beliefs.members.get(target).is_none() {
            return out.push(Action::Notify(Notice::Dropped(DropReason::Stranger)));
        }
        let number = self.next_sequence();
        let (nack_at, forget_at) = (self.pace.helper(), self.pace.period());
        let (nack_at, forget_at) = (now.saturating_add(nack_at), now.saturating_add(forget_at));
        if self.relays.begin(number, asker, sequence, target, nack_at, forget_at) {
            let rumours = self.beliefs.rumours_for(target, &self.pace);
            send(target, Message::Ping { sequence: number, rumours }, out);
        }
    }

    // ---- what is due ----

    /// Does what is due. Only once [`Gossip::begin`] was called.
    pub(crate) fn due(&mut self, now: Millis, out: &mut Vec<Action>) {
        for relay in self.relays.overdue(now) {
            send(relay.asker, Message::Nack { sequence: relay.sequence }, out);
        }
        self.advance_probe(now, out);
        for node in self.beliefs.members.overdue(now, &self.pace) {
            self.beliefs.find(now, node, Liveness::Dead, out);
        }
        if self.probe.is_none() && self.next_probe <= now {
            self.begin_probe(now, out);
        }
        if self.next_news.is_some_and(|at| at <= now) {
            self.next_news = None;
            let fits = |member: &Member| member.liveness != Liveness::Dead;
            for to in self.beliefs.members.choose(&mut self.random, NEWS_FANOUT, fits) {
                if self.beliefs.telling() > 0 {
                    let rumours = self.beliefs.rumours_for(to, &self.pace);
                    send(to, Message::News { rumours }, out);
                }
            }
        }
        if self.next_exchange <= now {
            // Until somebody has answered, this node may know nothing of what happened before it came.
            let wait = if self.joined { self.pace.exchange() } else { self.pace.period() };
            self.next_exchange = now.saturating_add(wait);
            self.exchange_with(Liveness::Alive, out);
        }
        if self.next_reunion <= now {
            self.next_reunion = now.saturating_add(self.pace.reunion());
            if !sabotaged!(ForgetTheDead) {
                self.exchange_with(Liveness::Dead, out);
            }
        }
        self.plan_news(now);
    }

    fn begin_probe(&mut self, now: Millis, out: &mut Vec<Action>) {
        let whole = Millis(self.pace.period().0 * self.health.multiplier());
        self.next_probe = now.saturating_add(whole);
        let members = &self.beliefs.members;
        let all = || members.all().iter().map(|member| member.node).collect();
        let fits = |node| members.get(node).is_some_and(|member| member.liveness != Liveness::Dead);
        let Some(target) = self.round.next(&mut self.random, all, fits) else { return };
        let claim = members.get(target).expect("members are asked").claim;
        let sequence = self.next_sequence();
        let direct = Millis(self.pace.direct().0 * self.health.multiplier());
        self.probe = Some(Probe::new(now, target, claim, sequence, direct, whole));
        let rumours = self.beliefs.rumours_for(target, &self.pace);
        send(target, Message::Ping { sequence, rumours }, out);
    }

    fn advance_probe(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(probe) = &mut self.probe else { return };
        let target = probe.target;
        if probe.needs_help(now) {
            let fits = |member: &Member| member.liveness == Liveness::Alive && member.node != target;
            let count = if sabotaged!(NoIndirectProbes) { 0 } else { HELPERS };
            let helpers = self.beliefs.members.choose(&mut self.random, count, fits);
            probe.helped_by(&helpers);
            let sequence = probe.sequence;
            for helper in helpers {
                let rumours = self.beliefs.rumours_for(helper, &self.pace);
                send(helper, Message::PingRequest { sequence, target, rumours }, out);
            }
        }
        let Some(probe) = self.probe.take_if(|probe| probe.until <= now) else { return };
        let is_cut_off = self.heard_at.saturating_add(self.pace.cut_off()) <= now;
        match probe.verdict(is_cut_off) {
            Verdict::Answered => {}
            Verdict::Unheard { missing } => self.health.worse(missing),
            Verdict::Silent { missing } => {
                self.health.worse(missing);
                // Who has made a later claim since lives, though the question went to an earlier life.
                let same = self.beliefs.members.get(target).is_some_and(|member| member.claim == probe.claim);
                if same || sabotaged!(BlameTheNextLife) {
                    self.beliefs.find(now, target, Liveness::Suspect, out);
                }
            }
        }
    }

    fn exchange_with(&mut self, liveness: Liveness, out: &mut Vec<Action>) {
        for to in self.beliefs.members.choose(&mut self.random, 1, |member| member.liveness == liveness) {
            self.exchange(to, true, out);
        }
    }

    /// Sends all that is believed.
    fn exchange(&self, to: NodeId, asks: bool, out: &mut Vec<Action>) {
        for (at, part) in self.beliefs.all().chunks(EXCHANGED_MAX).enumerate() {
            // One answer is enough.
            send(to, Message::Exchange { asks: asks && at == 0, rumours: part.to_vec() }, out);
        }
    }

    fn plan_news(&mut self, now: Millis) {
        if self.next_news.is_none() && self.beliefs.telling() > 0 {
            self.next_news = Some(now.saturating_add(self.pace.news()));
        }
    }

    const fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    /// When [`Gossip::due`] is to be called next.
    pub(crate) fn next_due(&self) -> Millis {
        let probe = self.probe.as_ref().map_or(self.next_probe, Probe::next_deadline);
        let reunion = if self.beliefs.members.has_dead() { self.next_reunion } else { Millis::MAX };
        let fixed = [probe, self.next_exchange, reunion];
        let others = [self.next_news, self.relays.next_deadline(), self.beliefs.members.next_deadline(&self.pace)];
        fixed.into_iter().chain(others.into_iter().flatten()).min().expect("there are three at least")
    }
}

impl Machine for Gossip {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        if self.beliefs.members.all().is_empty()
            && let Some(catalog) = env.catalog
        {
            let members = &catalog.founding().members;
            self.know(members.iter().map(|member| (member.member.node, member.incarnation)));
        }
        match event {
            // Who serves nobody is not to be taken for a node that does.
            Event::Message { from, message }
                if matches!(env.standing, Standing::Confirming | Standing::Serving) && from != env.me.node =>
            {
                let boot = env.peers.life(from).map_or(Boot(0), |life| life.boot);
                self.receive(now, from, boot, message, out);
            }
            Event::Deadline if env.standing != Standing::Serving => {
                self.begun = false;
                self.next_probe = now.saturating_add(self.period);
            }
            Event::Deadline if !self.begun => self.begin(now),
            Event::Deadline => self.due(now, out),
            Event::Message { .. }
            | Event::Request { .. }
            | Event::Introduction { .. }
            | Event::ReadEnded { .. }
            | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        Some(if self.begun { self.next_due() } else { self.next_probe })
    }
}

fn send(to: NodeId, message: Message, out: &mut Vec<Action>) {
    out.push(Action::Send { to, message, release: Release::Now });
}
