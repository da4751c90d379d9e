//! The machines that see a request through: one for writes, one for reads, one that passes writes on, one for scans, and one that
//! says where a key is.

mod answers;
mod asked;
mod budget;
mod catch_up;
pub(crate) mod describe;
mod fallbacks;
pub(crate) mod forward;
mod latency;
mod minting;
pub(crate) mod read;
mod reading;
mod retry;
pub(crate) mod scan;
mod scanning;
mod stragglers;
pub(crate) mod write;
mod writing;

use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::time::Millis;
use kv_ring::Zone;
use smallvec::SmallVec;

use crate::by_replica::{Nodes, USUAL};
use crate::catalog::TableSchema;
use crate::liveness::Liveness;
use crate::machine::{Action, Environment, Notice};
use crate::quorum::requirement::Requirement;
use crate::quorum::{Consistency, TooFewReplicas};

/// The longest time for which a peer that has too much to do is left alone.
const RETRY_AFTER_MAX: Millis = Millis(2_000);

/// The table of a key, and the nodes that hold the key.
fn placed<'a>(env: &Environment<'a>, key: &RecordKey) -> Option<(&'a TableSchema, &'a [NodeId])> {
    let table = env.catalog?.table(key.table())?;
    Some((table, table.replicas_of(key.token())))
}

/// The zone of a node, as the layout of the table has it.
fn zone(table: &TableSchema, node: NodeId) -> Option<&Zone> {
    table.layout.member(node).map(|member| &member.zone)
}

/// What a level asks of a key's replicas: of all there are, whatever is believed of them (lesson 11).
fn requirement(
    env: &Environment<'_>,
    table: &TableSchema,
    replicas: &[NodeId],
    consistency: Consistency,
) -> Result<Requirement, TooFewReplicas> {
    let counted = |node: &NodeId| !sabotaged!(CountOnlyTheLiving) || env.peers.liveness(*node) != Liveness::Dead;
    let zones = replicas.iter().filter(|node| counted(node)).filter_map(|node| table.layout.member(*node));
    let zones = zones.map(|member| (member.id, &member.zone));
    match zone(table, env.me.node) {
        Some(own) => Requirement::of(consistency, own, zones),
        None => Requirement::of(consistency, &Zone::default(), zones),
    }
}

/// Notes that a peer has too much to do.
fn busy(env: &Environment<'_>, peer: NodeId, retry_after: Millis) -> Action {
    // Whatever it says, it may be asked again before long.
    let until = env.now.monotonic.saturating_add(retry_after.min(RETRY_AFTER_MAX));
    Action::Notify(Notice::Busy { peer, until })
}

/// Whether a request could count on a replica at this moment.
fn reachable(env: &Environment<'_>, node: NodeId) -> bool {
    node == env.me.node || env.peers.is_reachable(node)
}

/// This node first, then the others from a place that moves with each request, so that the load is spread. After those:
/// replicas in other zones, those that are slow, those that have too much to do, those that are doubted, and last those that
/// cannot be reached.
fn in_turn(
    env: &Environment<'_>,
    table: &TableSchema,
    replicas: &[NodeId],
    tag: u64,
    is_slow: impl Fn(NodeId) -> bool,
) -> Nodes {
    let (me, own) = (env.me.node, zone(table, env.me.node));
    let turn = usize::try_from(tag % replicas.len().max(1) as u64).expect("less than a length");
    let (first, last) = (&replicas[turn..], &replicas[..turn]);
    let mut order: SmallVec<[_; USUAL]> = first
        .iter()
        .chain(last)
        .map(|node| {
            let (liveness, busy) = (env.peers.liveness(*node), env.peers.is_busy(*node, env.now.monotonic));
            let rank = (!reachable(env, *node), liveness, busy, is_slow(*node), zone(table, *node) != own, *node != me);
            (rank, *node)
        })
        .collect();
    order.sort_by_key(|(rank, _)| *rank);
    order.into_iter().map(|(_, node)| node).collect()
}
