//! Nodes in one process, each with a port on loopback and a directory of its own, that can be killed and started again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_lsm::Database;
use kv_lsm::disk::{Lost, OsDisk};
use kv_repl::request::ClusterError;
use kv_repl::status::Standing;
use kv_repl::transport::TcpTransport;
use kv_repl::{Member, Node, NodeId};
use thiserror::Error;

use crate::chaos::links::{FaultyTransport, Links};
use crate::node_store::{NodeDisk, open_store};

/// How long a node may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Why a node, or the cluster, does not run.
#[derive(Debug, Error)]
pub enum LocalClusterError {
    /// No port.
    #[error("{node} cannot listen on {address}: {source}")]
    Listen {
        /// Who.
        node: NodeId,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The engine refused.
    #[error("the store of {node}: {source}")]
    Store {
        /// Whose.
        node: NodeId,
        /// Why.
        source: kv_lsm::Error,
    },
    /// The node refused.
    #[error("{node} does not start: {source}")]
    Start {
        /// Who.
        node: NodeId,
        /// Why, boxed because it is large.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node started, and then did not get as far as serving.
    #[error("{node} does not serve after {} s: {standing:?}", START_PATIENCE.as_secs())]
    NotServing {
        /// Who.
        node: NodeId,
        /// How far it got; `None` when it has stopped.
        standing: Option<Standing>,
    },
    /// Founding the cluster, creating a table in it, or replacing a node of it failed.
    #[error("the cluster refused: {0}")]
    Refused(#[from] ClusterError),
    /// The power of a node could not be cut.
    #[error("the disk of {node}: {source}")]
    Disk {
        /// Whose.
        node: NodeId,
        /// What the system said.
        source: io::Error,
    },
}

/// The nodes, in the order of their names, which count from one.
pub struct LocalCluster {
    places: Vec<Place>,
}

/// What stays of a node when it dies: its name, its address and its disk.
struct Place {
    id: NodeId,
    address: SocketAddr,
    directory: PathBuf,
    disk: NodeDisk,
    links: Arc<Links>,
    running: Option<Running>,
}

struct Running {
    node: Node,
    database: Database,
}

impl LocalCluster {
    /// Starts `size` nodes with empty directories below `directory` and founds a cluster of them. Each is in a zone of its own.
    ///
    /// # Errors
    /// [`LocalClusterError`]; what was started is stopped.
    pub fn start(directory: &Path, size: u64) -> Result<Self, LocalClusterError> {
        Self::start_over(directory, size, &Arc::default())
    }

    /// The same over links that can be cut.
    ///
    /// # Errors
    /// As [`LocalCluster::start`].
    pub fn start_over(directory: &Path, size: u64, links: &Arc<Links>) -> Result<Self, LocalClusterError> {
        let places = (1..=size).map(|number| Place {
            id: NodeId(number),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            directory: directory.join(format!("n{number}")),
            disk: NodeDisk::new(OsDisk::new()),
            links: Arc::clone(links),
            running: None,
        });
        let mut cluster = Self { places: places.collect() };
        // Everybody listens before anybody starts: a node can only answer those whose address it was given.
        let listening: Result<Vec<_>, _> = cluster.places.iter_mut().map(Place::listen).collect();
        let addresses: Vec<(NodeId, SocketAddr)> = cluster.addresses().collect();
        for (place, transport) in cluster.places.iter_mut().zip(listening?) {
            place.start(transport, &addresses)?;
        }
        let member = |place: &Place| Member::new(place.id, place.address).zone(format!("zone-{}", place.id.0));
        let members: Vec<Member> = cluster.places.iter().map(member).collect();
        cluster.node(NodeId(1)).bootstrap(&members)?;
        for place in &cluster.places {
            place.wait_until_serving()?;
        }
        Ok(cluster)
    }

    /// Names and addresses of all nodes, up or not.
    pub fn addresses(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> + '_ {
        self.places.iter().map(|place| (place.id, place.address))
    }

    /// A node that is up.
    ///
    /// # Panics
    /// When there is no such node, or it is down.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.place(id).running.as_ref().expect("the node is up").node
    }

    /// The engine of a node that is up, to look into.
    ///
    /// # Panics
    /// When there is no such node, or it is down.
    #[must_use]
    pub fn database(&self, id: NodeId) -> &Database {
        &self.place(id).running.as_ref().expect("the node is up").database
    }

    /// How many bytes a power cut would take from a node at this moment.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn unsynced_bytes(&self, id: NodeId) -> u64 {
        self.place(id).disk.unsynced_bytes()
    }

    /// Cuts the power of a node: every byte that is not synced is gone, and then its threads end.
    ///
    /// # Errors
    /// [`LocalClusterError::Disk`]; the node is dead then, too.
    ///
    /// # Panics
    /// When there is no such node, or it is down.
    pub fn kill(&mut self, id: NodeId) -> Result<Lost, LocalClusterError> {
        let place = self.place_mut(id);
        let lost = place.disk.cut_power();
        let Running { node, database } = place.running.take().expect("the node is up");
        node.kill();
        drop(database);
        lost.map_err(|source| LocalClusterError::Disk { node: id, source })
    }

    /// Starts a node that was killed, on the same port and with what its disk kept, and waits until it serves. It
    /// remembers who the others are.
    ///
    /// # Errors
    /// [`LocalClusterError`].
    ///
    /// # Panics
    /// When there is no such node, or it is up.
    pub fn restart(&mut self, id: NodeId) -> Result<(), LocalClusterError> {
        let place = self.place_mut(id);
        assert!(place.running.is_none(), "only a dead node is started again");
        place.disk = place.disk.reboot();
        let transport = place.listen()?;
        place.start(transport, &[])?;
        place.wait_until_serving()
    }

    /// Starts a node that was killed on an empty disk, on the same port, has it replace the one that was there, and returns when
    /// it serves. It gets what was there in the background.
    ///
    /// # Errors
    /// [`LocalClusterError`].
    ///
    /// # Panics
    /// When there is no such node, or it is up.
    pub fn replace(&mut self, id: NodeId) -> Result<(), LocalClusterError> {
        let all: Vec<(NodeId, SocketAddr)> = self.addresses().collect();
        let place = self.place_mut(id);
        assert!(place.running.is_none(), "only a dead node loses its disk");
        std::fs::remove_dir_all(&place.directory).map_err(|source| LocalClusterError::Disk { node: id, source })?;
        place.disk = NodeDisk::new(OsDisk::new());
        let transport = place.listen()?;
        place.start(transport, &all)?;
        Ok(self.node(id).replace()?)
    }

    /// Stops all nodes cleanly.
    pub fn stop(self) {
        for place in self.places {
            if let Some(Running { node, .. }) = place.running {
                node.stop();
            }
        }
    }

    fn place(&self, id: NodeId) -> &Place {
        self.places.iter().find(|place| place.id == id).expect("a node of this cluster")
    }

    fn place_mut(&mut self, id: NodeId) -> &mut Place {
        self.places.iter_mut().find(|place| place.id == id).expect("a node of this cluster")
    }
}

impl Place {
    /// Port 0, at first, stands for any; afterwards the address is the one that was given.
    fn listen(&mut self) -> Result<TcpTransport, LocalClusterError> {
        let (node, address) = (self.id, self.address);
        let transport =
            TcpTransport::bind(node, address).map_err(|source| LocalClusterError::Listen { node, address, source })?;
        self.address = transport.local_addr();
        Ok(transport)
    }

    fn start(&mut self, transport: TcpTransport, all: &[(NodeId, SocketAddr)]) -> Result<(), LocalClusterError> {
        let node = self.id;
        let store =
            open_store(&self.disk, &self.directory).map_err(|source| LocalClusterError::Store { node, source })?;
        let database = store.database();
        let node = Node::builder(node)
            .store(store)
            .transport(FaultyTransport::new(self.id, transport, Arc::clone(&self.links)))
            .seeds(all.iter().copied())
            .start()
            .map_err(|error| LocalClusterError::Start { node, source: error.into() })?;
        self.running = Some(Running { node, database });
        Ok(())
    }

    fn wait_until_serving(&self) -> Result<(), LocalClusterError> {
        let node = &self.running.as_ref().expect("it was started").node;
        let began = Instant::now();
        loop {
            let standing = node.status().map(|status| status.standing);
            match standing {
                Some(Standing::Serving) => return Ok(()),
                Some(Standing::Confirming | Standing::Unfounded) if began.elapsed() < START_PATIENCE => {
                    std::thread::sleep(LOOK_EVERY);
                }
                _ => return Err(LocalClusterError::NotServing { node: self.id, standing }),
            }
        }
    }
}
