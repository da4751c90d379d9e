//! How a replica makes a change of a data type out of what a client asks for.
//!
//! - The change gets the replica's next dot and a stamp; everybody else joins it blindly (rule P18).
//! - What only adds travels as the small change that it is. What replaces or removes travels as the whole state, because
//!   what it takes may have been taken here before by a change that reached nobody else, or may have replaced something
//!   that others still hold. So a quorum that has acknowledged a removal holds all that its replica knew to be gone. So does what
//!   adds nothing here, as an offer to a register that holds more: what tops it may have reached nobody else.
//! - An addition to a counter that is asked for again is not made again when it is known here: among the last ones of an
//!   actor in the record itself, or among those this life has made. A retry that is not known may have been
//!   made elsewhere, and is answered as ambiguous, unless the asker knows that this life of this replica is the only one
//!   that can have made it (rule P10).

use std::collections::{BTreeMap, VecDeque};

use kv_core::crdt::{DotStore, Kind, UpdateRefused};
use kv_core::hash::seeded;
use kv_core::key::RecordKey;
use kv_core::record::{OperationId, Record, Rule};
use kv_core::store::Batch;
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot, VersionVector};

use super::{Minted, Minter, check_counter, forgot, read, written};
use crate::machine::Environment;
use crate::request::{Attempt, Modify, WriteError};

/// How long an asker may remember whom it has asked: shorter than a replica remembers what it has made, by more than any request
/// takes.
pub(crate) const ASKED_FOR: Millis = Millis(300_000);
const MADE_FOR: Millis = Millis(900_000);
/// Most that are remembered at a time.
const MADE_MAX: usize = 65_536;

/// The additions to counters that this life has made, for a while.
#[derive(Debug, Default)]
pub(super) struct Made {
    by_name: BTreeMap<(u64, OperationId), Dot>,
    oldest_first: VecDeque<(Millis, u64, OperationId)>,
    /// Until then, something that it would still know was forgotten.
    incomplete_until: Millis,
}

impl Made {
    fn find(&self, key: &RecordKey, operation: OperationId) -> Option<Dot> {
        self.by_name.get(&(name_of(key), operation)).copied()
    }

    fn add(&mut self, now: Millis, key: &RecordKey, operation: OperationId, dot: Dot) {
        while let Some((at, key, operation)) = self.oldest_first.front().copied()
            && (self.oldest_first.len() >= MADE_MAX || at.saturating_add(MADE_FOR) <= now)
        {
            self.oldest_first.pop_front();
            self.by_name.remove(&(key, operation));
            self.incomplete_until = self.incomplete_until.max(at.saturating_add(MADE_FOR));
        }
        let key = name_of(key);
        if self.by_name.insert((key, operation), dot).is_none() {
            self.oldest_first.push_back((now, key, operation));
        }
    }

    /// Whether nothing is missing that was made while an asker remembers.
    fn is_complete(&self, now: Millis) -> bool {
        self.incomplete_until <= now
    }

    /// What was made last may not have been stored.
    pub(super) fn doubt(&mut self) {
        *self = Self { incomplete_until: Millis::MAX, ..Self::default() };
    }
}

fn name_of(key: &RecordKey) -> u64 {
    seeded(key.as_bytes(), 0)
}

impl Minter {
    /// The change that `modify` comes to. `news` is what other replicas hold of the record, if they were asked.
    pub(crate) fn modify(
        &mut self,
        env: &Environment<'_>,
        kind: Kind,
        modify: &Modify,
        news: Option<&Record>,
    ) -> Result<Minted, WriteError> {
        let (key, operation, now) = (&modify.key, modify.operation, env.now.monotonic);
        let mut stored = read(env, Rule::Crdt(kind), key)?;
        if let Some(news) = news {
            stored = stored.join(news).map_err(|mismatch| WriteError::Store(mismatch.to_string()))?;
        }
        let seen = modify.context.as_ref().map(|context| context.open(key)).transpose()?;
        let after = modify.after.as_ref().map(|context| context.open(key)).transpose()?.unwrap_or_default();
        if !modify.update.commutes() && !stored.context().covers(&after) && !sabotaged!(WriteOutsideSession) {
            return Err(UpdateRefused::ContextAhead.into());
        }
        let known = seen.clone().unwrap_or_default();
        let counts = modify.update.counts() && !sabotaged!(CountRetriedUpdates);
        if counts {
            let held = stored.crdt().and_then(|value| value.counted(&modify.update, operation));
            if let Some(dot) = held.or_else(|| self.made.find(key, operation)) {
                let written = written(key, dot, stored.birth_max(), &known);
                return Ok(Minted {
                    change: stored.to_bytes(),
                    record: None,
                    written,
                    meta: Batch::new(),
                    epoch: None,
                });
            }
            if let Attempt::Again { asked } = modify.attempt
                && (asked != Some((env.me.node, env.me.boot)) || !self.made.is_complete(now))
            {
                return Err(WriteError::Ambiguous { operation, acknowledged: 0, fallbacks: 0, required: 0 });
            }
        }
        let mut epoch = env.me.epoch;
        if forgot(env.me.actor(), &known.join(&after), stored.context(), 0) {
            // As for siblings: a client remembers a dot of ours that our store does not.
            epoch += 1;
        }
        let actor = Actor { epoch, ..env.me.actor() };
        check_counter(actor, &VersionVector::new(), stored.context())?;
        let mut clock = self.clock.clone();
        let birth = clock.mint(env.now.wall, stored.birth_max())?;
        let observed = if sabotaged!(ClearUnseen) { None } else { seen.as_ref() };
        let name = (!sabotaged!(CountRetriedUpdates)).then_some(operation);
        let delta = stored.updated(actor, 0, birth, name, observed, &modify.update)?;
        let joined = stored.join(&delta).map_err(|mismatch| WriteError::Store(mismatch.to_string()))?;
        let record = joined.to_bytes();
        if record.len() > self.record_bytes_max {
            return Err(WriteError::RecordTooLarge { bytes: record.len(), bytes_max: self.record_bytes_max });
        }
        self.clock = clock;
        let dot = Dot { actor, counter: delta.context().counter_max(actor) };
        // The total of a counter holds what others have counted, which whoever adds to it has not seen.
        let told = if modify.update.counts() { known } else { known.join(delta.context()) };
        if counts {
            self.made.add(now, key, operation, dot);
        }
        let adds = || delta.crdt().is_some_and(DotStore::is_live) || sabotaged!(OfferNothing);
        let whole = if modify.update.replaces() { !sabotaged!(RemoveByDelta) } else { !adds() };
        let change = if whole { record.clone() } else { delta.to_bytes() };
        let meta = self.remember(env, epoch);
        Ok(Minted {
            change,
            record: Some(record),
            written: written(key, dot, birth, &told),
            meta,
            epoch: (epoch != env.me.epoch).then_some(epoch),
        })
    }
}
