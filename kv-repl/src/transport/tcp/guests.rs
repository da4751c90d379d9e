//! Connections that others have made to this node. Frames come in on them and nothing but our preamble goes out.
//!
//! Whoever is on the other end is a stranger until it has claimed, in its preamble, to be a node that this one was told of.
//! Strangers are few, for a short time, and may say little: enough for a node that nobody has heard of yet to introduce
//! itself, for then this node is told of it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use kv_core::NodeId;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::decoder::{Decoder, Received};
use super::frame::{FRAME_BYTES_MAX, Malformed, PREAMBLE_BYTES_MAX, Preamble};
use super::shared::Round;
use super::timers::Timer;
use crate::transport::Inbound;

/// Most bytes read from one connection in a round, so that no peer starves the others.
const READ_BYTES_PER_ROUND: usize = 256 << 10;
/// Most connections accepted in a round.
const ACCEPTS_PER_ROUND: usize = 32;
/// Most connections of strangers; the oldest makes room.
const STRANGERS_MAX: usize = 64;
/// Most of them from one address; the oldest of that address makes room. Half of all, so that one host cannot take all the
/// places, and many nodes on one host can still come at once.
const STRANGERS_PER_SOURCE_MAX: usize = STRANGERS_MAX / 2;
/// Longest frame of a stranger: an introduction is far shorter.
const STRANGER_FRAME_BYTES_MAX: usize = 4 << 10;
/// Most that a stranger may send before it has become known.
const STRANGER_BYTES_MAX: usize = 64 << 10;
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
    source: Source,
    /// Who it says it is, once it has said so.
    peer: Option<NodeId>,
    /// Whether this node was told of whom it claims to be.
    known: bool,
    /// What it has sent as a stranger.
    stranger_bytes: usize,
    readable: bool,
    /// The peer has closed its end: what is left must be read to the end.
    ending: bool,
}

/// Where a connection comes from: an address, or of IPv6 the network of one host, who may have any address in it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Source(u128);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u128::from(address.to_bits()) << 64 | 1),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
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

    /// The time for an introduction is over.
    pub(super) fn on_greeting_timeout(&mut self, token: Token, round: &Round<'_>) {
        let Some(guest) = self.guests.get_mut(&token) else { return };
        let was_known = guest.known;
        if guest.look_up(round) {
            self.strangers -= usize::from(!was_known);
        } else {
            guest.count_out(round);
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
                Ok((stream, address)) => self.let_in(stream, Source::of(address.ip()), round),
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

    fn let_in(&mut self, mut stream: TcpStream, source: Source, round: &mut Round<'_>) {
        let counters = &round.shared.counters;
        counters.accepted.increment();
        self.make_room(source, round);
        let token = Token(self.next_token);
        if self.guests.len() >= GUESTS_MAX || round.registry.register(&mut stream, token, Interest::READABLE).is_err() {
            counters.refused_preambles.increment();
            return;
        }
        self.next_token += 2;
        self.strangers += 1;
        let guest = Guest {
            stream,
            decoder: Decoder::default(),
            source,
            peer: None,
            known: false,
            stranger_bytes: 0,
            readable: false,
            ending: false,
        };
        self.guests.insert(token, guest);
        round.timers.set(round.now + round.shared.options.greeting_timeout, Timer::Greeting(token));
    }

    /// Closes the oldest stranger when there are too many, from `source` or altogether. Making room rather than refusing:
    /// whoever holds connections open in silence must not lock out the peers.
    fn make_room(&mut self, source: Source, round: &Round<'_>) {
        let strangers = || self.guests.iter().filter(|(_, guest)| !guest.known);
        let mut from_source = strangers().filter(|(_, guest)| guest.source == source);
        let oldest = if from_source.clone().count() >= STRANGERS_PER_SOURCE_MAX {
            from_source.next()
        } else if self.strangers >= STRANGERS_MAX {
            strangers().next()
        } else {
            None
        };
        if let Some((token, guest)) = oldest {
            guest.count_out(round);
            let token = *token;
            self.remove(token);
        }
    }

    /// Reads each connection's share and delivers the frames. Returns how many there were; nodes that have just shown
    /// their preamble are added to `greeted`.
    pub(super) fn read(&mut self, round: &mut Round<'_>, inbound: &dyn Inbound, greeted: &mut Vec<NodeId>) -> usize {
        let mut frames = 0;
        for token in std::mem::take(&mut self.readable) {
            let Some(guest) = self.guests.get_mut(&token) else { continue };
            let (was_silent, was_known) = (guest.peer.is_none(), guest.known);
            let stop = guest.read_share(round, inbound, &mut frames);
            self.strangers -= usize::from(!was_known && guest.known);
            if let (true, Some(node)) = (was_silent, guest.peer) {
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
        if self.guests.remove(&token).is_some_and(|guest| !guest.known) {
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
            let window = if self.known { round.scratch.len() } else { PREAMBLE_BYTES_MAX };
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
            if !self.known {
                self.stranger_bytes += bytes;
                if self.stranger_bytes > STRANGER_BYTES_MAX {
                    self.count_out(round);
                    return Stop::Closed;
                }
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
            let frame_bytes_max = if self.look_up(round) { FRAME_BYTES_MAX } else { STRANGER_FRAME_BYTES_MAX };
            match (self.decoder.next(frame_bytes_max), self.peer) {
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
                (Err(Malformed::FrameTooLong(bytes)), _) if !self.known && bytes <= FRAME_BYTES_MAX => {
                    self.count_out(round);
                    return Break(());
                }
                (Err(_), _) => return self.refuse(round),
            }
        }
    }

    /// Whether this node was told of whom the other end claims to be: it may have been told since the last look.
    fn look_up(&mut self, round: &Round<'_>) -> bool {
        self.known = self.known || self.peer.is_some_and(|peer| round.shared.outbound.knows(peer));
        self.known
    }

    /// Counts a stranger that is closed for what it is.
    fn count_out(&self, round: &Round<'_>) {
        let counters = &round.shared.counters;
        let counter = if self.peer.is_some() { &counters.strangers_closed } else { &counters.refused_preambles };
        counter.increment();
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn all_addresses_of_a_host_are_one_source() {
        let v6 = |text: &str| Source::of(text.parse::<Ipv6Addr>().unwrap().into());
        let v4 = |a, b, c, d| Source::of(Ipv4Addr::new(a, b, c, d).into());
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::9"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
        assert_eq!(v6("::ffff:10.0.0.1"), v4(10, 0, 0, 1));
        assert_ne!(v4(10, 0, 0, 1), v4(10, 0, 0, 2));
        assert_ne!(v6("::"), v4(0, 0, 0, 0));
    }
}
