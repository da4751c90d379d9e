//! One connection that this node has made: connecting, preambles, then frames out and nothing in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use kv_core::NodeId;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::decoder::{Decoder, Received};
use super::frame::{PREAMBLE_BYTES_MAX, Preamble};

/// A socket and how far it has come.
pub(super) struct Connection {
    token: Token,
    stream: TcpStream,
    stage: Stage,
}

enum Stage {
    Connecting,
    /// Our preamble is out, theirs is awaited.
    Greeting(Decoder),
    Open,
}

/// What an event on a connection came to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Progress {
    /// Nothing that matters yet.
    Pending,
    /// The peer's preamble was accepted: frames may go.
    Opened,
    /// It answered with something else than the preamble of the node that was dialed.
    Refused,
    /// It sent bytes where none belong.
    Unexpected,
    /// The connection was not made, or is over.
    Broken,
}

/// What a write came to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Written {
    /// The socket took so many bytes and may take more.
    Bytes(usize),
    /// The socket is full; an event tells when it is not.
    Blocked,
    /// The connection is over.
    Broken,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn dial(address: SocketAddr, token: Token, registry: &Registry) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { token, stream, stage: Stage::Connecting })
    }

    pub(super) const fn token(&self) -> Token {
        self.token
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Goes as far as it can after an event. `own` is this node and `peer` the one that was dialed.
    pub(super) fn advance(&mut self, own: NodeId, peer: NodeId, scratch: &mut [u8]) -> Progress {
        let advanced = match &mut self.stage {
            Stage::Connecting => self.finish_connecting(own),
            Stage::Greeting(_) => self.read_preamble(peer, scratch),
            Stage::Open => self.read_nothing(scratch),
        };
        advanced.unwrap_or(Progress::Broken)
    }

    fn finish_connecting(&mut self, own: NodeId) -> io::Result<Progress> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(Progress::Pending),
            Err(error) => return Err(error),
        }
        // Turns are batched here; the kernel must not hold a batch back to batch it again.
        self.stream.set_nodelay(true)?;
        let preamble = Preamble::of(own).encode();
        if self.stream.write(&preamble)? != preamble.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        self.stage = Stage::Greeting(Decoder::default());
        Ok(Progress::Pending)
    }

    fn read_preamble(&mut self, peer: NodeId, scratch: &mut [u8]) -> io::Result<Progress> {
        let Stage::Greeting(decoder) = &mut self.stage else { unreachable!("called while greeting only") };
        loop {
            let bytes = match self.stream.read(&mut scratch[..PREAMBLE_BYTES_MAX]) {
                // It hung up on our preamble.
                Ok(0) => return Ok(Progress::Refused),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Pending),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            decoder.push(&scratch[..bytes]);
            match decoder.next(0) {
                Ok(None) => {}
                // The address may have passed to another node, and that one must not get this one's frames.
                Ok(Some(Received::Preamble(preamble))) if preamble.is_acceptable() && preamble.node == peer => {
                    if !decoder.is_empty() {
                        return Ok(Progress::Unexpected);
                    }
                    self.stage = Stage::Open;
                    // Reads on to the end, so that the next event is a new one.
                    return Ok(match self.read_nothing(scratch)? {
                        Progress::Pending => Progress::Opened,
                        other => other,
                    });
                }
                Ok(Some(_)) | Err(_) => return Ok(Progress::Refused),
            }
        }
    }

    /// After the preambles nothing comes in on this connection but its end.
    fn read_nothing(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(Progress::Broken),
                Ok(_) => return Ok(Progress::Unexpected),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Pending),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes some of `bytes`, with one system call.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Written {
        assert!(self.is_open(), "frames follow the preambles");
        loop {
            match self.stream.write(bytes) {
                Ok(0) => return Written::Broken,
                Ok(written) => return Written::Bytes(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Written::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Written::Broken,
            }
        }
    }
}
