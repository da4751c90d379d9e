//! Introductions: who is here, in which life, and is it who it was.
//!
//! 1. A node greets every peer it knows when it starts and until it serves, and then some of them at a time, in turn: so it
//!    costs the same in a large cluster as in a small one. The greeting names its cluster, storage and life.
//! 2. Whoever is greeted checks that against what it durably remembers: the storage must be the member's, and the life not
//!    older than the last one met. Then it remembers the life, durably, and replies. Otherwise it says so, and a node that
//!    hears so is quarantined for good: its disk was replaced or went back in time (rule P1).
//! 3. A node serves when a majority of the members, itself included, has confirmed it (rule P11).
//! 4. A member that has not heard of the founding is told (rule P2 and [`founding`]); so is one that has not heard of a storage
//!    that was replaced ([`replacing`]).
//!
//! A peer is reachable when it answered, has not been silent for long, and its transport takes frames. Whether others believe
//! it to be up is the business of [`crate::gossip`].

mod founding;
mod replacing;

pub(crate) use self::founding::FOUNDING_KEY;

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::store::Batch;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use self::founding::Bootstrap;
use self::replacing::Replacing;
use crate::catalog::Founding;
use crate::config::Settings;
use crate::identity::ClusterId;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request, Stripe};
use crate::message::{Message, Unwelcome};
use crate::peers::{DropReason, Life, Peers};
use crate::quorum::majority;
use crate::request::ClusterError;
use crate::status::Standing;
use crate::storages::tell;
use crate::transport::PeerInfo;
use crate::wire::Header;

/// How many nodes a node listens to before it belongs to a cluster.
const STRANGERS_MAX: usize = 10_000;
/// How many peers a node that serves greets at a time.
const GREETED_MAX: usize = 16;
/// How many greetings a peer may leave unanswered before it counts as unreachable.
const SILENT_GREETINGS: u64 = 3;

/// The machine of introductions.
#[derive(Debug)]
pub(crate) struct Membership {
    hello_every: Millis,
    next_hello: Millis,
    /// Who is next to be greeted, as a place among the peers.
    turn: usize,
    /// Which members have confirmed this life.
    confirmed: BTreeSet<NodeId>,
    /// What nodes said of themselves: their storage and cluster.
    heard: BTreeMap<NodeId, (Incarnation, ClusterId)>,
    bootstrap: Option<Bootstrap>,
    /// Whoever waits for this node's new storage to be taken for its own.
    replacing: Option<Replacing>,
    /// The latest at which members took this node's storage for its own, while it had not stored that.
    generation: u64,
    /// The most tables that a member has said to know.
    tables: u32,
}

impl Membership {
    /// A machine that greets at once.
    pub(crate) const fn new(settings: &Settings) -> Self {
        Self {
            hello_every: settings.hello_every,
            next_hello: Millis::ZERO,
            turn: 0,
            confirmed: BTreeSet::new(),
            heard: BTreeMap::new(),
            bootstrap: None,
            replacing: None,
            generation: 0,
            tables: 0,
        }
    }

    fn greet(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        self.next_hello = env.now.monotonic.saturating_add(self.hello_every);
        let peers: Vec<NodeId> = env.peers.nodes().collect();
        let rounds = peers.len().div_ceil(GREETED_MAX) as u64;
        let silence = Millis(self.hello_every.0.saturating_mul(SILENT_GREETINGS * rounds));
        let silent = peers.iter().copied().filter(|node| {
            env.peers.is_reachable(*node) && env.peers.heard_at(*node).saturating_add(silence) < env.now.monotonic
        });
        out.extend(silent.map(|node| Action::Notify(Notice::Silent(node))));
        let everybody = env.standing != Standing::Serving || self.bootstrap.is_some() || sabotaged!(GreetEverybody);
        let greeted = if everybody { peers.len() } else { peers.len().min(GREETED_MAX) };
        let in_turn = peers.iter().cycle().skip(self.turn).take(greeted);
        out.extend(in_turn.map(|to| self.greeting(env, *to)));
        self.turn = (self.turn + greeted) % peers.len().max(1);
        self.ask_to_replace(env, out);
    }

    fn greeting(&self, env: &Environment<'_>, to: NodeId) -> Action {
        let listed = env.catalog.and_then(|catalog| catalog.founding().member(env.me.node)).map(|me| &me.member);
        let me = listed.or_else(|| self.bootstrap.as_ref()?.members.iter().find(|member| member.node == env.me.node));
        let message = Message::Hello {
            nonce: env.me.nonce,
            catalog_version: env.catalog.map_or(0, crate::catalog::Catalog::version),
            address: me.map(|me| me.address.clone()).unwrap_or_default(),
        };
        Action::Send { to, message, release: Release::Durable(Stripe::META) }
    }

    fn introduced(&mut self, env: &Environment<'_>, header: &Header, message: Message, out: &mut Vec<Action>) {
        let cluster = env.catalog.map_or(ClusterId::NONE, |catalog| catalog.founding().cluster);
        let same = header.cluster == cluster || sabotaged!(IgnoreClusterId);
        if !same && header.cluster != ClusterId::NONE && cluster != ClusterId::NONE {
            out.push(dropped(DropReason::OtherCluster));
            return;
        }
        match message {
            Message::Hello { nonce, address, .. } => {
                // Somebody this node was told nothing of can be answered only where they say they are.
                let unfounded = env.catalog.is_none() && self.heard.len() < STRANGERS_MAX;
                if unfounded && !address.is_empty() && !env.peers.has_address(header.from) {
                    out.push(Action::Notify(Notice::Peers(vec![PeerInfo { node: header.from, address }])));
                }
                self.hello(env, header, nonce, same, out);
            }
            // The nonce of this life can only be known from its own hello.
            Message::HelloReply { nonce, own_nonce, catalog_version } if nonce == env.me.nonce => {
                self.tables = self.tables.max(catalog_version);
                self.hello_reply(env, header, own_nonce, out);
            }
            Message::Unwelcome { nonce, reason } if nonce == env.me.nonce => {
                self.unwelcome(env, header, reason, out);
            }
            Message::Found(founding) => self.found(env, header, &founding, out),
            Message::Replace { nonce } => replacing::replace(env, header, nonce, out),
            _ => out.push(dropped(DropReason::OtherBoot)),
        }
    }

    /// Notes what a node says of itself. Strangers are bounded in number: anybody may claim any name.
    fn hear(&mut self, env: &Environment<'_>, header: &Header) {
        let known = env.catalog.is_some_and(|catalog| catalog.founding().member(header.from).is_some());
        if known || (env.catalog.is_none() && self.heard.len() < STRANGERS_MAX) || self.heard.contains_key(&header.from)
        {
            self.heard.insert(header.from, (header.from_incarnation, header.cluster));
        }
    }

    fn hello(&mut self, env: &Environment<'_>, header: &Header, nonce: u64, same: bool, out: &mut Vec<Action>) {
        if matches!(env.standing, Standing::Quarantined | Standing::Halted) {
            // Nobody is confirmed by a node whose own storage is in doubt.
            return;
        }
        let life = Life { incarnation: header.from_incarnation, boot: header.from_boot, nonce };
        if is_outdated(env, header.from, life) {
            return out.push(dropped(DropReason::OtherBoot));
        }
        self.hear(env, header);
        match examine(env, header.from, life) {
            Err(reason) => {
                let message = Message::Unwelcome { nonce, reason };
                out.push(Action::Send { to: header.from, message, release: Release::Now });
                // Which of the two has missed that a storage was replaced, they will see.
                if let Some(catalog) = env.catalog.filter(|_| same && reason == Unwelcome::OtherIncarnation) {
                    out.push(tell(catalog.founding(), header.from));
                }
            }
            Ok(()) => {
                let first_met = env.peers.life(header.from) != Some(life);
                meet(env, header.from, life, out);
                let message = Message::HelloReply {
                    nonce,
                    own_nonce: env.me.nonce,
                    catalog_version: env.catalog.map_or(0, crate::catalog::Catalog::version),
                };
                out.push(Action::Send { to: header.from, message, release: Release::Durable(Stripe::META) });
                tell_founding(env, header, out);
                // Once for each life: two nodes that greet back each time would never stop.
                if first_met {
                    out.push(self.greeting(env, header.from));
                }
            }
        }
    }

    fn hello_reply(&mut self, env: &Environment<'_>, header: &Header, own_nonce: u64, out: &mut Vec<Action>) {
        let life = Life { incarnation: header.from_incarnation, boot: header.from_boot, nonce: own_nonce };
        if is_outdated(env, header.from, life) {
            return out.push(dropped(DropReason::OtherBoot));
        }
        self.hear(env, header);
        if examine(env, header.from, life).is_err() {
            out.push(dropped(DropReason::OtherIncarnation));
            return;
        }
        meet(env, header.from, life, out);
        tell_founding(env, header, out);
        if env.catalog.is_some_and(|catalog| catalog.founding().cluster == header.cluster) {
            out.push(Action::Notify(Notice::Greeted(header.from)));
            self.confirmed.insert(header.from);
            self.confirm(env, out);
        }
        self.advance_bootstrap(env, out);
    }

    /// Serves once a majority of the members knows this life.
    fn confirm(&self, env: &Environment<'_>, out: &mut Vec<Action>) {
        if let (Some(catalog), Standing::Confirming) = (env.catalog, env.standing) {
            let members = catalog.founding().members.len();
            if self.confirmed.len() + 1 >= majority(members) || sabotaged!(ServeUnconfirmed) {
                out.push(Action::Notify(Notice::Confirmed));
            }
        }
    }

    fn unwelcome(&mut self, env: &Environment<'_>, header: &Header, reason: Unwelcome, out: &mut Vec<Action>) {
        self.hear(env, header);
        self.advance_bootstrap(env, out);
        if let Some(catalog) = env.catalog.filter(|_| reason == Unwelcome::OtherIncarnation) {
            // It may be the other one that has missed something. If not, it will say what, and that decides.
            return out.push(tell(catalog.founding(), header.from));
        }
        let by_member = env.catalog.is_none_or(|catalog| catalog.founding().member(header.from).is_some());
        // An empty storage that is to replace one is unwelcome until it has.
        let waits = env.catalog.is_none() && self.replacing.is_some();
        if by_member && !waits && reason != Unwelcome::Stranger && header.cluster != ClusterId::NONE {
            let mut batch = Batch::new();
            env.me.quarantined().save(false, &mut batch);
            out.push(Action::Store { stripe: Stripe::META, batch });
            out.push(Action::Notify(Notice::Quarantined));
        }
    }
}

impl Machine for Membership {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Introduction { header, message } => self.introduced(env, &header, message, out),
            Event::Request { origin, deadline, request: Request::Bootstrap { members, cluster, partitions } } => {
                self.begin_bootstrap(env, Bootstrap { origin, deadline, members, cluster, partitions }, out);
            }
            Event::Request { origin, deadline, request: Request::Replace } => {
                self.begin_replace(env, origin, deadline, out);
            }
            Event::Deadline => {
                if self.next_hello <= env.now.monotonic {
                    self.greet(env, out);
                    self.confirm(env, out);
                }
                self.advance_bootstrap(env, out);
                self.advance_replace(env, out);
            }
            Event::Message { from, message: Message::Found(founding) } if from == env.me.node => {
                self.took_place(env, founding, out);
            }
            Event::Message { .. } | Event::Request { .. } | Event::ReadEnded { .. } | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        let bootstrap = self.bootstrap.as_ref().map(|bootstrap| bootstrap.deadline);
        let replacing = self.replacing.as_ref().map(|replacing| replacing.deadline);
        [bootstrap, replacing].into_iter().flatten().chain([self.next_hello]).min()
    }
}

const fn reply(origin: Origin, outcome: Result<(), ClusterError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Bootstrap(outcome), release: Release::Durable(Stripe::META) }
}

const fn dropped(reason: DropReason) -> Action {
    Action::Notify(Notice::Dropped(reason))
}

/// Whether a node has said it before its storage took the place of another one, which gave its life another number.
fn is_outdated(env: &Environment<'_>, from: NodeId, life: Life) -> bool {
    env.peers.life(from).is_some_and(|known| {
        (known.incarnation, known.nonce) == (life.incarnation, life.nonce) && life.boot < known.boot
    })
}

/// Whether a node is who it says it is. Before the founding there is nothing to hold it against.
fn examine(env: &Environment<'_>, from: NodeId, life: Life) -> Result<(), Unwelcome> {
    let Some(catalog) = env.catalog else { return Ok(()) };
    let member = catalog.founding().member(from).ok_or(Unwelcome::Stranger)?;
    if member.incarnation != life.incarnation && !sabotaged!(IgnoreIncarnation) {
        return Err(Unwelcome::OtherIncarnation);
    }
    match env.peers.life(from).filter(|known| known.incarnation == life.incarnation) {
        Some(_) if sabotaged!(IgnoreBoot) => {}
        Some(known) if life.boot < known.boot || (life.boot == known.boot && life.nonce != known.nonce) => {
            return Err(Unwelcome::RolledBack);
        }
        _ => {}
    }
    Ok(())
}

/// Remembers the life a peer is in; durably, when it is a member.
fn meet(env: &Environment<'_>, peer: NodeId, life: Life, out: &mut Vec<Action>) {
    let room = env.catalog.is_some() || env.peers.nodes().count() < STRANGERS_MAX;
    if env.peers.life(peer) != Some(life) && room {
        if env.catalog.is_some() {
            let mut batch = Batch::new();
            Peers::save(peer, life, &mut batch);
            out.push(Action::Store { stripe: Stripe::META, batch });
        }
        out.push(Action::Notify(Notice::Met { peer, life }));
    }
}

/// A listed member that belongs to no cluster yet has missed the founding.
fn tell_founding(env: &Environment<'_>, header: &Header, out: &mut Vec<Action>) {
    if let Some(catalog) = env.catalog
        && header.cluster == ClusterId::NONE
    {
        let message = Message::Found(Box::new(Founding::clone(catalog.founding())));
        out.push(Action::Send { to: header.from, message, release: Release::Durable(Stripe::META) });
    }
}
