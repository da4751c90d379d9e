//! The machines that see a request through: one for writes, one for reads, one that passes writes on.

mod asked;
mod catch_up;
pub(crate) mod forward;
pub(crate) mod read;
mod retry;
pub(crate) mod write;

use kv_core::NodeId;
use kv_core::key::RecordKey;

use crate::catalog::TableSchema;
use crate::liveness::Liveness;
use crate::machine::Environment;
use crate::quorum::Consistency;

/// The table of a key, and the nodes that hold the key.
fn placed<'a>(env: &Environment<'a>, key: &RecordKey) -> Option<(&'a TableSchema, &'a [NodeId])> {
    let table = env.catalog?.table(key.table())?;
    Some((table, table.replicas_of(key.token())))
}

/// How many replicas must answer: of all there are, whatever is believed of them (lesson 11).
fn required(env: &Environment<'_>, consistency: Consistency, replicas: &[NodeId]) -> usize {
    let counted = if sabotaged!(CountOnlyTheLiving) {
        replicas.iter().filter(|node| env.peers.liveness(**node) != Liveness::Dead).count()
    } else {
        replicas.len()
    };
    consistency.required(counted)
}

/// How many of `replicas` a request could count on at this moment.
fn reachable(env: &Environment<'_>, replicas: &[NodeId]) -> usize {
    replicas.iter().filter(|node| **node == env.me.node || env.peers.is_reachable(**node)).count()
}
