//! Where the data of one key is: the answer to [`Table::describe`](crate::Table::describe).

use std::ops::RangeInclusive;
use std::time::Duration;

use kv_core::NodeId;
use kv_core::hash::Token;
use kv_core::key::{InvalidKey, Key};
use kv_core::time::Millis;
use kv_ring::{PartitionId, Zone};
use thiserror::Error;

use crate::liveness::Liveness;
use crate::message::Refusal;
use crate::sight::{KeptHint, PeerSight, Sight};
use crate::status::Standing;

/// Where a key lies, and what each of its replicas says of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Description {
    /// Which.
    pub key: Key,
    /// Its place in the hash space.
    pub token: Token,
    /// The partition that it lies in.
    pub partition: PartitionId,
    /// The tokens of the partition.
    pub tokens: RangeInclusive<Token>,
    /// The version of the layout.
    pub epoch: u64,
    /// The time of the node that was asked, by which versions have expired or not.
    pub as_of: Millis,
    /// Those who hold it, the preferred one first.
    pub replicas: Vec<ReplicaDescription>,
}

/// One replica of a key.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicaDescription {
    /// Which node.
    pub node: NodeId,
    /// Where it stands.
    pub zone: Zone,
    /// Whether the node that was asked could send it something.
    pub reachable: bool,
    /// What the node that was asked believes of it.
    pub liveness: Liveness,
    /// What it says, or that it says nothing.
    pub says: Result<Sight, Silence>,
}

/// Why nothing is known of a replica's data.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum Silence {
    /// It has not answered: it is down, or cut off, or slow.
    #[error("it has not answered")]
    NoAnswer,
    /// It has answered that it cannot tell.
    #[error("it cannot tell: {0:?}")]
    Refused(Refusal),
}

impl Description {
    /// What a replica says, if it has answered.
    #[must_use]
    pub fn sight(&self, node: NodeId) -> Option<&Sight> {
        self.replicas.iter().find(|replica| replica.node == node)?.says.as_ref().ok()
    }

    /// Whether every replica has answered and all hold the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let digests: Option<Vec<_>> = self
            .replicas
            .iter()
            .map(|replica| Some(replica.says.as_ref().ok()?.record.as_ref().map(|record| record.digest)))
            .collect();
        digests.is_some_and(|digests| digests.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// What is kept of the key for a replica that has missed it, and by whom.
    pub fn hints_for(&self, target: NodeId) -> impl Iterator<Item = (NodeId, KeptHint)> {
        self.about(target).filter_map(|(by, about)| Some((by, about.hint?)))
    }

    /// Which replicas owe the key's partition a comparison with this one.
    pub fn owed_to(&self, target: NodeId) -> impl Iterator<Item = NodeId> {
        self.about(target).filter(|(_, about)| about.owed).map(|(by, _)| by)
    }

    /// How long ago two replicas were found, or made, equal in the key's partition, as far as those who answered know.
    #[must_use]
    pub fn compared_ago(&self, one: NodeId, other: NodeId) -> Option<Duration> {
        let told = [(one, other), (other, one)].map(|(by, of)| {
            let about = self.sight(by)?.peers.iter().find(|about| about.peer == of)?;
            about.compared_ago
        });
        told.into_iter().flatten().min().map(Millis::as_duration)
    }

    fn about(&self, target: NodeId) -> impl Iterator<Item = (NodeId, &PeerSight)> {
        self.replicas.iter().filter_map(move |replica| {
            let about = replica.says.as_ref().ok()?.peers.iter().find(|about| about.peer == target)?;
            Some((replica.node, about))
        })
    }
}

/// Why a key was not described. That replicas are down is no reason.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// The key is over the limits.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The table is not known.
    #[error("unknown table")]
    UnknownTable,
    /// What a cache holds may be gone as soon as it is told.
    #[error("a cache table does not say what its replicas hold")]
    CacheTable,
    /// The node serves no requests; its status says why.
    #[error("the node does not serve: {0}")]
    NotServing(Standing),
    /// The node has too much to do.
    #[error("the node has too much to do; ask again after {retry_after:?}")]
    Overloaded {
        /// Not before this time is it to be asked again.
        retry_after: Millis,
    },
    /// The node stopped before it could answer.
    #[error("the node has stopped")]
    Stopped,
}
