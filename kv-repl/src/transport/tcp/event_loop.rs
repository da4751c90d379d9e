//! The loop: one thread that waits, reads, runs the node's turn, and writes.

use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_core::NodeId;
use mio::net::TcpListener;
use mio::{Events, Poll, Registry, Token};

use super::guests::Guests;
use super::links::Links;
use super::shared::{Round, Shared};
use super::timers::{Timer, Timers};
use crate::transport::{Inbound, Turn};

/// The listener's token; accepted connections have the other even ones.
const LISTENER: Token = Token(0);
/// The waker's token; dialed connections have the other odd ones.
pub(super) const WAKER: Token = Token(1);

/// One read's worth. Small enough to stay in the processor's cache until it is decoded.
const SCRATCH_BYTES: usize = 64 << 10;

const EVENTS_PER_ROUND: usize = 256;

/// All that the loop's thread owns.
pub(super) struct EventLoop {
    poll: Poll,
    events: Events,
    /// The last look at the sockets may not have seen all of them.
    more_events: bool,
    /// When the node wants its next turn even if nothing arrives.
    turn_at: Option<Instant>,
    shared: Arc<Shared>,
    guests: Guests,
    links: Links,
    timers: Timers,
    scratch: Box<[u8]>,
    greeted: Vec<NodeId>,
}

impl EventLoop {
    pub(super) fn new(poll: Poll, listener: TcpListener, shared: Arc<Shared>) -> io::Result<Self> {
        Ok(Self {
            events: Events::with_capacity(EVENTS_PER_ROUND),
            more_events: false,
            // The first turn lets the node begin.
            turn_at: Some(Instant::now()),
            guests: Guests::new(listener, poll.registry(), LISTENER)?,
            links: Links::new(&shared),
            timers: Timers::default(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            greeted: Vec::new(),
            poll,
            shared,
        })
    }

    /// Runs until the node or the transport stops. The sockets are closed before it returns.
    pub(super) fn run(mut self, inbound: &dyn Inbound) {
        while self.round(None, inbound).is_continue() {}
    }

    /// Waits until there is something to do, no longer than `longest`, and does it. Breaks when the node or the transport has
    /// stopped.
    pub(super) fn round(&mut self, longest: Option<Duration>, inbound: &dyn Inbound) -> ControlFlow<()> {
        let patience = [self.patience(), longest].into_iter().flatten().min();
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, patience) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => panic!("waiting for sockets must work: {error}"),
        }
        // With as many as there is room for, there may be more, of which nobody is told again.
        self.more_events = events.iter().count() >= EVENTS_PER_ROUND;
        let went = self.go_on(&events, inbound);
        self.events = events;
        went
    }

    /// A round that does not look at the sockets: for whoever knows that they have nothing new.
    pub(super) fn round_without_sockets(&mut self, inbound: &dyn Inbound) -> ControlFlow<()> {
        self.go_on(&Events::with_capacity(0), inbound)
    }

    fn go_on(&mut self, events: &Events, inbound: &dyn Inbound) -> ControlFlow<()> {
        self.shared.signal.lower();
        if self.shared.signal.is_stop_asked() {
            return Break(());
        }
        let now = Instant::now();
        let frames = self.receive(events, now, inbound);
        let asked = self.shared.signal.take_turn();
        let after = if frames > 0 || asked || self.turn_at.is_some_and(|at| at <= now) {
            self.shared.counters.turns.increment();
            let Turn::Wait(longest) = inbound.turn() else { return Break(()) };
            if self.shared.signal.is_stop_asked() {
                // The node detached in its turn, which interrupts no wait.
                return Break(());
            }
            let after = Instant::now();
            self.turn_at = longest.and_then(|longest| after.checked_add(longest));
            after
        } else {
            now
        };
        let (links, mut round) = self.links_and_round(after);
        links.follow_peers(&mut round);
        links.flush(&mut round);
        Continue(())
    }

    /// How long the loop may wait for sockets before there is something to do.
    pub(super) fn patience(&self) -> Option<Duration> {
        let has_work = self.more_events || self.guests.has_work() || self.links.has_work();
        if has_work || self.shared.signal.is_turn_asked() {
            return Some(Duration::ZERO);
        }
        let next_at = [self.turn_at, self.timers.next_at()].into_iter().flatten().min()?;
        Some(next_at.saturating_duration_since(Instant::now()))
    }

    /// What its sockets wait with.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn receive(&mut self, events: &Events, now: Instant, inbound: &dyn Inbound) -> usize {
        let mut round = Round {
            shared: &self.shared,
            registry: self.poll.registry(),
            timers: &mut self.timers,
            scratch: &mut self.scratch,
            now,
        };
        let (guests, links) = (&mut self.guests, &mut self.links);
        for event in events {
            match event.token() {
                WAKER => {}
                LISTENER => guests.on_acceptable(),
                token if is_guest(token) => guests.on_event(event),
                token => links.on_event(token, event.is_writable(), &mut round),
            }
        }
        while let Some(timer) = round.timers.take_due(now) {
            match timer {
                Timer::Dial(node) => links.on_dial_timer(node, &mut round),
                Timer::Greeting(token) if is_guest(token) => guests.on_greeting_timeout(token, &round),
                Timer::Greeting(token) => links.on_greeting_timeout(token, &mut round),
                Timer::Stalled(token) => links.on_stall_timer(token, &mut round),
                Timer::Accept => guests.on_acceptable(),
            }
        }
        links.follow_lookups(&mut round);
        guests.accept(&mut round);
        let frames = guests.read(&mut round, inbound, &mut self.greeted);
        for node in self.greeted.drain(..) {
            links.on_sign_of_life(node, &mut round);
        }
        frames
    }

    fn links_and_round(&mut self, now: Instant) -> (&mut Links, Round<'_>) {
        let round = Round {
            shared: &self.shared,
            registry: self.poll.registry(),
            timers: &mut self.timers,
            scratch: &mut self.scratch,
            now,
        };
        (&mut self.links, round)
    }
}

const fn is_guest(token: Token) -> bool {
    token.0.is_multiple_of(2)
}

impl Drop for EventLoop {
    /// However the loop ends, a panic of the node included, sends must fail from here on.
    fn drop(&mut self) {
        self.shared.outbound.close();
    }
}
