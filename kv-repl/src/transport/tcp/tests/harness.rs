//! A node that keeps what it gets, and a stranger that speaks raw bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::NodeId;

use crate::transport::tcp::frame::{FrameHeader, Preamble};
use crate::transport::tcp::{TcpOptions, TcpTransport};
use crate::transport::{Drive, Inbound, Lane, PeerInfo, Transport, Turn};

/// How long anything may take. Only failing tests wait this long.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Delivered = (NodeId, Lane, Bytes);
type Job = Box<dyn FnOnce(&TcpTransport) + Send>;
type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a [`TestNode`] does with a frame.
pub(super) type OnFrame = fn(&TcpTransport, &Delivered);

pub(super) struct TestNode {
    transport: OnceLock<Weak<TcpTransport>>,
    arrived: Mutex<Vec<Delivered>>,
    handled: Mutex<Vec<Delivered>>,
    jobs: Mutex<Vec<Job>>,
    wake: OnceLock<Wake>,
    on_frame: OnFrame,
    /// What turns ask for.
    pub(super) answer: Mutex<Turn>,
    pub(super) turns: AtomicUsize,
}

impl TestNode {
    /// Runs `job` in a turn.
    pub(super) fn in_a_turn(&self, job: impl FnOnce(&TcpTransport) + Send + 'static) {
        self.jobs.lock().unwrap().push(Box::new(job));
        (self.wake.get().unwrap())();
    }

    /// How many frames the turns have seen.
    pub(super) fn frames(&self) -> usize {
        self.handled.lock().unwrap().len()
    }

    pub(super) fn take_handled(&self) -> Vec<Delivered> {
        std::mem::take(&mut *self.handled.lock().unwrap())
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let handled = self.handled.lock().unwrap();
        handled.iter().map(|(_, _, frame)| String::from_utf8_lossy(frame).into_owned()).collect()
    }
}

impl Inbound for TestNode {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        self.arrived.lock().unwrap().push((from, lane, frame));
    }

    fn turn(&self) -> Turn {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            arrived.iter().for_each(|delivered| (self.on_frame)(&transport, delivered));
            jobs.into_iter().for_each(|job| job(&transport));
        }
        self.handled.lock().unwrap().extend(arrived);
        *self.answer.lock().unwrap()
    }

    fn on_wake(&self, wake: Wake) {
        assert!(self.wake.set(wake).is_ok(), "registered once");
    }
}

/// A transport with its node.
pub(super) struct Member {
    pub(super) id: NodeId,
    pub(super) transport: Arc<TcpTransport>,
    pub(super) node: Arc<TestNode>,
}

impl Member {
    pub(super) fn info(&self) -> PeerInfo {
        PeerInfo { node: self.id, address: self.transport.local_addr().to_string() }
    }

    pub(super) fn send(&self, to: NodeId, text: &str) {
        self.transport.try_send(to, Lane::Request, Bytes::copy_from_slice(text.as_bytes())).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.transport.detach();
    }
}

pub(super) fn keep(_: &TcpTransport, _: &Delivered) {}

pub(super) fn echo(transport: &TcpTransport, (from, lane, frame): &Delivered) {
    transport.try_send(*from, *lane, frame.clone()).unwrap();
}

pub(super) fn member(id: u64) -> Member {
    member_with(id, keep, "127.0.0.1:0", TcpOptions::default())
}

pub(super) fn member_with(id: u64, on_frame: OnFrame, address: &str, options: TcpOptions) -> Member {
    let id = NodeId(id);
    let transport = Arc::new(TcpTransport::bind_with(id, address, options).unwrap());
    let node = Arc::new(TestNode {
        transport: OnceLock::new(),
        arrived: Mutex::default(),
        handled: Mutex::default(),
        jobs: Mutex::default(),
        wake: OnceLock::new(),
        on_frame,
        answer: Mutex::new(Turn::Wait(None)),
        turns: AtomicUsize::new(0),
    });
    node.transport.set(Arc::downgrade(&transport)).unwrap();
    assert_eq!(transport.attach(node.clone()), Drive::Transport);
    Member { id, transport, node }
}

/// Makes them peers of each other and waits until each has a connection to each.
pub(super) fn introduce(members: &[&Member]) {
    for member in members {
        let others = members.iter().filter(|other| other.id != member.id).map(|other| other.info());
        member.transport.peers_changed(&others.collect::<Vec<_>>());
    }
    for member in members {
        let others = u64::try_from(members.len() - 1).unwrap();
        wait_until("everybody is connected", || member.transport.stats().connects >= others);
    }
}

#[track_caller]
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client or server without any transport.
pub(super) struct Stranger {
    pub(super) stream: TcpStream,
}

impl Stranger {
    /// Dials `member` and says nothing.
    pub(super) fn dial(member: &Member) -> Self {
        Self::over(TcpStream::connect(member.transport.local_addr()).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Dials `member` with the preamble of `node` and reads the answer.
    pub(super) fn dial_as(member: &Member, node: u64) -> Self {
        let mut stranger = Self::dial(member);
        stranger.write(&Preamble::of(NodeId(node)).encode());
        assert_eq!(stranger.read_preamble().node, member.id);
        stranger
    }

    /// Accepts a dial, reads the preamble and answers with that of `node`.
    pub(super) fn accept_as(listener: &TcpListener, node: u64) -> Self {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        wait_until("somebody dials", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let stream = accepted.unwrap().0;
        stream.set_nonblocking(false).unwrap();
        let mut stranger = Self::over(stream);
        stranger.read_preamble();
        stranger.write(&Preamble::of(NodeId(node)).encode());
        stranger
    }

    pub(super) fn read_preamble(&mut self) -> Preamble {
        let mut bytes = vec![0; Preamble::of(NodeId(1)).encode().len()];
        self.stream.read_exact(&mut bytes).unwrap();
        Preamble::decode(&bytes).unwrap().unwrap().0
    }

    /// Errors are left for the reads that follow: the other end may have closed already.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(super) fn write_frame(&mut self, frame: &[u8]) {
        self.write(&encoded(frame));
    }

    /// Whether the other end has closed the connection, after whatever it has sent.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// A frame in the request lane as it is on the wire.
pub(super) fn encoded(frame: &[u8]) -> Vec<u8> {
    [&FrameHeader::encode(Lane::Request, frame)[..], frame].concat()
}
