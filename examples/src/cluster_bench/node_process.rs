//! One node in a process of its own: the engine, the node, and a door for clients.
//!
//! It talks with its parent in lines. It prints `listening PEERS-ADDRESS CLIENTS-ADDRESS`; reads `peers 1=ADDRESS …`; starts and prints
//! `started`; reads `found` (only one does) or `join`; prints `ready` when its table is there, and serves until its standard
//! input ends, which it does when the parent dies.

use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use kv_core::MemStore;
use kv_core::record::RecordJoin;
use kv_core::store::{Space, SpaceOptions};
use kv_lsm::disk::OsDisk;
use kv_lsm::{Database, LsmStore};
use kv_repl::request::ClusterError;
use kv_repl::status::Standing;
use kv_repl::transport::{TcpLoop, TcpOptions, TcpTransport};
use kv_repl::{Member, Node, NodeId, Table, TableOptions};
use thiserror::Error;

use super::front::{House, serve, wait_for};

/// As of the bench's memory, shared by three nodes and Redis.
const MEMTABLE_BYTES: u64 = 32 << 20;
const CACHE_BYTES: u64 = 64 << 20;
const TABLE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArguments {
    /// Its name
    #[arg(long)]
    pub id: u64,
    /// Where it keeps its files; in memory without
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Why a node ended.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The system's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The engine's.
    #[error(transparent)]
    Store(#[from] kv_lsm::Error),
    /// The cluster's.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It did not start.
    #[error("the node does not start: {0}")]
    Start(String),
    /// The parent said something else.
    #[error("the parent said {0:?}")]
    Parent(String),
}

/// Runs it.
///
/// # Errors
/// [`NodeError`].
pub fn run(arguments: &NodeArguments) -> Result<(), NodeError> {
    let id = NodeId(arguments.id);
    let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let (transport, rounds) = TcpTransport::bind_hosted(id, loopback, TcpOptions::default())?;
    let front = mio::net::TcpListener::bind(loopback)?;
    say(&format!("listening {} {}", transport.local_addr(), front.local_addr()?))?;
    let peers = peers(&hear()?)?;

    let (open, opened) = mpsc::channel();
    thread::Builder::new().name(format!("node {id}")).spawn(move || serve_clients(front, rounds, &opened))?;
    let builder = Node::builder(id).transport(transport).seeds(peers.iter().copied());
    let (plain, records) = (SpaceOptions::default, SpaceOptions { merge: Some(Arc::new(RecordJoin)) });
    let spaces = [(Space::META, "meta", plain()), (Space::DATA, "records", records), (Space::HINTS, "hints", plain())];
    let (builder, database) = match &arguments.dir {
        Some(directory) => {
            let engine = Database::builder(directory)
                .disk(OsDisk::new())
                .memtable_bytes(MEMTABLE_BYTES)
                .log_segment_bytes(MEMTABLE_BYTES)
                .cache_bytes(CACHE_BYTES);
            let store = LsmStore::open(engine, &spaces)?;
            let database = store.database();
            (builder.store(store), Some(database))
        }
        None => (builder.store(MemStore::new(spaces.map(|(space, _, options)| (space, options)))), None),
    };
    let node = builder.start().map_err(|error| NodeError::Start(error.to_string()))?;
    say("started")?;
    match hear()?.as_str() {
        "found" => {
            let member =
                |&(node, address): &(NodeId, SocketAddr)| Member::new(node, address).zone(format!("z{}", node.0));
            node.bootstrap(&peers.iter().map(member).collect::<Vec<_>>())?;
            wait_until(|| node.status().is_some_and(|status| status.standing == Standing::Serving))?;
            node.create_table(TABLE, TableOptions::last_write_wins().replicas(peers.len()))?;
        }
        "join" => {}
        other => return Err(NodeError::Parent(other.to_owned())),
    }
    wait_until(|| node.table(TABLE).is_ok())?;
    // Whoever has not met this node yet drops what it sends, and there are more writes at once than may be sent again.
    wait_until(|| node.status().is_some_and(|status| status.peers.iter().all(|peer| peer.reachable)))?;
    let table = node.table(TABLE)?;
    say("ready")?;
    // It fails only when the other thread has ended, and then nobody is served.
    let _ = open.send((table, database));
    // The parent says no more; the end of its pipe is the end of this process, whatever the threads do.
    while hear().is_ok() {}
    std::process::exit(0);
}

/// Runs the node's turns, and serves clients as soon as there is a table.
fn serve_clients(
    front: mio::net::TcpListener,
    mut rounds: TcpLoop,
    opened: &Receiver<(Table, Option<Database>)>,
) -> io::Result<()> {
    match wait_for(&mut rounds, opened) {
        Some((table, database)) => serve(front, rounds, &table, &Engine(database)),
        None => Ok(()),
    }
}

struct Engine(Option<Database>);

impl House for Engine {
    fn statistics(&self) -> String {
        self.0.as_ref().map_or(0, |database| database.metrics().syncs).to_string()
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn hear() -> io::Result<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn peers(line: &str) -> Result<Vec<(NodeId, SocketAddr)>, NodeError> {
    let wrong = || NodeError::Parent(line.to_owned());
    let list = line.strip_prefix("peers ").ok_or_else(wrong)?;
    let peer = |text: &str| {
        let (id, address) = text.split_once('=')?;
        Some((NodeId(id.parse().ok()?), address.parse().ok()?))
    };
    list.split(' ').map(|text| peer(text).ok_or_else(wrong)).collect()
}

fn wait_until(there: impl Fn() -> bool) -> Result<(), NodeError> {
    let began = Instant::now();
    while !there() {
        if began.elapsed() > PATIENCE {
            return Err(NodeError::Start("it does not serve".to_owned()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
