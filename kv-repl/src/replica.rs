//! Holds records for whoever coordinates: joins changes blindly, and reads.
//!
//! Both answers wait until what they speak of is durable here (rule P3): a change is acknowledged by the store's sync and
//! by nothing else, and a read that saw a change which is not durable yet waits for it too.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hash::seeded;
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use crate::caches::NotTaken;
use crate::config::Settings;
use crate::digest::digest;
use crate::floors::{Arrived, arrive};
use crate::lister::{Asked, list};
use crate::machine::{Action, Environment, Event, Machine, Notice, Release, Stripe};
use crate::message::{Message, Refusal};
use crate::status::Standing;
use crate::storages::enlighten;

/// The machine of a replica. All that matters is in the store.
#[derive(Debug)]
pub(crate) struct Replica {
    /// How many changes were joined blindly since the last fold, counted together for keys that share a slot. A key that
    /// is written often is folded now and then, so that no read finds thousands of changes to join.
    unfolded: Vec<u8>,
    /// Most bytes in one list of keys, but for a single one.
    list_bytes_max: usize,
}

/// One write in so many reads the record, joins, and stores the whole.
const FOLD_EVERY: u8 = 32;
const SLOTS: usize = 4096;

impl Replica {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { unfolded: vec![0; SLOTS], list_bytes_max: settings.record_bytes_max }
    }

    fn write(
        &mut self,
        env: &Environment<'_>,
        epoch: u64,
        key: &RecordKey,
        record: &Bytes,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let rule = check(env, epoch, key)?;
        let change = Record::decode(record).map_err(|_| Refusal::Damaged)?;
        if change.rule() != rule {
            return Err(Refusal::Damaged);
        }
        if env.caches.are_of(key.table()) {
            match env.caches.admits(key, &change, record.len()) {
                Ok(()) => {}
                Err(NotTaken::Early) => return Err(Refusal::Early),
                Err(NotTaken::Full) => {
                    out.push(Action::Notify(Notice::CacheFull(key.table())));
                    return Err(Refusal::Full);
                }
            }
            out.push(Action::Notify(Notice::Observed(change.birth_max())));
            out.push(Action::Cache { key: key.clone(), change });
            return Ok(());
        }
        let mut batch = Batch::new();
        let settled = env.floors.of_key(env.catalog, key).level.settled;
        if self.folds_now(key) || change.versions().iter().any(|(_, version)| version.birth <= settled) {
            let held = Self::held(env, key)?.map(|held| Record::decode(&held)).transpose();
            match arrive(held.map_err(|_| Refusal::Damaged)?.as_ref(), &change, settled) {
                Arrived::Joined(Some(joined)) => batch.put(Space::DATA, key.as_bytes(), &joined.to_bytes()),
                Arrived::Joined(None) => batch.delete(Space::DATA, key.as_bytes()),
                // It is known here, as the nothing that is left of it.
                Arrived::Known => return counts(env, key),
                Arrived::Obsolete => return Err(Refusal::BelowFloor),
                Arrived::Unfit => return Err(Refusal::Damaged),
            }
        } else {
            batch.merge(Space::DATA, key.as_bytes(), record);
        }
        out.push(Action::Store { stripe: Stripe::of(key.token()), batch });
        out.push(Action::Notify(Notice::Observed(change.birth_max())));
        // It is stored, and counts for nothing as long as what was there before is missing.
        counts(env, key)
    }

    fn read(env: &Environment<'_>, epoch: u64, key: &RecordKey) -> Result<Option<Bytes>, Refusal> {
        check(env, epoch, key)?;
        counts(env, key)?;
        if env.caches.are_of(key.table()) {
            return Ok(env.caches.read(key, env.me.actor()));
        }
        Self::held(env, key)
    }

    /// The digest of what [`Replica::read`] comes to, without a copy of a record of the store.
    fn read_digest(env: &Environment<'_>, epoch: u64, key: &RecordKey) -> Result<u128, Refusal> {
        if env.caches.are_of(key.table()) {
            return Self::read(env, epoch, key).map(|record| digest(record.as_deref()));
        }
        check(env, epoch, key)?;
        counts(env, key)?;
        let mut found = None;
        let outcome = env.view.get(Space::DATA, key.as_bytes(), &mut |bytes| found = Some(digest(Some(bytes))));
        outcome.map_err(|_| Refusal::Damaged)?;
        Ok(found.unwrap_or_else(|| digest(None)))
    }

    fn folds_now(&mut self, key: &RecordKey) -> bool {
        let slot = usize::try_from(seeded(key.as_bytes(), 0) % SLOTS as u64).expect("less than the number of slots");
        self.unfolded[slot] = (self.unfolded[slot] + 1) % FOLD_EVERY;
        self.unfolded[slot] == 0
    }

    /// What the store holds of a key.
    pub(crate) fn held(env: &Environment<'_>, key: &RecordKey) -> Result<Option<Bytes>, Refusal> {
        let mut record = None;
        env.view
            .get(Space::DATA, key.as_bytes(), &mut |bytes| record = Some(Bytes::copy_from_slice(bytes)))
            .map_err(|_| Refusal::Damaged)?;
        Ok(record)
    }
}

/// The conflict rule of the key's table, if this node holds the key, in the epoch that the asker believes in.
pub(crate) fn check(env: &Environment<'_>, epoch: u64, key: &RecordKey) -> Result<kv_core::record::Rule, Refusal> {
    let Some(catalog) = env.catalog.filter(|_| env.standing == Standing::Serving) else {
        return Err(Refusal::NotServing);
    };
    let table = catalog.table(key.table()).ok_or(Refusal::UnknownTable)?;
    let replicas = table.replicas_of(key.token());
    let own_epoch = catalog.epoch_of(replicas);
    if epoch != own_epoch {
        return Err(Refusal::Fenced { epoch: own_epoch });
    }
    if !replicas.contains(&env.me.node) {
        return Err(Refusal::NotReplica);
    }
    Ok(table.options.rule)
}

/// Whether what this node says of a key counts.
fn counts(env: &Environment<'_>, key: &RecordKey) -> Result<(), Refusal> {
    if env.imports.lacks_key(env.catalog, key) { Err(Refusal::Importing) } else { Ok(()) }
}

impl Machine for Replica {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        let Event::Message { from, message } = event else { return };
        if let Some(retry_after) = env.overload.filter(|_| from != env.me.node) {
            return refuse(from, &message, Refusal::Overloaded { retry_after }, out);
        }
        match message {
            Message::Write { tag, epoch, key, record } => {
                let refused = self.write(env, epoch, &key, &record, out).err();
                if let Some(refusal) = refused {
                    enlighten(env, from, refusal, out);
                }
                reply(env, from, &key, Message::WriteReply { tag, refused }, out);
            }
            Message::Read { tag, epoch, key, digest: as_digest } => {
                let (message, refused) = if as_digest {
                    let outcome = Self::read_digest(env, epoch, &key);
                    let refused = outcome.err();
                    (Message::DigestReply { tag, outcome }, refused)
                } else {
                    let outcome = Self::read(env, epoch, &key);
                    let refused = outcome.as_ref().err().copied();
                    (Message::ReadReply { tag, outcome }, refused)
                };
                if let Some(refusal) = refused {
                    enlighten(env, from, refusal, out);
                }
                reply(env, from, &key, message, out);
            }
            Message::Scan { tag, epoch, from: start, until, keys_max, bytes_max, digests } => {
                let max = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
                let bytes_max = max(bytes_max).min(self.list_bytes_max);
                let asked = Asked { epoch, from: start, until, keys_max: max(keys_max), bytes_max, digests };
                let outcome = list(env, &asked);
                if let Err(refusal) = outcome {
                    enlighten(env, from, refusal, out);
                }
                let message = Message::Listed { tag, outcome };
                out.push(Action::Send { to: from, message, release: Release::Settled });
            }
            _ => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        None
    }
}

/// Answers at once that nothing was done.
fn refuse(to: NodeId, message: &Message, refusal: Refusal, out: &mut Vec<Action>) {
    let message = match *message {
        Message::Write { tag, .. } => Message::WriteReply { tag, refused: Some(refusal) },
        Message::Read { tag, digest: true, .. } => Message::DigestReply { tag, outcome: Err(refusal) },
        Message::Read { tag, digest: false, .. } => Message::ReadReply { tag, outcome: Err(refusal) },
        Message::Scan { tag, .. } => Message::Listed { tag, outcome: Err(refusal) },
        _ => return,
    };
    out.push(Action::Notify(Notice::Shed));
    out.push(Action::Send { to, message, release: Release::Now });
}

fn reply(env: &Environment<'_>, to: NodeId, key: &RecordKey, message: Message, out: &mut Vec<Action>) {
    // What is in memory only is never more durable than it is now.
    let is_cached = env.caches.are_of(key.table());
    let release = if is_cached { Release::Now } else { Release::Durable(Stripe::of(key.token())) };
    out.push(Action::Send { to, message, release });
}
