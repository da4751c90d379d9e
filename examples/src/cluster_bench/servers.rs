//! The servers that are loaded, each a process of its own on loopback, ended with the bench: three nodes of ours, or a Redis
//! primary with two replicas.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::load::{LoadError, ask};

/// Of each kind.
pub const SERVERS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(40);
/// A node takes many requests at a time, and glibc's malloc keeps no more than seven freed pieces of a size at hand. Redis brings an
/// allocator of its own.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=2000");

/// Why servers do not run.
#[derive(Debug, Error)]
pub enum ServersError {
    /// The system's.
    #[error("{what}: {source}")]
    Io {
        /// Doing what.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A node said something else than was expected, or ended.
    #[error("a node said {said:?} instead of {expected:?}")]
    Node {
        /// What.
        said: String,
        /// Instead of what.
        expected: &'static str,
    },
    /// Redis does not come up.
    #[error("redis-server: {0}")]
    Redis(String),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ServersError {
    move |source| ServersError::Io { what, source }
}

/// Three nodes of ours.
pub struct Nodes {
    processes: Vec<NodeProcess>,
}

struct NodeProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    peers: String,
    clients: SocketAddr,
}

impl Nodes {
    /// Starts them, with their files below `directory`, or without any, and founds a cluster.
    ///
    /// # Errors
    /// [`ServersError`]; what was started is ended.
    pub fn start(directory: Option<&Path>) -> Result<Self, ServersError> {
        let mut nodes = Self { processes: Vec::new() };
        for id in 1..=SERVERS {
            nodes.processes.push(NodeProcess::spawn(id, directory)?);
        }
        let peers: Vec<String> =
            (1..).zip(&nodes.processes).map(|(id, process)| format!("{id}={}", process.peers)).collect();
        let peers = format!("peers {}", peers.join(" "));
        for process in &mut nodes.processes {
            process.say(&peers)?;
            process.expect("started")?;
        }
        for (index, process) in nodes.processes.iter_mut().enumerate() {
            process.say(if index == 0 { "found" } else { "join" })?;
        }
        for process in &mut nodes.processes {
            process.expect("ready")?;
        }
        Ok(nodes)
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.clients).collect()
    }

    /// How many times all of them synced their logs.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn syncs(&self) -> Result<u64, LoadError> {
        let of_one = |process: &NodeProcess| {
            let line = ask(process.clients, &[b"STATS"])?;
            let number = std::str::from_utf8(&line).ok().and_then(|line| line.parse::<u64>().ok());
            number.ok_or_else(|| LoadError::Refused(line.escape_ascii().to_string()))
        };
        self.processes.iter().map(of_one).sum()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Best effort: they end by themselves when the pipe to them does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl NodeProcess {
    fn spawn(id: u64, directory: Option<&Path>) -> Result<Self, ServersError> {
        let program = std::env::current_exe().map_err(io_error("this program"))?;
        let mut command = Command::new(program);
        command.args(["node", "--id", &id.to_string()]).env(TUNABLES.0, TUNABLES.1);
        if let Some(directory) = directory {
            command.arg("--dir").arg(directory.join(format!("n{id}")));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(io_error("a node"))?;
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let clients = (Ipv4Addr::LOCALHOST, 0).into();
        let mut process = Self { child, input, output, peers: String::new(), clients };
        let line = process.hear()?;
        let said = ServersError::Node { said: line.clone(), expected: "listening" };
        let mut words = line.split(' ');
        let (Some("listening"), Some(peers), Some(clients)) = (words.next(), words.next(), words.next()) else {
            return Err(said);
        };
        process.peers = peers.to_owned();
        process.clients = clients.parse().map_err(|_| said)?;
        Ok(process)
    }

    fn say(&mut self, line: &str) -> Result<(), ServersError> {
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).map_err(io_error("the pipe to a node"))
    }

    fn hear(&mut self) -> Result<String, ServersError> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(io_error("the pipe from a node"))?;
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, expected: &'static str) -> Result<(), ServersError> {
        let said = self.hear()?;
        if said == expected { Ok(()) } else { Err(ServersError::Node { said, expected }) }
    }
}

/// A primary and its replicas.
pub struct Redis {
    children: Vec<Child>,
    primary: SocketAddr,
}

impl Redis {
    /// The version that is installed, if one is.
    #[must_use]
    pub fn installed() -> Option<String> {
        let output = Command::new("redis-server").arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split(' ').find_map(|word| word.strip_prefix("v=").map(str::to_owned))
    }

    /// Starts them, every write synced (`appendfsync always`) on all three when `durable`, else nothing on a disk.
    ///
    /// # Errors
    /// [`ServersError`]; what was started is ended.
    pub fn start(directory: &Path, durable: bool) -> Result<Self, ServersError> {
        let mut redis = Self { children: Vec::new(), primary: free_port()? };
        let primary = redis.primary;
        for index in 0..SERVERS {
            let address = if index == 0 { primary } else { free_port()? };
            let home = directory.join(format!("redis{index}"));
            std::fs::create_dir_all(&home).map_err(io_error("a directory for redis"))?;
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"]);
            command.arg(&home).args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
            if index > 0 {
                command.args(["--replicaof", "127.0.0.1", &primary.port().to_string()]);
            }
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(io_error("redis-server"))?;
            redis.children.push(child);
            wait_for(|| ask(address, &[b"PING"]).is_ok_and(|answer| answer == b"PONG"))?;
        }
        wait_for(|| {
            let information = ask(primary, &[b"INFO", b"replication"]).unwrap_or_default();
            String::from_utf8_lossy(&information).matches("state=online").count() as u64 == SERVERS - 1
        })?;
        Ok(redis)
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.primary]
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port of loopback that was free a moment ago.
fn free_port() -> Result<SocketAddr, ServersError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io_error("a port"))?;
    listener.local_addr().map_err(io_error("a port"))
}

fn wait_for(there: impl Fn() -> bool) -> Result<(), ServersError> {
    let began = Instant::now();
    while !there() {
        if began.elapsed() > PATIENCE {
            return Err(ServersError::Redis("it does not answer, or its replicas do not follow".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
