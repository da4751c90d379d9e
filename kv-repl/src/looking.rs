//! Puts together what this node says of one key of which it is a replica.

use kv_core::key::RecordKey;

use crate::comparison::Place;
use crate::hints::Hints;
use crate::machine::Environment;
use crate::message::Refusal;
use crate::repair::Repairs;
use crate::replica::{Replica, check};
use crate::sight::{HeldRecord, PeerSight, Sight};

/// What is held of the key, and what is known of its other replicas.
pub(crate) fn look(
    env: &Environment<'_>,
    epoch: u64,
    key: &RecordKey,
    hints: &Hints,
    repairs: &Repairs,
) -> Result<Sight, Refusal> {
    check(env, epoch, key)?;
    let record = match Replica::held(env, key)? {
        None => None,
        Some(bytes) => Some(HeldRecord::of(&bytes).ok_or(Refusal::Damaged)?),
    };
    let table = env.catalog.and_then(|catalog| catalog.table(key.table())).ok_or(Refusal::UnknownTable)?;
    let place = Place { table: key.table(), partition: table.layout.partition_of(key.token()) };
    let others = table.replicas_of(key.token()).iter().copied().filter(|node| *node != env.me.node);
    let peers = others.map(|peer| PeerSight {
        peer,
        hint: hints.kept_for(env.view, peer, key),
        owed: hints.owes(peer, place),
        compared_ago: repairs.compared_at(place, peer).map(|at| env.now.monotonic.saturating_sub(at)),
    });
    Ok(Sight { record, peers: peers.collect() })
}
