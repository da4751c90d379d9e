//! A door for clients: one loop that takes the commands of many connections, hands them to the node, and answers each connection
//! in order. Requests are futures; whoever finishes one wakes the loop, once for all that have finished meanwhile.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use kv_repl::Table;
use kv_repl::client::Pending;
use kv_repl::request::{Read, ReadError, WriteError, Written};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};

use super::resp::{Command, Malformed, read_command, write_bulk, write_error};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
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

/// Serves until the process ends.
///
/// # Errors
/// The system's, about the listener or the poll. Those of a connection end the connection.
pub fn serve(mut listener: TcpListener, table: &Table, house: &dyn House) -> io::Result<()> {
    let mut poll = mio::Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let woken = Arc::new(Woken { tokens: Mutex::default(), waker: mio::Waker::new(poll.registry(), WAKER)? });
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            match event.token() {
                WAKER => {}
                LISTENER => accept(&listener, poll.registry(), &woken, &mut connections)?,
                Token(index) => turn(&mut connections[index], table, house, &mut buffer),
            }
        }
        for index in woken.take() {
            turn(&mut connections[index], table, house, &mut buffer);
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &mio::Registry,
    woken: &Arc<Woken>,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // A place is never given twice, so that a late waker finds nobody; the bench opens few connections.
                let index = connections.len();
                stream.set_nodelay(true)?;
                registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
                let waker = Waker::from(Arc::new(Bell { token: index, woken: Arc::clone(woken) }));
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
struct Woken {
    tokens: Mutex<Vec<usize>>,
    waker: mio::Waker,
}

impl Woken {
    fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the loop for one connection.
struct Bell {
    token: usize,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let first = {
            let mut tokens = self.woken.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.push(self.token);
            tokens.len() == 1
        };
        if first {
            // It fails only when the loop has ended.
            let _ = self.woken.waker.wake();
        }
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
}

impl Connection {
    const fn new(stream: TcpStream, waker: Waker) -> Self {
        Self { stream, waker, input: Vec::new(), output: Vec::new(), pending: VecDeque::new() }
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
        match self.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
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
