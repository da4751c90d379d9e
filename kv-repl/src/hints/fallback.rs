//! What a node keeps for a replica because a coordinator of a sloppy table has asked it to: it is no replica itself.
//!
//! It says yes when the hint is durable, and no when there is no room: nothing is owed then, because nothing was promised, and because
//! only replicas can be compared. For the same reason the hint is not let go when it grows old. The coordinator keeps another
//! one, and holds the record; where its disk is lost, this is all there is of the write.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::record::Record;

use super::keeping::Kept;
use super::{Hints, place_of};
use crate::catalog::Catalog;
use crate::comparison::Place;
use crate::machine::{Action, Environment, Notice, Release, Stripe};
use crate::message::{Message, Refusal};
use crate::status::Standing;
use crate::storages::enlighten;

impl Hints {
    /// A coordinator asks to keep a change to a record for a replica.
    pub(super) fn asked_to_keep(
        &mut self,
        env: &Environment<'_>,
        (from, tag): (NodeId, u64),
        epoch: u64,
        (target, key, change): (NodeId, &RecordKey, &Bytes),
        out: &mut Vec<Action>,
    ) {
        let refused = match env.overload {
            Some(retry_after) if from != env.me.node => {
                out.push(Action::Notify(Notice::Shed));
                Some(Refusal::Overloaded { retry_after })
            }
            _ => self.stand_in(env, epoch, (target, key, change), out).err(),
        };
        if let Some(refusal) = refused {
            enlighten(env, from, refusal, out);
        }
        let refused = refused.filter(|refusal| !(*refusal == Refusal::Full && sabotaged!(CountShedHints)));
        let is_loose = refused.is_some() || sabotaged!(CountUnsyncedHints);
        let release = if is_loose { Release::Now } else { Release::Durable(Stripe::HINTS) };
        out.push(Action::Send { to: from, message: Message::Kept { tag, target, refused }, release });
    }

    fn stand_in(
        &mut self,
        env: &Environment<'_>,
        epoch: u64,
        (target, key, change): (NodeId, &RecordKey, &Bytes),
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let catalog = env.catalog.filter(|_| env.standing == Standing::Serving).ok_or(Refusal::NotServing)?;
        let table = catalog.table(key.table()).ok_or(Refusal::UnknownTable)?;
        let replicas = table.replicas_of(key.token());
        let own_epoch = catalog.epoch_of(replicas);
        if epoch != own_epoch {
            return Err(Refusal::Fenced { epoch: own_epoch });
        }
        let is_asked_for = table.options.is_sloppy() || sabotaged!(FallBackUnasked);
        let is_replica = replicas.contains(&env.me.node) && !sabotaged!(FallBackOnReplicas);
        if !is_asked_for || is_replica || !replicas.contains(&target) {
            return Err(Refusal::NotReplica);
        }
        let record = Record::decode(change).map_err(|_| Refusal::Damaged)?;
        if record.rule() != table.options.rule {
            return Err(Refusal::Damaged);
        }
        if !self.keeps() || !self.trusts(env, out) {
            return Err(Refusal::Full);
        }
        let place = place_of(env.catalog, key);
        match self.kept(env, target, place, key, change).ok_or(Refusal::Full)? {
            Kept::Already => {}
            Kept::As(hint) => {
                self.put(target, place, key, &hint, out);
                self.counters.stood_in += 1;
            }
        }
        Ok(())
    }
}

/// Whether what is kept of a place may be all there is of an acknowledged write.
pub(super) fn is_last_resort(env: &Environment<'_>, place: Place) -> bool {
    stands_in(env.me.node, env.catalog, place) && !sabotaged!(LetGoOfOldFallbacks)
}

/// Whether a node is no replica of a place, so that what it keeps of it, it keeps as a fallback.
pub(super) fn stands_in(me: NodeId, catalog: Option<&Catalog>, place: Place) -> bool {
    let table = catalog.and_then(|catalog| catalog.table(place.table));
    let table = table.filter(|table| place.partition.0 < table.layout.partitions());
    table.is_some_and(|table| !table.layout.replicas(place.partition).contains(&me))
}
