//! The plot of the mini cluster.
//!
//! 1. Start the nodes, found a cluster of them, create a table.
//! 2. Load it. After a third, at a moment when one node has bytes that are not synced, cut its power.
//! 3. Go on loading. After two thirds start the node again, on the same port and with what its disk kept.
//! 4. Load the rest, with that node.
//! 5. Read everything back at quorum, through all nodes in turn, and compare.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use kv_lsm::disk::Lost;
use kv_repl::request::ClusterError;
use kv_repl::{NodeId, TableOptions};
use tempfile::TempDir;
use thiserror::Error;

use crate::chaos;
use crate::client::{Client, ClientError, Findings};
use crate::coordinators::Coordinators;
use crate::feeder::{FeedError, Feeder, WRITES_AHEAD};
use crate::input_file::{InputError, InputFile};
use crate::local_cluster::{LocalCluster, LocalClusterError};
use crate::node_store::count_keys;
use crate::options::{InvalidOptions, Options};
use crate::outcome::{Beliefs, Holding, Kill, Outcome};
use crate::phase::{Phase, Progress};
use crate::report::Screen;
use crate::workload::{Generated, Workload};

/// Threads that send requests. Few, because they share the machine with the nodes; their windows make up for it.
pub const CLIENTS: usize = 4;

const TABLE: &str = "siblings";

/// At best, how many bytes a node has written and not synced when its power is cut: a few records.
const UNSYNCED_BYTES_WANTED: u64 = 1024;
/// How long the next write waits for its predecessors to reach the disk of the node that is to die.
const UNSYNCED_PATIENCE: Duration = Duration::from_millis(2);
/// More than the marks that an idle log writes: what is lost should be of writes.
const LOST_BYTES_WANTED: u64 = 64;
/// How often a node is killed at most until it loses so much.
const CUTS_MAX: u32 = 20;
/// How long to wait for one write to be acknowledged while a node is down.
const DOWN_PATIENCE: Duration = Duration::from_secs(60);

/// Why a run did not come to its end.
#[derive(Debug, Error)]
pub enum RunError {
    /// See [`InvalidOptions`].
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// See [`InputError`].
    #[error(transparent)]
    Input(#[from] InputError),
    /// The directory for the nodes cannot be used.
    #[error("{}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is there already, and is not to be overwritten.
    #[error("{} is not empty; give --dir a directory that is empty or does not exist", path.display())]
    DirectoryInUse {
        /// Which.
        path: PathBuf,
    },
    /// See [`LocalClusterError`].
    #[error(transparent)]
    Cluster(#[from] LocalClusterError),
    /// The table cannot be created or found.
    #[error("the table: {0}")]
    Table(#[from] ClusterError),
    /// See [`FeedError`].
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// See [`ClientError`].
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A store cannot be read.
    #[error("the store of {node}: {source}")]
    Store {
        /// Whose.
        node: NodeId,
        /// Why.
        source: kv_lsm::Error,
    },
    /// The load was over before the node had anything to lose.
    #[error("{node} had no unsynced bytes in the middle of the load; load more, or use --no-kill")]
    NothingToLose {
        /// Who was to be killed.
        node: NodeId,
    },
}

/// Runs it under chaos.
///
/// # Errors
/// [`RunError`]. That something was lost is no error of the run but what it found: see [`chaos::Report::failures`].
pub fn run_chaos(options: &Options) -> Result<chaos::Report, RunError> {
    options.check()?;
    let home = Home::new(options.dir.as_deref())?;
    Ok(chaos::run(home.path(), options.nodes, options.seconds, options.seed)?)
}

/// Runs it all.
///
/// # Errors
/// [`RunError`]. That something was lost is no error of the run but what it found: see [`Outcome::failures`].
pub fn run(options: &Options, screen: &Screen) -> Result<Outcome, RunError> {
    options.check()?;
    let workload = match &options.input {
        Some(path) => Workload::File(InputFile::open(path)?),
        None => Workload::Generated(Generated::new(options.keys, options.value_bytes, options.seed)),
    };
    // Lives until the nodes have stopped, and is removed then if it is temporary.
    let home = Home::new(options.dir.as_deref())?;
    screen.opening(options, home.path());

    let mut cluster = LocalCluster::start(home.path(), options.nodes)?;
    let coordinators = create_table(&cluster, options.replicas)?;
    screen.ring(coordinators.layout(), cluster.addresses());

    let progress = Progress::begin();
    let client = |number| Client::new(&coordinators, &progress, number, options.seed);
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let victim = (!options.no_kill).then(|| NodeId(1 + fastrand::Rng::with_seed(options.seed).u64(..options.nodes)));
    let mut stage = Stage { cluster: &mut cluster, coordinators: &coordinators, progress: &progress, screen };
    let kill = stage.load(&mut clients, workload, victim)?;

    progress.enter(Phase::ReadBack);
    let keys = clients.iter().map(Client::keys).sum::<usize>() as u64;
    screen.reading_back(keys);
    read_back(&mut clients)?;
    let took = progress.took();

    let holdings = holdings(&cluster, &coordinators, &clients)?;
    let findings = clients.into_iter().map(Client::into_findings).fold(Findings::default(), Findings::and);
    let beliefs = beliefs(&cluster);
    let counted = cluster.addresses().filter_map(|(node, _)| cluster.node(node).stats()).collect();
    drop(coordinators);
    cluster.stop();
    Ok(Outcome { keys, findings, took, kill, holdings, beliefs, counted })
}

/// A table, known at every node.
fn create_table(cluster: &LocalCluster, replicas: u64) -> Result<Coordinators, ClusterError> {
    let replicas = usize::try_from(replicas).expect("a few");
    cluster.node(NodeId(1)).create_table(TABLE, TableOptions::siblings().replicas(replicas))?;
    let at_each = cluster.addresses().map(|(id, _)| Ok((id, cluster.node(id).table(TABLE)?)));
    Ok(Coordinators::new(at_each.collect::<Result<_, _>>()?))
}

/// Where the load is played.
struct Stage<'a> {
    cluster: &'a mut LocalCluster,
    coordinators: &'a Coordinators,
    progress: &'a Progress,
    screen: &'a Screen,
}

impl Stage<'_> {
    /// Lets the clients write everything, and kills `victim` in the middle.
    fn load(
        &mut self,
        clients: &mut [Client<'_>],
        workload: Workload,
        victim: Option<NodeId>,
    ) -> Result<Option<Kill>, RunError> {
        let (screen, progress) = (self.screen, self.progress);
        screen.loading(&workload);
        thread::scope(|scope| {
            let mut senders = Vec::new();
            let mut loaders = Vec::new();
            for client in clients {
                let (sender, writes) = sync_channel(WRITES_AHEAD);
                senders.push(sender);
                loaders.push(scope.spawn(move || client.load(&writes)));
            }
            let mut feeder = Feeder::new(workload, senders, |done| screen.loaded(done, progress));
            let played = match victim {
                Some(node) => self.play(&mut feeder, node).map(Some),
                None => feeder.feed_until(3).map(|()| None).map_err(RunError::from),
            };
            drop(feeder);
            // When a client failed, that is the cause of whatever went wrong here.
            for loader in loaders {
                loader.join().expect("a client does not panic")?;
            }
            played
        })
    }

    fn play(&mut self, feeder: &mut Feeder<'_>, node: NodeId) -> Result<Kill, RunError> {
        feeder.feed_until(1)?;
        let lost = self.cut_power(feeder, node)?;
        self.progress.enter(Phase::Down);
        self.screen.killed(node, lost);

        feeder.feed_until(2)?;
        self.wait_for_a_write_without(feeder)?;
        let restart_took = thread::scope(|scope| {
            let restart = scope.spawn(|| self.restart(node));
            feeder.feed_until(3)?;
            restart.join().expect("starting a node does not panic")
        })?;
        Ok(Kill { node, lost, acknowledged_while_down: self.progress.acknowledged_while_down(), restart_took })
    }

    /// Kills the node so that it loses something.
    fn cut_power(&mut self, feeder: &mut Feeder<'_>, node: NodeId) -> Result<Lost, RunError> {
        for cut in 1..=CUTS_MAX {
            self.wait_for_unsynced_bytes(feeder, node)?;
            let lost = self.cluster.kill(node)?;
            // Until here its clients had to find out for themselves.
            self.coordinators.set(node, None);
            if lost.bytes >= LOST_BYTES_WANTED || (lost.bytes > 0 && cut == CUTS_MAX) {
                return Ok(lost);
            }
            // The node's syncs were quicker than this thread.
            self.start_again(node)?;
        }
        Err(RunError::NothingToLose { node })
    }

    /// Goes on with the load until a power cut would hurt.
    ///
    /// Best is when bytes are added to others that are not synced either: a sync of those is likely under way, will end
    /// before the power goes, and leave the new ones. The more writes were in vain, the less will do, because a small load
    /// may never have many bytes unsynced.
    fn wait_for_unsynced_bytes(&self, feeder: &mut Feeder<'_>, node: NodeId) -> Result<(), RunError> {
        let mut wanted = UNSYNCED_BYTES_WANTED;
        loop {
            let began = Instant::now();
            let mut before = self.cluster.unsynced_bytes(node);
            while began.elapsed() < UNSYNCED_PATIENCE {
                let now = self.cluster.unsynced_bytes(node);
                if now > 0 && before >= wanted && now.saturating_sub(before) >= wanted {
                    return Ok(());
                }
                before = now;
            }
            if feeder.has_fed(2) || !feeder.feed_one()? {
                return Err(RunError::NothingToLose { node });
            }
            wanted /= 2;
        }
    }

    fn wait_for_a_write_without(&self, feeder: &mut Feeder<'_>) -> Result<(), RunError> {
        let began = Instant::now();
        while self.progress.acknowledged_while_down() == 0 && began.elapsed() < DOWN_PATIENCE {
            // The last of the second third may have been handed out before the kill.
            feeder.feed_one()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn restart(&mut self, node: NodeId) -> Result<Duration, RunError> {
        let began = Instant::now();
        self.start_again(node)?;
        let took = began.elapsed();
        self.progress.enter(Phase::After);
        self.screen.restarted(node, took, self.progress.acknowledged_while_down());
        Ok(took)
    }

    fn start_again(&mut self, node: NodeId) -> Result<(), RunError> {
        self.cluster.restart(node)?;
        self.coordinators.set(node, Some(self.cluster.node(node).table(TABLE)?));
        Ok(())
    }
}

fn read_back(clients: &mut [Client<'_>]) -> Result<(), ClientError> {
    thread::scope(|scope| {
        let readers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.read_back())).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a client does not panic"))
    })
}

fn holdings(
    cluster: &LocalCluster,
    coordinators: &Coordinators,
    clients: &[Client<'_>],
) -> Result<Vec<Holding>, RunError> {
    let layout = coordinators.layout();
    let of_node = |(node, address)| {
        let held = |key: &&[u8]| layout.replicas_of(layout.token_of(key)).contains(&node);
        let by_the_ring = clients.iter().flat_map(Client::acknowledged_keys).filter(held).count() as u64;
        let in_its_store = count_keys(cluster.database(node)).map_err(|source| RunError::Store { node, source })?;
        Ok(Holding { node, address, by_the_ring, in_its_store })
    };
    cluster.addresses().map(of_node).collect()
}

/// What each node says of the others.
fn beliefs(cluster: &LocalCluster) -> Vec<Beliefs> {
    let of_node = |(node, _)| {
        let peers = cluster.node(node).status().map(|status| status.peers).unwrap_or_default();
        Beliefs { node, peers: peers.into_iter().map(|peer| (peer.node, peer.liveness, peer.latency)).collect() }
    };
    cluster.addresses().map(of_node).collect()
}

/// Where the nodes keep their files.
enum Home {
    Temporary(TempDir),
    Given(PathBuf),
}

impl Home {
    fn new(given: Option<&Path>) -> Result<Self, RunError> {
        let Some(path) = given else {
            let directory = tempfile::Builder::new().prefix("mini_cluster-").tempdir();
            let refused = |source| RunError::Directory { path: std::env::temp_dir(), source };
            return directory.map(Self::Temporary).map_err(refused);
        };
        let refused = |source| RunError::Directory { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(refused)?;
        if std::fs::read_dir(path).map_err(refused)?.next().is_some() {
            return Err(RunError::DirectoryInUse { path: path.to_owned() });
        }
        Ok(Self::Given(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}
