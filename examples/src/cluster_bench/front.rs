//! A door for clients: one loop that takes the commands of many connections, hands them to the node, runs the node's turns, and
//! answers each connection in order. Requests are futures; a turn that finishes one notes whose it is.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kv_repl::Table;
use kv_repl::client::Pending;
use kv_repl::request::{Read, ReadError, WriteError, Written};
use kv_repl::transport::TcpLoop;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};

use super::resp::{Command, Malformed, read_command, write_bulk, write_error};

const LISTENER: Token = Token(usize::MAX);
/// What peers send, and whatever else the node waits for.
const NODE: Token = Token(usize::MAX - 1);
/// Commands of one connection that wait for their answer: those behind stay in the socket.
const PENDING_MAX: usize = 256;
/// Answers that their client does not take.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;

/// What the door asks of its node beside reading and writing.
pub trait House {
    /// A line about what the node did so far.
    fn statistics(&self) -> String;
}

/// Runs the node's turns until another thread hands something over; nothing when the node stops first, or nobody is left who could.
pub fn wait_for<T>(node: &mut TcpLoop, handed: &Receiver<T>) -> Option<T> {
    loop {
        if node.round(Duration::from_millis(5)).is_break() {
            return None;
        }
        match handed.try_recv() {
            Ok(handed) => return Some(handed),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

/// Serves until the node stops.
///
/// # Errors
/// The system's, about the listener or the poll. Those of a connection end the connection.
pub fn serve(mut listener: TcpListener, mut node: TcpLoop, table: &Table, house: &dyn House) -> io::Result<()> {
    let mut poll = mio::Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&node.as_raw_fd()), NODE, Interest::READABLE)?;
    let answered = Arc::new(Answered::default());
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, node.patience()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        let mut has_node = false;
        for event in &events {
            match event.token() {
                NODE => has_node = true,
                LISTENER => accept(&listener, poll.registry(), &answered, &mut connections)?,
                Token(index) => {
                    if let Some(connection) = &mut connections[index] {
                        connection.readable = true;
                        connection.ending |= event.is_read_closed();
                    }
                    turn(&mut connections[index], table, house, &mut buffer);
                }
            }
        }
        // What clients have asked is sent to peers now, and what peers have answered is read.
        let round = if has_node { node.round(Duration::ZERO) } else { node.round_without_sockets() };
        if round.is_break() {
            return Ok(());
        }
        for index in answered.take() {
            turn(&mut connections[index], table, house, &mut buffer);
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &mio::Registry,
    answered: &Arc<Answered>,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // A place is never given twice, so that a late waker finds nobody; the bench opens few connections.
                let index = connections.len();
                stream.set_nodelay(true)?;
                registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
                let waker = Waker::from(Arc::new(Bell { token: index, answered: Arc::clone(answered) }));
                connections.push(Some(Connection::new(stream, waker)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Does all that a connection can do now; forgets it when that fails or its client has gone.
fn turn(place: &mut Option<Connection>, table: &Table, house: &dyn House, buffer: &mut [u8]) {
    let goes_on = place.as_mut().is_some_and(|connection| connection.turn(table, house, buffer).is_ok());
    if !goes_on {
        *place = None;
    }
}

/// Which connections have an answer.
#[derive(Default)]
struct Answered {
    tokens: Mutex<Vec<usize>>,
}

impl Answered {
    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes that one connection has an answer. Requests end in rounds, after which the loop looks.
struct Bell {
    token: usize,
    answered: Arc<Answered>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.answered.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(self.token);
    }
}

enum Answer {
    Ready(Vec<u8>),
    Put(Pending<Result<Written, WriteError>>),
    Get(Pending<Result<Read, ReadError>>),
}

struct Connection {
    stream: TcpStream,
    waker: Waker,
    input: Vec<u8>,
    output: Vec<u8>,
    pending: VecDeque<Answer>,
    /// The socket has, or may have, something to read.
    readable: bool,
    /// The client has closed its side: what it sent before is read to the end.
    ending: bool,
}

impl Connection {
    fn new(stream: TcpStream, waker: Waker) -> Self {
        let (input, output, pending) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { stream, waker, input, output, pending, readable: true, ending: false }
    }

    fn turn(&mut self, table: &Table, house: &dyn House, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            self.answer();
            self.send()?;
            // What has no room waits in the socket until an answer, or the client, makes some.
            if self.pending.len() >= PENDING_MAX || self.output.len() >= OUTPUT_BYTES_MAX {
                return Ok(());
            }
            let received = self.receive(buffer)?;
            let begun = self.begin(table, house).map_err(io::Error::other)?;
            if !received && !begun {
                return Ok(());
            }
        }
    }

    /// Whether something was received.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        match self.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                // A short read of a stream means that it is empty; what comes later is a new event.
                self.readable = bytes == buffer.len() || self.ending;
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands the commands that are whole to the node. Whether there were any.
    fn begin(&mut self, table: &Table, house: &dyn House) -> Result<bool, Malformed> {
        let mut taken = 0;
        while self.pending.len() < PENDING_MAX
            && let Some(Command { parts, bytes }) = read_command(&self.input[taken..])?
        {
            taken += bytes;
            self.pending.push_back(match *parts {
                [b"SET", key, value] => Answer::Put(table.put(key, value).into_future()),
                [b"GET", key] => Answer::Get(table.get(key).into_future()),
                [b"PING"] => Answer::Ready(b"+PONG\r\n".to_vec()),
                [b"STATS"] => {
                    let mut out = Vec::new();
                    write_bulk(&mut out, house.statistics().as_bytes());
                    Answer::Ready(out)
                }
                _ => {
                    let mut out = Vec::new();
                    write_error(&mut out, "unknown command");
                    Answer::Ready(out)
                }
            });
        }
        self.input.drain(..taken);
        Ok(taken > 0)
    }

    /// Writes the answers that are there, in the order of the commands, up to the first that is not.
    fn answer(&mut self) {
        let mut context = Context::from_waker(&self.waker);
        while let Some(first) = self.pending.front_mut() {
            match first {
                Answer::Ready(bytes) => self.output.extend_from_slice(bytes),
                Answer::Put(put) => match Pin::new(put).poll(&mut context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(_)) => self.output.extend_from_slice(b"+OK\r\n"),
                    Poll::Ready(Err(error)) => write_error(&mut self.output, &error.to_string()),
                },
                Answer::Get(get) => match Pin::new(get).poll(&mut context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(read)) => match read.value() {
                        Some(value) => write_bulk(&mut self.output, value),
                        None => self.output.extend_from_slice(b"$-1\r\n"),
                    },
                    Poll::Ready(Err(error)) => write_error(&mut self.output, &error.to_string()),
                },
            }
            self.pending.pop_front();
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(bytes) => drop(self.output.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
