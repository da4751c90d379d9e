//! How a replica gives a write its dot and its stamp.
//!
//! Only the replica that mints reads the record first; everybody else joins blindly. It runs in the queue of one worker,
//! against a view that holds what the same turn has already decided, so two writes of one key never read the same state
//! (rule P5).

pub(crate) mod modify;

use bytes::Bytes;
use kv_core::Expiry;
use kv_core::codec::DecodeError;
use kv_core::conflict::{NotAdmitted, admit};
use kv_core::context::InvalidContext;
use kv_core::hlc::{HighWater, Hlc, Stamp};
use kv_core::key::RecordKey;
use kv_core::record::{Payload, Record, Rule, Version};
use kv_core::store::{Batch, Space};
use kv_core::time::{Millis, Now};
use kv_core::version::{Actor, Span, VersionVector};

use crate::config::Settings;
use crate::identity::Identity;
use crate::machine::Environment;
use crate::request::{Put, WriteError, Written};

/// How far ahead of the stamps the durable mark is kept. A restart may begin this far ahead of the wall, so it is less
/// than the bound on drift.
pub(crate) const MARK_AHEAD: Millis = Millis(400);

/// Where the mark is stored.
pub(crate) const MARK_KEY: &[u8] = b"clock";

/// Mints dots and stamps for one node.
#[derive(Debug)]
pub(crate) struct Minter {
    clock: Hlc,
    /// No stamp above it was ever minted, by this life or an earlier one: what is stored, or on its way there.
    mark: HighWater,
    /// The epoch that is stored, or on its way there.
    saved_epoch: u32,
    siblings_max: usize,
    record_bytes_max: usize,
    made: modify::Made,
}

/// A write that has got its name.
#[derive(Debug)]
pub(crate) struct Minted {
    /// The change to send to the other replicas, or the whole record when the write was there already.
    pub(crate) change: Bytes,
    /// What the record is with the change, to be stored here; nothing when the write was there already.
    ///
    /// The whole record and not the change: it has just been read, and a store finds it later without folding what lies
    /// beneath.
    pub(crate) record: Option<Bytes>,
    /// The name, and the context for the writer's next write. How many replicas acknowledged is filled in later.
    pub(crate) written: Written,
    /// What the node must remember about itself before the change may leave it.
    pub(crate) meta: Batch,
    /// A new epoch, when the one before is in doubt.
    pub(crate) epoch: Option<u32>,
}

impl Minter {
    /// A minter that continues above the mark that an earlier life stored.
    pub(crate) fn new(settings: &Settings, mark: Stamp, me: &Identity) -> Self {
        Self {
            clock: Hlc::new(mark, settings.clock_drift_max),
            mark: HighWater::new(mark, MARK_AHEAD),
            saved_epoch: me.epoch,
            siblings_max: settings.siblings_max,
            record_bytes_max: settings.record_bytes_max,
            made: modify::Made::default(),
        }
    }

    /// What was on its way to the store did not arrive.
    pub(crate) fn store_failed(&mut self) {
        self.made.doubt();
        self.mark.lost();
        self.saved_epoch = 0;
    }

    /// A stamp from elsewhere, which later stamps should top where the drift bound allows.
    pub(crate) fn observe(&mut self, stamp: Stamp, now: Now) {
        self.clock.observe(stamp, now.wall);
    }

    /// No stamp above it was ever minted here.
    pub(crate) const fn last(&self) -> Stamp {
        self.clock.last()
    }

    pub(crate) fn mint(&mut self, env: &Environment<'_>, rule: Rule, put: &Put) -> Result<Minted, WriteError> {
        let stored = read(env, rule, &put.key)?;
        let copy = |version: &Version| version.operation == Some(put.operation) && !sabotaged!(MintRetriesAgain);
        if let Some((dot, version)) = stored.versions().iter().find(|(_, version)| copy(version)) {
            // The writer learns what it had seen, and its own write, and nothing that others wrote meanwhile. What it has seen
            // since its first attempt may not be here; whoever acknowledges the copy does not speak for that.
            let seen = put.context.as_ref().map_or(Ok(VersionVector::new()), |context| context.open(&put.key))?;
            let is_held = rule != Rule::Siblings || stored.context().covers(&seen) || sabotaged!(SettleUnheld);
            let mut seen = if is_held { seen } else { VersionVector::new() };
            seen.insert(*dot);
            let seen = if sabotaged!(TellUnseen) { stored.context() } else { &seen };
            let written = written(&put.key, *dot, version.birth, seen);
            return Ok(Minted { change: stored.to_bytes(), record: None, written, meta: Batch::new(), epoch: None });
        }
        let seen = match (&put.context, &put.payload) {
            (Some(context), _) => context.open(&put.key)?,
            // Nothing can be read from a delete, so one that names nothing removes what its replica sees.
            (None, Payload::Tombstone) => stored.context().clone(),
            (None, Payload::Value(_)) if sabotaged!(CoverUnseen) => stored.context().clone(),
            (None, Payload::Value(_)) => VersionVector::new(),
        };
        let expiry = match put.ttl {
            Some(ttl) => Expiry::after(env.now.wall, ttl)?,
            None => Expiry::NEVER,
        };
        let floor = env.floors.of_key(env.catalog, &put.key);
        let mut epoch = env.me.epoch;
        if rule == Rule::Siblings && forgot(env.me.actor(), &seen, stored.context(), floor.counter_max) {
            // A client remembers a dot of ours that our store does not: counters of this actor cannot be trusted.
            epoch += 1;
        }
        let actor = Actor { epoch, ..env.me.actor() };
        if rule == Rule::Siblings {
            check_counter(actor, &seen, stored.context())?;
        }
        let mut clock = self.clock.clone();
        let promised = if sabotaged!(MintBelowPromise) { Stamp::ZERO } else { floor.promised };
        let birth = clock.mint(env.now.wall, stored.birth_max().max(session(rule, &seen)).max(promised))?;
        let version = Version { birth, payload: put.payload.clone(), expiry, operation: Some(put.operation) };
        let change = match rule {
            Rule::Siblings => stored.sibling(actor, 0, &seen.join(&floor.counted(actor, stored.context())), version),
            Rule::LastWriteWins => Record::last_write(actor, version),
            Rule::Crdt(_) => return Err(WriteError::WrongTable { rule }),
        };
        let siblings_max = if sabotaged!(NoSiblingsLimit) { usize::MAX } else { self.siblings_max };
        let joined = admit(&stored, &change, siblings_max).map_err(|refused| match refused {
            NotAdmitted::TooManySiblings { held, held_max } => WriteError::TooManySiblings { held, held_max },
            NotAdmitted::RuleMismatch(mismatch) => WriteError::Store(mismatch.to_string()),
        })?;
        let record = joined.to_bytes();
        if record.len() > self.record_bytes_max {
            return Err(WriteError::RecordTooLarge { bytes: record.len(), bytes_max: self.record_bytes_max });
        }
        self.clock = clock;
        let (dot, _) = change.versions()[0];
        let written = written(&put.key, dot, birth, change.context());
        let meta = self.remember(env, epoch);
        // A write that nothing stands beside is all there is.
        let change = if joined == change { record.clone() } else { change.to_bytes() };
        Ok(Minted { change, record: Some(record), written, meta, epoch: (epoch != env.me.epoch).then_some(epoch) })
    }

    fn remember(&mut self, env: &Environment<'_>, epoch: u32) -> Batch {
        let mut meta = Batch::new();
        if let Some(mark) = self.mark.raise(self.clock.last()) {
            meta.put(Space::META, MARK_KEY, &mark.0.to_le_bytes());
        }
        if self.saved_epoch != epoch {
            self.saved_epoch = epoch;
            Identity { epoch, ..*env.me }.save(false, &mut meta);
        }
        meta
    }
}

/// The record at this replica.
fn read(env: &Environment<'_>, rule: Rule, key: &RecordKey) -> Result<Record, WriteError> {
    let mut found = None;
    if env.caches.are_of(key.table()) {
        found = env.caches.peek(key, env.me.actor()).map(|bytes| Record::decode(&bytes));
        return held(rule, found);
    }
    env.view
        .get(Space::DATA, key.as_bytes(), &mut |bytes| found = Some(Record::decode_slice(bytes)))
        .map_err(|error| WriteError::Store(error.to_string()))?;
    held(rule, found)
}

fn held(rule: Rule, found: Option<Result<Record, DecodeError>>) -> Result<Record, WriteError> {
    match found {
        None => Ok(Record::empty(rule)),
        Some(Ok(record)) if record.rule() == rule => Ok(record),
        Some(Ok(_)) => Err(WriteError::Store("the record is not of the table's rule".to_owned())),
        Some(Err(error)) => Err(WriteError::Store(error.to_string())),
    }
}

/// What the writer's context says its stamp must top: the dots of last-write-wins records count by stamp.
fn session(rule: Rule, seen: &VersionVector) -> Stamp {
    match rule {
        Rule::Siblings | Rule::Crdt(_) => Stamp::ZERO,
        Rule::LastWriteWins => seen.spans().iter().map(|span| Stamp(span.last)).max().unwrap_or(Stamp::ZERO),
    }
}

/// Whether `seen` holds a dot of `actor` that `stored` has never heard of. Up to `counted`, records that are gone may have had it.
fn forgot(actor: Actor, seen: &VersionVector, stored: &VersionVector, counted: u64) -> bool {
    let mine = |vector: &VersionVector| -> Vec<_> {
        vector.spans().iter().filter(|span| span.actor == actor).copied().collect()
    };
    let (seen, stored) = (mine(seen), mine(stored));
    let knows = |span: &Span| stored.iter().any(|held| held.first <= span.first && span.last <= held.last);
    seen.iter().any(|span| span.last > counted && !knows(span))
}

/// Whether an actor can count on. None gets to the end by counting: somebody has made up a context, or a record.
fn check_counter(actor: Actor, seen: &VersionVector, stored: &VersionVector) -> Result<(), WriteError> {
    let what = "a counter that nobody counts to";
    if seen.counter_max(actor) == u64::MAX {
        return Err(InvalidContext::Malformed(DecodeError { offset: 0, what }).into());
    }
    if stored.counter_max(actor) == u64::MAX {
        return Err(WriteError::Store(what.to_owned()));
    }
    Ok(())
}

fn written(key: &RecordKey, dot: kv_core::version::Dot, birth: Stamp, seen: &VersionVector) -> Written {
    Written { dot, birth, context: kv_core::context::CausalContext::seal(key, seen), acknowledged: 0, fallbacks: 0 }
}
