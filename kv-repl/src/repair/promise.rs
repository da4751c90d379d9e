//! What a replica says to the one that leads a place to a higher floor.

use kv_core::NodeId;
use kv_core::hash::seeded;
use kv_core::hlc::Stamp;
use kv_core::store::Batch;

use super::site::Site;
use crate::comparison::{FloorAnswer, FloorStep, Level, Place};
use crate::floors::Floor;
use crate::machine::{Action, Environment, Notice, Stripe};
use crate::message::Refusal;
use crate::storages::enlighten;

/// A step and who asks for it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) from: NodeId,
    pub(crate) tag: u64,
    pub(crate) epoch: u64,
    pub(crate) place: Place,
    pub(crate) step: FloorStep,
}

/// What this node has under way.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Pending {
    /// Nothing that is under way here, or kept for others, was born before.
    pub(crate) oldest: Option<Stamp>,
    /// No stamp above it was minted here.
    pub(crate) clock: Stamp,
}

/// Takes a step, and says so; or says why not.
pub(super) fn take(
    env: &Environment<'_>,
    asked: &Step,
    pending: Pending,
    out: &mut Vec<Action>,
) -> Result<FloorAnswer, Refusal> {
    let Step { from, epoch, place, step, .. } = *asked;
    let site = Site::find(env, place, from)?;
    if site.epoch != epoch {
        let refusal = Refusal::Fenced { epoch: site.epoch };
        enlighten(env, from, refusal, out);
        return Err(refusal);
    }
    if env.imports.lacks(place) {
        return Err(Refusal::Importing);
    }
    let floor = env.floors.of(place);
    match step {
        FloorStep::Promise { level, .. } if level != floor.level => {
            let rises = follow(env, place, level, out);
            Ok(FloorAnswer::Unequal(if rises { floor.level.join(level) } else { floor.level }))
        }
        FloorStep::Promise { .. } if floor.is_unswept() => Ok(FloorAnswer::Unequal(floor.level)),
        FloorStep::Promise { up_to, .. } => {
            let able = able(env, up_to, pending.oldest);
            if able < up_to {
                return Ok(FloorAnswer::Able(able));
            }
            keep(place, Floor { promised: floor.promised.max(up_to), ..floor }, out);
            let table = env.catalog.and_then(|catalog| catalog.table(place.table)).ok_or(Refusal::UnknownTable)?;
            Ok(FloorAnswer::Promised { lives: lives(env, table.layout.replicas(place.partition)) })
        }
        FloorStep::Raise(level) if floor.promised < level.settled => Ok(FloorAnswer::Unequal(floor.level)),
        FloorStep::Raise(level) => {
            keep(place, Floor { level: floor.level.join(level), ..floor }, out);
            Ok(FloorAnswer::Raised { clock: pending.clock })
        }
    }
}

/// A new storage is told how far a place was settled when it had not got it yet: it never mints that low.
pub(super) fn copy(env: &Environment<'_>, place: Place, settled: Stamp, out: &mut Vec<Action>) {
    let floor = env.floors.of(place);
    if env.imports.lacks(place) && floor.promised < settled && !sabotaged!(ImportWithoutFloor) {
        keep(place, Floor { promised: settled, ..floor }, out);
    }
}

/// Another replica is at another level. Rises to it, if this one has promised as much: then it took part in the round in which it
/// came about. A new storage has promised so much before it holds what was settled, and rises once it does.
pub(super) fn follow(env: &Environment<'_>, place: Place, level: Level, out: &mut Vec<Action>) -> bool {
    let mut floor = env.floors.of(place);
    let lacks = env.imports.lacks(place) && !sabotaged!(RiseWhileImporting);
    if floor.level.covers(level) || floor.promised < level.settled || lacks {
        return false;
    }
    floor.level = floor.level.join(level);
    keep(place, floor, out);
    true
}

fn keep(place: Place, floor: Floor, out: &mut Vec<Action>) {
    let mut batch = Batch::new();
    floor.save(place, &mut batch);
    out.push(Action::Notify(Notice::Floor(place, floor)));
    out.push(Action::Store { stripe: Stripe::HINTS, batch });
}

/// How much of what is asked for can be promised: nothing of that age is under way, and this node's clock has come to it, so that what has
/// expired by it has expired here.
fn able(env: &Environment<'_>, up_to: Stamp, oldest: Option<Stamp>) -> Stamp {
    let below = oldest.map_or(Stamp(u64::MAX), |oldest| Stamp(oldest.0.saturating_sub(1)));
    up_to.min(below).min(Stamp::at(env.now.wall))
}

/// A hash of the lives in which this node knows these replicas. It takes no frame of an earlier life of any of them any more.
pub(super) fn lives(env: &Environment<'_>, replicas: &[NodeId]) -> u64 {
    let mut named: Vec<NodeId> = replicas.to_vec();
    named.sort_unstable();
    let mut bytes = Vec::new();
    for node in named {
        let (incarnation, boot) = match env.peers.life(node) {
            _ if node == env.me.node => (env.me.incarnation, env.me.boot),
            Some(life) => (life.incarnation, life.boot),
            None => continue,
        };
        [node.0, incarnation.0, boot.0].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    if sabotaged!(MixLives) { 0 } else { seeded(&bytes, 0) }
}
