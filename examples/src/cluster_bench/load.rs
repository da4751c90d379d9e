//! The driver: one thread, many connections, each with a batch of commands under way, to whatever speaks the protocol.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use thiserror::Error;

use super::resp::{Malformed, Reply, read_reply, write_command};

/// How long nothing may come back before a run is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 << 10;

/// What each command does.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// Writes a value.
    Put,
    /// Reads one.
    Get,
}

/// How a server is loaded.
#[derive(Clone, Debug)]
pub struct Load {
    /// What each command does.
    pub kind: Kind,
    /// How many connections.
    pub clients: usize,
    /// How many commands each sends at a time.
    pub pipeline: usize,
    /// Sent behind each batch of writes, and answered before the next: how Redis is asked to wait for a replica.
    pub confirm: Option<&'static [&'static [u8]]>,
    /// Keys are drawn from so many.
    pub keys: u64,
    /// Length of each value.
    pub value_bytes: usize,
    /// For how long.
    pub span: Duration,
    /// Which keys are drawn.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Commands answered, those that confirm not counted.
    pub operations: u64,
    /// From the first sent to the last answered.
    pub took: Duration,
    /// Microseconds from sending a batch to its last answer.
    pub batches: Histogram<u64>,
}

impl Measured {
    /// Commands a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.took.as_secs_f64()
    }
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The system's.
    #[error("a connection of the driver: {0}")]
    Io(#[from] io::Error),
    /// See [`Malformed`].
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A command was answered with an error.
    #[error("the server said: {0}")]
    Refused(String),
    /// A read that must have found a value found none, or a wrong one.
    #[error("the value of a key is not what was written: {0}")]
    Wrong(String),
    /// Nothing came back.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// The key with that number.
#[must_use]
pub fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

/// A value for the key with that number, which it begins with.
#[must_use]
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = key(number);
    value.resize(bytes.max(value.len()), b'.');
    value
}

/// Runs a load against `servers`, over which the connections are spread.
///
/// # Errors
/// [`LoadError`].
pub fn run(servers: &[SocketAddr], load: &Load) -> Result<Measured, LoadError> {
    let mut poll = mio::Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..load.clients {
        let stream = std::net::TcpStream::connect(servers[index % servers.len()])?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        connections.push(Connection::new(stream, load.seed.wrapping_mul(1009).wrapping_add(index as u64)));
    }
    let mut measured = Measured {
        operations: 0,
        took: Duration::ZERO,
        batches: Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order"),
    };
    let began = Instant::now();
    let until = began + load.span;
    for connection in &mut connections {
        connection.begin(load)?;
    }
    let mut busy = connections.len();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    while busy > 0 {
        match poll.poll(&mut events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        if events.is_empty() {
            return Err(LoadError::Silent);
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            connection.readable = true;
            connection.send()?;
            while connection.receive(&mut buffer)? {
                if !connection.take_replies(load)? {
                    continue;
                }
                let now = Instant::now();
                let took = u64::try_from((now - connection.sent_at).as_micros()).unwrap_or(u64::MAX);
                measured.batches.saturating_record(took.max(1));
                measured.operations += load.pipeline as u64;
                measured.took = now - began;
                if now < until {
                    connection.begin(load)?;
                } else {
                    busy -= 1;
                }
            }
        }
    }
    Ok(measured)
}

/// Writes these keys, in one batch, and waits for all answers.
///
/// # Errors
/// [`LoadError`].
pub fn fill(server: SocketAddr, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), LoadError> {
    let mut stream = std::net::TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    for (key, value) in entries {
        write_command(&mut bytes, &[b"SET", key, value]);
    }
    stream.write_all(&bytes)?;
    let (mut received, mut answered) = (Vec::new(), 0);
    let mut buffer = vec![0; READ_BYTES];
    while answered < entries.len() {
        match read_reply(&received)? {
            Some((Reply::Error(error), _)) => return Err(LoadError::Refused(error.escape_ascii().to_string())),
            Some((_, bytes)) => {
                answered += 1;
                received.drain(..bytes);
            }
            None => match stream.read(&mut buffer)? {
                0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                bytes => received.extend_from_slice(&buffer[..bytes]),
            },
        }
    }
    Ok(())
}

/// Asks one server one thing, and waits for the answer.
///
/// # Errors
/// [`LoadError`].
pub fn ask(server: SocketAddr, command: &[&[u8]]) -> Result<Vec<u8>, LoadError> {
    let mut stream = std::net::TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    write_command(&mut bytes, command);
    stream.write_all(&bytes)?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read_reply(&received)? {
            Some((Reply::Error(error), _)) => return Err(LoadError::Refused(error.escape_ascii().to_string())),
            Some((Reply::Simple(text) | Reply::Integer(text), _)) => return Ok(text.to_vec()),
            Some((Reply::Bulk(value), _)) => return Ok(value.unwrap_or_default().to_vec()),
            None => match stream.read(&mut buffer)? {
                0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                bytes => received.extend_from_slice(&buffer[..bytes]),
            },
        }
    }
}

struct Connection {
    stream: TcpStream,
    random: fastrand::Rng,
    output: Vec<u8>,
    input: Vec<u8>,
    /// The keys of the batch under way, and how many of its answers have come.
    asked: Vec<u64>,
    answered: usize,
    sent_at: Instant,
    /// The socket has, or may have, something to read.
    readable: bool,
}

impl Connection {
    fn new(stream: TcpStream, seed: u64) -> Self {
        let (output, input, asked) = (Vec::new(), Vec::new(), Vec::new());
        let random = fastrand::Rng::with_seed(seed);
        Self { stream, random, output, input, asked, answered: 0, sent_at: Instant::now(), readable: false }
    }

    fn begin(&mut self, load: &Load) -> Result<(), LoadError> {
        self.asked.clear();
        self.answered = 0;
        for _ in 0..load.pipeline {
            let number = self.random.u64(..load.keys);
            self.asked.push(number);
            match load.kind {
                Kind::Put => {
                    write_command(&mut self.output, &[b"SET", &key(number), &value(number, load.value_bytes)]);
                }
                Kind::Get => write_command(&mut self.output, &[b"GET", &key(number)]),
            }
        }
        if let Some(confirm) = load.confirm {
            write_command(&mut self.output, confirm);
        }
        self.sent_at = Instant::now();
        self.send()
    }

    fn send(&mut self) -> Result<(), LoadError> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(bytes) => drop(self.output.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether anything was there.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, LoadError> {
        if !self.readable {
            return Ok(false);
        }
        match self.stream.read(buffer) {
            Ok(0) => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(bytes) => {
                // A short read of a stream means that it is empty; what comes later is a new event.
                self.readable = bytes == buffer.len();
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks what was answered. Whether the batch is complete.
    fn take_replies(&mut self, load: &Load) -> Result<bool, LoadError> {
        let expected = self.asked.len() + usize::from(load.confirm.is_some());
        let mut taken = 0;
        while self.answered < expected
            && let Some((reply, bytes)) = read_reply(&self.input[taken..])?
        {
            taken += bytes;
            let number = self.asked.get(self.answered).copied();
            self.answered += 1;
            match (reply, number) {
                (Reply::Error(error), _) => return Err(LoadError::Refused(error.escape_ascii().to_string())),
                (Reply::Bulk(found), Some(number))
                    if load.kind == Kind::Get && found.is_none_or(|found| !found.starts_with(&key(number))) =>
                {
                    return Err(LoadError::Wrong(key(number).escape_ascii().to_string()));
                }
                // Confirmed by nobody is no confirmation.
                (Reply::Integer(b"0"), None) => return Err(LoadError::Refused("no replica confirmed".to_owned())),
                _ => {}
            }
        }
        self.input.drain(..taken);
        Ok(self.answered == expected)
    }
}
