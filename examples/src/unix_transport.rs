//! A transport over Unix-domain sockets: a datagram for each frame, behind a byte for the lane and eight for the sender.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kv_repl::NodeId;
use kv_repl::transport::{Drive, Inbound, Lane, PeerInfo, SendError, Transport};

const LANES: [Lane; 3] = [Lane::Control, Lane::Request, Lane::Bulk];
const HEADER_BYTES: usize = 9;
const FRAME_BYTES_MAX: usize = 64 << 10;

/// The end of one node.
pub struct UnixTransport {
    node: NodeId,
    path: PathBuf,
    sender: UnixDatagram,
    receiver: Mutex<Option<UnixDatagram>>,
    peers: RwLock<Vec<PeerInfo>>,
    stopped: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl UnixTransport {
    /// Listens at `path`, which peers are told as this node's address.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(node: NodeId, path: &Path) -> std::io::Result<Self> {
        // What an earlier life left behind.
        let _ = std::fs::remove_file(path);
        let (sender, receiver) = (UnixDatagram::unbound()?, UnixDatagram::bind(path)?);
        sender.set_nonblocking(true)?;
        receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (receiver, path) = (Mutex::new(Some(receiver)), path.to_owned());
        let (peers, stopped, thread) = (RwLock::default(), Arc::default(), Mutex::default());
        Ok(Self { node, path, sender, receiver, peers, stopped, thread })
    }
}

impl Transport for UnixTransport {
    fn try_send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        let peers = self.peers.read().unwrap();
        let peer = peers.iter().find(|peer| peer.node == to).ok_or(SendError::UnknownPeer)?;
        let (lane, _) = (0_u8..).zip(LANES).find(|(_, known)| *known == lane).expect("all lanes are listed");
        let datagram = [&[lane], &self.node.0.to_le_bytes()[..], &frame].concat();
        // The system keeps a few datagrams for whoever does not keep up; what is refused is asked for again in time.
        self.sender.send_to(&datagram, &peer.address).map(|_| ()).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => SendError::Full,
            _ => SendError::Unreachable,
        })
    }

    fn max_frame_bytes(&self, _to: NodeId) -> usize {
        FRAME_BYTES_MAX
    }

    fn peers_changed(&self, peers: &[PeerInfo]) {
        *self.peers.write().unwrap() = peers.to_vec();
    }

    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let receiver = self.receiver.lock().unwrap().take().expect("a transport is attached once");
        let stopped = Arc::clone(&self.stopped);
        let receive = move || {
            let mut datagram = vec![0; HEADER_BYTES + FRAME_BYTES_MAX];
            while !stopped.load(Ordering::Acquire) {
                // An error means that nothing has come for a while.
                let Ok(bytes) = receiver.recv(&mut datagram) else { continue };
                let Some((header, frame)) = datagram[..bytes].split_first_chunk::<HEADER_BYTES>() else { continue };
                let [lane, from @ ..] = *header;
                let Some(lane) = LANES.get(usize::from(lane)) else { continue };
                node.deliver(NodeId(u64::from_le_bytes(from)), *lane, Bytes::copy_from_slice(frame));
            }
        };
        *self.thread.lock().unwrap() = Some(std::thread::spawn(receive));
        // The node runs its turns itself.
        Drive::Node
    }

    fn detach(&self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}
