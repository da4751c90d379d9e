//! Connections that others have made to this node. Frames come in on them and nothing but our preamble goes out.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use kv_core::NodeId;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::decoder::{Decoder, Received};
use super::frame::{PREAMBLE_BYTES_MAX, Preamble};
use super::shared::Round;
use super::timers::Timer;
use crate::transport::Inbound;

/// Most bytes read from one connection in a round, so that no peer starves the others.
const READ_BYTES_PER_ROUND: usize = 256 << 10;
/// Most connections accepted in a round.
const ACCEPTS_PER_ROUND: usize = 32;
/// Most connections that have not shown a preamble; the oldest makes room.
const STRANGERS_MAX: usize = 64;
/// Most connections that claim to be one node. A node has one; more are what it left behind when it vanished.
const CONNECTIONS_PER_NODE_MAX: usize = 4;
/// Most connections altogether.
const GUESTS_MAX: usize = 1024;
/// How long to wait when the system refuses another socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The accepting side.
pub(super) struct Guests {
    listener: TcpListener,
    /// In order of age, since tokens ascend.
    guests: BTreeMap<Token, Guest>,
    strangers: usize,
    next_token: usize,
    acceptable: bool,
    /// Connections that may have more to read.
    readable: Vec<Token>,
}

struct Guest {
    stream: TcpStream,
    decoder: Decoder,
    /// Who it says it is, once it has said so.
    peer: Option<NodeId>,
    readable: bool,
    /// The peer has closed its end: what is left must be read to the end.
    ending: bool,
}

/// Why reading stopped.
enum Stop {
    /// Nothing is left to read.
    Drained,
    /// The round's share is used up.
    Share,
    /// The connection is over, by the peer's wish or ours; what must be counted has been.
    Closed,
}

impl Guests {
    /// Registers `listener` under `token`. Guests get even tokens from 2 up.
    pub(super) fn new(mut listener: TcpListener, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            guests: BTreeMap::new(),
            strangers: 0,
            next_token: 2,
            acceptable: true,
            readable: Vec::new(),
        })
    }

    /// Whether the next round should not wait.
    pub(super) const fn has_work(&self) -> bool {
        self.acceptable || !self.readable.is_empty()
    }

    /// Somebody may be at the door.
    pub(super) const fn on_acceptable(&mut self) {
        self.acceptable = true;
    }

    /// A connection has something to read.
    pub(super) fn on_event(&mut self, event: &Event) {
        let token = event.token();
        let Some(guest) = self.guests.get_mut(&token) else { return };
        guest.ending |= event.is_read_closed() || event.is_error();
        if !guest.readable {
            guest.readable = true;
            self.readable.push(token);
        }
    }

    /// The time for a preamble is over.
    pub(super) fn on_greeting_timeout(&mut self, token: Token, round: &Round<'_>) {
        if self.guests.get(&token).is_some_and(|guest| guest.peer.is_none()) {
            round.shared.counters.refused_preambles.increment();
            self.remove(token);
        }
    }

    /// Lets in who waits at the door.
    pub(super) fn accept(&mut self, round: &mut Round<'_>) {
        if !self.acceptable {
            return;
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            match self.listener.accept() {
                Ok((stream, _)) => self.let_in(stream, round),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    return;
                }
                // The one who waited is gone; the next may be there.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    // No descriptors or no memory. There will be no new event for those who wait already.
                    self.acceptable = false;
                    round.timers.set(round.now + ACCEPT_PAUSE, Timer::Accept);
                    return;
                }
            }
        }
    }

    fn let_in(&mut self, mut stream: TcpStream, round: &mut Round<'_>) {
        let counters = &round.shared.counters;
        counters.accepted.increment();
        if self.strangers >= STRANGERS_MAX {
            // Making room rather than refusing: whoever holds connections open in silence must not lock out the peers.
            let oldest = self.guests.iter().find(|(_, guest)| guest.peer.is_none()).map(|(token, _)| *token);
            self.remove(oldest.expect("strangers are counted"));
            counters.refused_preambles.increment();
        }
        let token = Token(self.next_token);
        if self.guests.len() >= GUESTS_MAX || round.registry.register(&mut stream, token, Interest::READABLE).is_err() {
            counters.refused_preambles.increment();
            return;
        }
        self.next_token += 2;
        self.strangers += 1;
        let guest = Guest { stream, decoder: Decoder::default(), peer: None, readable: false, ending: false };
        self.guests.insert(token, guest);
        round.timers.set(round.now + round.shared.options.greeting_timeout, Timer::Greeting(token));
    }

    /// Reads each connection's share and delivers the frames. Returns how many there were; nodes that have just shown
    /// their preamble are added to `greeted`.
    pub(super) fn read(&mut self, round: &mut Round<'_>, inbound: &dyn Inbound, greeted: &mut Vec<NodeId>) -> usize {
        let mut frames = 0;
        for token in std::mem::take(&mut self.readable) {
            let Some(guest) = self.guests.get_mut(&token) else { continue };
            let was_stranger = guest.peer.is_none();
            let stop = guest.read_share(round, inbound, &mut frames);
            if let (true, Some(node)) = (was_stranger, guest.peer) {
                self.strangers -= 1;
                greeted.push(node);
            }
            match stop {
                Stop::Drained => guest.readable = false,
                Stop::Share => self.readable.push(token),
                Stop::Closed => self.remove(token),
            }
        }
        round.shared.counters.frames_in.add(frames);
        for node in greeted {
            self.limit_connections(*node);
        }
        frames
    }

    fn limit_connections(&mut self, node: NodeId) {
        let of_node = || self.guests.iter().filter(|(_, guest)| guest.peer == Some(node)).map(|(token, _)| *token);
        if of_node().count() > CONNECTIONS_PER_NODE_MAX {
            let oldest = of_node().next().expect("there are several");
            self.remove(oldest);
        }
    }

    fn remove(&mut self, token: Token) {
        if self.guests.remove(&token).is_some_and(|guest| guest.peer.is_none()) {
            self.strangers -= 1;
        }
    }
}

impl Guest {
    fn read_share(&mut self, round: &mut Round<'_>, inbound: &dyn Inbound, frames: &mut usize) -> Stop {
        let counters = &round.shared.counters;
        let mut share = READ_BYTES_PER_ROUND;
        loop {
            // A stranger is given no more room than a preamble needs.
            let window = if self.peer.is_some() { round.scratch.len() } else { PREAMBLE_BYTES_MAX };
            let bytes = match self.stream.read(&mut round.scratch[..window]) {
                Ok(0) => return self.close_unless_greeted(round),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Stop::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.close_unless_greeted(round),
            };
            counters.reads.increment();
            counters.bytes_in.add(bytes);
            self.decoder.push(&round.scratch[..bytes]);
            if self.decode(round, inbound, frames).is_break() {
                return Stop::Closed;
            }
            share = share.saturating_sub(bytes);
            // On Unix a short read of a stream means that it is empty, and bytes or an end that come later are a new
            // event; elsewhere only WouldBlock arms the next event.
            if cfg!(unix) && bytes < window && !self.ending {
                return Stop::Drained;
            }
            if share == 0 {
                return Stop::Share;
            }
        }
    }

    fn close_unless_greeted(&self, round: &Round<'_>) -> Stop {
        if self.peer.is_none() {
            round.shared.counters.refused_preambles.increment();
        }
        Stop::Closed
    }

    /// Handles all that is whole in the decoder; breaks when the connection must be closed.
    fn decode(&mut self, round: &Round<'_>, inbound: &dyn Inbound, frames: &mut usize) -> ControlFlow<()> {
        loop {
            match (self.decoder.next(), self.peer) {
                (Ok(None), _) => return Continue(()),
                (Ok(Some(Received::Frame(lane, frame))), Some(peer)) => {
                    *frames += 1;
                    inbound.deliver(peer, lane, frame);
                }
                (Ok(Some(Received::Preamble(preamble))), None) => {
                    // Ours goes out even when theirs is refused: it tells them why.
                    let told = self.tell(round.shared.node);
                    if !preamble.is_acceptable() {
                        round.shared.counters.refused_preambles.increment();
                        return Break(());
                    }
                    if told.is_err() {
                        return self.refuse(round);
                    }
                    self.peer = Some(preamble.node);
                }
                (Ok(Some(_)), _) => unreachable!("a preamble comes first and once"),
                (Err(_), _) => return self.refuse(round),
            }
        }
    }

    fn refuse(&self, round: &Round<'_>) -> ControlFlow<()> {
        let counters = &round.shared.counters;
        let counter = if self.peer.is_some() { &counters.bad_frames } else { &counters.refused_preambles };
        counter.increment();
        Break(())
    }

    /// Sends our preamble. The first bytes on a connection always fit its buffer.
    fn tell(&mut self, node: NodeId) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let preamble = Preamble::of(node).encode();
        if self.stream.write(&preamble)? == preamble.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}
