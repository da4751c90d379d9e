//! The connections this node makes: one to each peer, kept up, and written to once a round.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kv_core::NodeId;
use mio::Token;

use super::backoff::Backoff;
use super::connection::{Connection, Progress, Written};
use super::outbound::SendBuffer;
use super::resolve::{LookupId, Resolver};
use super::shared::{Round, Shared};
use super::timers::Timer;

/// Most bytes offered to one socket in a round, so that a peer with a long queue does not delay the others.
const WRITE_BYTES_PER_ROUND: usize = 1 << 20;

/// A connection that lasted this long was a good one: the waits before dialing start again from the least, and the peer's
/// next dial is no answer to ours.
const STEADY: Duration = Duration::from_secs(1);

/// The dialing side.
pub(super) struct Links {
    links: BTreeMap<NodeId, Link>,
    nodes: BTreeMap<Token, NodeId>,
    next_token: usize,
    resolver: Resolver,
    /// Peers whose buffer was not written to its end though their socket may take more.
    unfinished: Vec<NodeId>,
    /// Memory of the list of a round.
    dirty: Vec<NodeId>,
}

struct Link {
    address: String,
    phase: Phase,
    backoff: Backoff,
    /// Addresses of the name that were not tried since it was looked up.
    untried: Vec<SocketAddr>,
    /// What has been taken from the queue, and how many bytes of it are written.
    writing: SendBuffer,
    written: usize,
    was_open: bool,
}

enum Phase {
    /// Until the timer fires.
    Waiting {
        dial_at: Instant,
    },
    Resolving(LookupId),
    /// Being made, or open since then.
    Connected {
        connection: Connection,
        open_since: Option<Instant>,
        blocked: Blocked,
    },
}

/// Whether the socket is full.
#[derive(Copy, Clone, Default)]
struct Blocked {
    since: Option<Instant>,
    timer_is_set: bool,
}

impl Links {
    /// Links get odd tokens from 3 up.
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
            next_token: 3,
            resolver: Resolver::new(shared.signal.clone()),
            unfinished: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Whether the next round should not wait.
    pub(super) const fn has_work(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Follows the peers: dials the new, closes the gone, dials anew whose address has changed.
    pub(super) fn follow_peers(&mut self, round: &mut Round<'_>) {
        let Some(peers) = round.shared.outbound.take_changed_peers() else { return };
        let gone: Vec<NodeId> = self.links.keys().filter(|node| !peers.contains_key(node)).copied().collect();
        for node in gone {
            self.drop_connection(node, round);
            self.links.remove(&node);
        }
        for (node, address) in peers {
            match self.links.get_mut(&node) {
                Some(link) if link.address == address => continue,
                Some(link) => {
                    link.address = address;
                    link.untried.clear();
                    link.backoff.reset();
                    self.drop_connection(node, round);
                    round.shared.outbound.broken(node);
                }
                None => {
                    let link = Link::new(address, round, node);
                    self.links.insert(node, link);
                }
            }
            self.dial(node, round);
        }
    }

    /// `node` has just connected to us, so it is up: no need to wait before dialing it. If there is an older connection to
    /// it, the node may have vanished and come back without a word of it, so that one is made anew. (What the kernel has
    /// of a healthy connection still arrives. The node will not answer in kind, for its own is new.)
    pub(super) fn on_sign_of_life(&mut self, node: NodeId, round: &mut Round<'_>) {
        match self.links.get(&node).map(|link| &link.phase) {
            Some(Phase::Waiting { .. }) => self.dial(node, round),
            Some(Phase::Connected { open_since: Some(since), .. }) if round.now.duration_since(*since) >= STEADY => {
                self.drop_connection(node, round);
                round.shared.outbound.broken(node);
                self.dial(node, round);
            }
            _ => {}
        }
    }

    /// A socket has become readable, writable, or has failed.
    pub(super) fn on_event(&mut self, token: Token, is_writable: bool, round: &mut Round<'_>) {
        let Some(&node) = self.nodes.get(&token) else { return };
        let link = self.links.get_mut(&node).expect("a token belongs to a link");
        let Phase::Connected { connection, blocked, .. } = &mut link.phase else {
            unreachable!("a token belongs to a connection")
        };
        let was_open = connection.is_open();
        let mut progress = connection.advance(round.shared.node, node, round.scratch);
        if !was_open && progress == Progress::Pending {
            // It may have been connected just now, and the peer's preamble may be there already.
            progress = connection.advance(round.shared.node, node, round.scratch);
        }
        match progress {
            Progress::Pending if was_open && is_writable => {
                blocked.since = None;
                self.unfinished.push(node);
            }
            Progress::Pending => {}
            Progress::Opened => self.opened(node, round),
            Progress::Refused => {
                round.shared.counters.refused_preambles.increment();
                self.broken(node, round);
            }
            Progress::Unexpected => {
                round.shared.counters.bad_frames.increment();
                self.broken(node, round);
            }
            Progress::Broken => self.broken(node, round),
        }
    }

    /// The time to dial has come.
    pub(super) fn on_dial_timer(&mut self, node: NodeId, round: &mut Round<'_>) {
        let is_due = |link: &Link| matches!(link.phase, Phase::Waiting { dial_at } if dial_at <= round.now);
        if self.links.get(&node).is_some_and(is_due) {
            self.dial(node, round);
        }
    }

    /// The time for connecting and the peer's preamble is over.
    pub(super) fn on_greeting_timeout(&mut self, token: Token, round: &mut Round<'_>) {
        let Some(&node) = self.nodes.get(&token) else { return };
        if !self.links[&node].is_open() {
            self.broken(node, round);
        }
    }

    /// A socket was full some time ago.
    pub(super) fn on_stall_timer(&mut self, token: Token, round: &mut Round<'_>) {
        let Some(&node) = self.nodes.get(&token) else { return };
        let Some(Link { phase: Phase::Connected { blocked, .. }, .. }) = self.links.get_mut(&node) else { return };
        blocked.timer_is_set = false;
        let Some(since) = blocked.since else { return };
        let give_up_at = since + round.shared.options.stall_timeout;
        if give_up_at <= round.now {
            round.shared.counters.stalled.increment();
            self.broken(node, round);
        } else {
            blocked.timer_is_set = true;
            round.timers.set(give_up_at, Timer::Stalled(token));
        }
    }

    /// Goes on with the peers whose names have been looked up.
    pub(super) fn follow_lookups(&mut self, round: &mut Round<'_>) {
        for (id, addresses) in self.resolver.take_answers() {
            let asked = |link: &Link| matches!(link.phase, Phase::Resolving(lookup) if lookup == id);
            let Some((&node, link)) = self.links.iter_mut().find(|(_, link)| asked(link)) else { continue };
            link.untried = addresses;
            // Tried from the back.
            link.untried.reverse();
            self.dial_next(node, round);
        }
    }

    /// Writes what the turn has queued: once for each peer.
    pub(super) fn flush(&mut self, round: &mut Round<'_>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        round.shared.outbound.take_dirty(&mut dirty);
        dirty.append(&mut self.unfinished);
        dirty.sort_unstable();
        dirty.dedup();
        for node in dirty.drain(..) {
            self.flush_peer(node, round);
        }
        self.dirty = dirty;
    }

    fn flush_peer(&mut self, node: NodeId, round: &mut Round<'_>) {
        let Some(link) = self.links.get_mut(&node) else { return };
        match link.write_share(node, round) {
            WriteStop::Done => {}
            WriteStop::More => self.unfinished.push(node),
            WriteStop::Broken => self.broken(node, round),
        }
    }

    fn dial(&mut self, node: NodeId, round: &mut Round<'_>) {
        let link = self.links.get_mut(&node).expect("only known peers are dialed");
        if let Ok(address) = link.address.parse() {
            link.untried = vec![address];
            self.dial_next(node, round);
        } else if let Some(lookup) = self.resolver.start(&link.address) {
            link.phase = Phase::Resolving(lookup);
        } else {
            self.failed(node, round);
        }
    }

    /// Dials the next address that was not tried.
    fn dial_next(&mut self, node: NodeId, round: &mut Round<'_>) {
        let link = self.links.get_mut(&node).expect("only known peers are dialed");
        while let Some(address) = link.untried.pop() {
            let token = Token(self.next_token);
            if let Ok(connection) = Connection::dial(address, token, round.registry) {
                self.next_token += 2;
                self.nodes.insert(token, node);
                link.phase = Phase::Connected { connection, open_since: None, blocked: Blocked::default() };
                round.timers.set(round.now + round.shared.options.greeting_timeout, Timer::Greeting(token));
                return;
            }
        }
        self.failed(node, round);
    }

    fn opened(&mut self, node: NodeId, round: &Round<'_>) {
        let link = self.links.get_mut(&node).expect("an open link is known");
        let Phase::Connected { open_since, .. } = &mut link.phase else { unreachable!("what opened is connected") };
        *open_since = Some(round.now);
        link.untried.clear();
        let counters = &round.shared.counters;
        counters.connects.increment();
        if std::mem::replace(&mut link.was_open, true) {
            counters.reconnects.increment();
        }
        round.shared.outbound.opened(node);
        self.unfinished.push(node);
    }

    /// The connection was not made or is over: tries the next address, or waits before dialing again.
    fn broken(&mut self, node: NodeId, round: &mut Round<'_>) {
        let link = &self.links[&node];
        let open_since = match link.phase {
            Phase::Connected { open_since, .. } => open_since,
            Phase::Waiting { .. } | Phase::Resolving(_) => unreachable!("only a connection breaks"),
        };
        self.drop_connection(node, round);
        let Some(open_since) = open_since else { return self.dial_next(node, round) };
        round.shared.outbound.broken(node);
        let link = self.links.get_mut(&node).expect("seen above");
        if round.now.duration_since(open_since) >= STEADY {
            link.backoff.reset();
        }
        link.wait(node, round);
    }

    fn failed(&mut self, node: NodeId, round: &mut Round<'_>) {
        let counters = &round.shared.counters;
        counters.dial_failures.increment();
        counters.frames_dropped.add(round.shared.outbound.failed(node));
        self.links.get_mut(&node).expect("only known peers are dialed").wait(node, round);
    }

    /// Closes the socket, if there is one, and drops what was being written: the peer has seen a part of it, and sending
    /// it again could deliver a frame twice.
    fn drop_connection(&mut self, node: NodeId, round: &Round<'_>) {
        let link = self.links.get_mut(&node).expect("only known peers have connections");
        if let Phase::Connected { connection, .. } = &link.phase {
            self.nodes.remove(&connection.token());
        }
        link.phase = Phase::Waiting { dial_at: round.now };
        round.shared.counters.frames_dropped.add(link.writing.frames);
        link.writing.clear();
        link.written = 0;
    }
}

/// Why writing to a peer stopped.
enum WriteStop {
    /// All is written, or the socket is full.
    Done,
    /// The round's share is used up, or more has been queued meanwhile.
    More,
    Broken,
}

impl Link {
    fn new(address: String, round: &Round<'_>, node: NodeId) -> Self {
        let options = &round.shared.options;
        // Differs from node to node and from peer to peer, and is the same in every run.
        let seed = round.shared.node.0.rotate_left(32) ^ node.0;
        Self {
            address,
            phase: Phase::Waiting { dial_at: round.now },
            backoff: Backoff::new(options.redial_wait, options.redial_wait_max, seed),
            untried: Vec::new(),
            writing: SendBuffer::default(),
            written: 0,
            was_open: false,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Connected { open_since: Some(_), .. })
    }

    fn wait(&mut self, node: NodeId, round: &mut Round<'_>) {
        let dial_at = round.now + self.backoff.next_wait();
        self.phase = Phase::Waiting { dial_at };
        round.timers.set(dial_at, Timer::Dial(node));
    }

    /// Writes the rest of what was taken before, or else what has been queued since.
    fn write_share(&mut self, node: NodeId, round: &mut Round<'_>) -> WriteStop {
        let Phase::Connected { connection, open_since: Some(_), blocked } = &mut self.phase else {
            // What is queued waits for the connection.
            return WriteStop::Done;
        };
        if blocked.since.is_some() {
            // An event tells when trying again is worth a system call.
            return WriteStop::Done;
        }
        let Shared { outbound, counters, options, .. } = round.shared;
        if self.writing.bytes.is_empty() {
            outbound.take_pending(node, &mut self.writing);
        }
        let mut share = WRITE_BYTES_PER_ROUND;
        while self.written < self.writing.bytes.len() {
            if share == 0 {
                return WriteStop::More;
            }
            let rest = &self.writing.bytes[self.written..];
            match connection.write(&rest[..rest.len().min(share)]) {
                Written::Bytes(bytes) => {
                    counters.writes.increment();
                    counters.bytes_out.add(bytes);
                    self.written += bytes;
                    share -= bytes;
                }
                Written::Blocked => {
                    blocked.since = Some(round.now);
                    if !std::mem::replace(&mut blocked.timer_is_set, true) {
                        round.timers.set(round.now + options.stall_timeout, Timer::Stalled(connection.token()));
                    }
                    return WriteStop::Done;
                }
                Written::Broken => return WriteStop::Broken,
            }
        }
        counters.frames_out.add(self.writing.frames);
        self.writing.clear();
        self.written = 0;
        if outbound.written(node) { WriteStop::More } else { WriteStop::Done }
    }
}
