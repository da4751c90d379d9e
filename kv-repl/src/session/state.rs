//! What a session knows, as a value: asked before each request, told after it.
//!
//! 1. A request asks what the session has seen of its key. A read has to be at least that new; a write replaces it, or is stamped
//!    above it.
//! 2. What the request saw or wrote is added.
//! 3. There is room for [`KEYS_MAX`] keys. A key is *settled* when what was seen of it is known to be held by more than half
//!    of its replicas. When room is needed the settled key that was used longest ago is forgotten: from then on, keys that the
//!    session does not know are read and written at a quorum, which sees whatever was forgotten. Keys that are not settled are never
//!    forgotten; when they, and requests that may unsettle others, fill the room, requests on all but them run at a quorum, so
//!    that they are settled at once.
//! 4. A request that was under way when its key was forgotten may have seen less than was forgotten. What is not settled of it is
//!    added as a *part* of what was seen: the key is read at a quorum as well, until that has shown the rest.
//!
//! Source of the guarantees: Terry and others, "Session guarantees for weakly consistent replicated data" (PDIS 1994).

use std::collections::BTreeMap;

use kv_core::context::CausalContext;
use kv_core::hash::seeded;
use kv_core::key::{RecordKey, TableId};
use kv_core::record::Rule;
use kv_core::version::VersionVector;

use crate::quorum::Consistency;
use crate::request::{Read, Written};
use crate::seen::{Floor, LastWrite, Seen};

/// Most keys a session knows.
pub const KEYS_MAX: usize = 64;

/// What was seen of one key never takes more in a token. Only requests that are under way at a time can bring it beyond
/// [`Floor::SEEN_BYTES_MAX`].
pub(super) const SEEN_BYTES_LIMIT: usize = 2 * Floor::SEEN_BYTES_MAX;

/// A write adds a dot, and a dot takes at most so many bytes.
const DOT_BYTES_MAX: usize = 48;

/// Names a key: the table, and 128 bits of hash.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) struct KeyName {
    pub(super) table: TableId,
    pub(super) hash: [u64; 2],
}

impl KeyName {
    fn of(key: &RecordKey) -> Self {
        // The second seed is any other number; both are part of the format of tokens.
        let bytes = key.as_bytes();
        Self { table: key.table(), hash: [seeded(bytes, 0), seeded(bytes, 0x7365_7373_696f_6e73)] }
    }
}

#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) seen: Seen,
    pub(super) settled: bool,
    /// More was seen, and forgotten.
    pub(super) is_part: bool,
    /// Greater is later.
    pub(super) used: u64,
}

/// What a session knows.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct SessionState {
    /// How many keys it may know.
    pub(super) room: usize,
    pub(super) entries: BTreeMap<KeyName, Entry>,
    /// The latest last-write-wins write of any key.
    pub(super) latest: Option<LastWrite>,
    /// Whether anything was forgotten.
    pub(super) forgot: bool,
    /// How often, since this value was made.
    pub(super) forgets: u64,
    pub(super) uses: u64,
    /// Requests under way that may leave a key which is not settled.
    pub(super) adding: usize,
}

impl Default for SessionState {
    fn default() -> Self {
        Self::with_room(KEYS_MAX)
    }
}

/// A key as the session sees its table: how its records conflict, how many replicas hold it, and whether others count for them
/// when it is written.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a RecordKey,
    pub(crate) rule: Rule,
    pub(crate) replicas: usize,
    pub(crate) sloppy: bool,
}

/// A request of the session that is under way.
#[derive(Debug)]
#[must_use = "a session is told what became of its requests"]
pub(crate) struct Ticket {
    name: KeyName,
    rule: Rule,
    replicas: usize,
    /// The level to ask at; at least what was asked for.
    pub(crate) consistency: Consistency,
    /// Whether replicas alone may count although the table is sloppy.
    pub(crate) strict: bool,
    /// Whether what is seen at this level is settled, whatever comes of the request.
    settles: bool,
    /// How often something had been forgotten when it began.
    forgets: u64,
}

impl SessionState {
    /// Nothing was seen yet. There is room for `room` keys: [`KEYS_MAX`], or fewer.
    pub(crate) fn with_room(room: usize) -> Self {
        let (entries, latest) = (BTreeMap::new(), None);
        Self { room: room.min(KEYS_MAX), entries, latest, forgot: false, forgets: 0, uses: 0, adding: 0 }
    }

    /// `settle` says that whatever comes of it does not fit, or is not known to be the latest.
    ///
    /// What fallbacks keep is held by no quorum: a write of a sloppy table settles nothing beforehand, unless it is made strict.
    fn ticket(&mut self, name: KeyName, subject: Subject<'_>, consistency: Consistency, settle: bool) -> Ticket {
        let Subject { rule, replicas, sloppy, .. } = subject;
        let sloppy = sloppy && !sabotaged!(SettleByFallbacks);
        let has_place = self.entries.get(&name).is_some_and(|entry| !entry.settled);
        let raise = settle || (!has_place && self.is_full() && !sabotaged!(OverbookSession));
        let consistency = match consistency.is_quorum_of(replicas) {
            false if raise => Consistency::Quorum,
            _ => consistency,
        };
        let strict = raise && sloppy;
        let settles = consistency.is_quorum_of(replicas) && (strict || !sloppy);
        self.adding += usize::from(!settles);
        Ticket { name, rule, replicas, consistency, strict, settles, forgets: self.forgets }
    }

    /// Whether keys that are not settled, and requests that may leave some, fill the room.
    fn is_full(&self) -> bool {
        self.entries.values().filter(|entry| !entry.settled).count() + self.adding >= self.room
    }

    /// A read is about to begin: at which level, and how new it has to be.
    pub(crate) fn read(&mut self, subject: Subject<'_>, consistency: Consistency) -> (Ticket, Floor) {
        let name = KeyName::of(subject.key);
        let entry = self.entries.get(&name);
        let forgotten = entry.is_none_or(|entry| entry.is_part) && self.forgot && !sabotaged!(ForgetOverflow);
        let seen = entry.map(|entry| entry.seen.clone());
        // Nobody stands in for a replica that is read.
        let ticket = self.ticket(name, Subject { sloppy: false, ..subject }, consistency, forgotten);
        (ticket, Floor { seen })
    }

    /// A write is about to begin, with the context that its client gives: at which level, and with which context.
    ///
    /// In a last-write-wins table it is stamped above what the session has seen. Elsewhere it replaces what the session has seen of
    /// the key, unless the client says itself what it replaces.
    pub(crate) fn write(
        &mut self,
        subject: Subject<'_>,
        consistency: Consistency,
        context: Option<CausalContext>,
    ) -> (Ticket, Option<CausalContext>) {
        let name = KeyName::of(subject.key);
        let entry = self.entries.get(&name);
        let known = entry.map(|entry| entry.seen.to_context());
        let latest = || self.latest.filter(|_| self.forgot).map(|last| VersionVector::of(last.dot()));
        let seen = match subject.rule {
            _ if sabotaged!(WriteOutsideSession) => None,
            Rule::LastWriteWins => known.or_else(latest),
            Rule::Siblings | Rule::Crdt(_) => known.filter(|_| context.is_none()),
        };
        // A context of another key, or one that was altered, is left for the write to be refused for.
        let given = context.as_ref().and_then(|context| context.open(subject.key).ok());
        let (context, covers) = match (seen, given) {
            (None, given) => (context, given.unwrap_or_default()),
            (Some(seen), None) if context.is_some() => (context, seen),
            (Some(seen), given) => {
                let covers = given.map_or(seen.clone(), |given| given.join(&seen));
                (Some(CausalContext::seal(subject.key, &covers)), covers)
            }
        };
        let fits = match entry.map(|entry| &entry.seen) {
            _ if subject.rule == Rule::LastWriteWins => true,
            Some(Seen::Writes(dots)) => fits_with_a_dot(&dots.join(&covers)),
            Some(Seen::Last(_)) | None => fits_with_a_dot(&covers),
        };
        // A write that cannot say what the session has seen of the key does not make the key known again. A last-write-wins
        // write comes after all of that, known or not.
        let knows = subject.rule == Rule::LastWriteWins || entry.is_some_and(|entry| !entry.is_part);
        let blind = self.forgot && !knows;
        (self.ticket(name, subject, consistency, !fits || blind), context)
    }

    /// A change of a data type is about to begin: at which level, and what its replica has to have seen.
    pub(crate) fn update(&mut self, subject: Subject<'_>, consistency: Consistency) -> (Ticket, Option<CausalContext>) {
        let name = KeyName::of(subject.key);
        let entry = self.entries.get(&name);
        let seen = entry.map(|entry| entry.seen.to_context());
        let fits = seen.as_ref().is_none_or(fits_with_a_dot);
        // A change that cannot say what the session has seen of the key does not make the key known again.
        let blind = self.forgot && entry.is_none_or(|entry| entry.is_part);
        let ticket = self.ticket(name, subject, consistency, !fits || blind);
        (ticket, seen.map(|seen| CausalContext::seal(subject.key, &seen)))
    }

    /// A read has been answered.
    pub(crate) fn saw(&mut self, ticket: &Ticket, read: &Read) {
        self.adding -= usize::from(!ticket.settles);
        if sabotaged!(ForgetSessionReads) {
            return;
        }
        if let Some(seen) = read.record().and_then(Seen::of) {
            // A read below a quorum of a record that does not fit was settled by whoever coordinated it.
            let settles = ticket.settles || !Floor::can_remember(read.record());
            let (is_part, shows_all) = (self.is_behind(ticket), ticket.settles && ticket.forgets == self.forgets);
            self.add(ticket.name, Found { seen, settles, is_part, shows_all });
        }
    }

    /// A write has been acknowledged.
    pub(crate) fn wrote(&mut self, ticket: &Ticket, is_tombstone: bool, key: &RecordKey, written: &Written) {
        self.adding -= usize::from(!ticket.settles);
        if sabotaged!(ForgetSessionWrites) {
            return;
        }
        let dot = written.dot;
        let seen = match ticket.rule {
            Rule::LastWriteWins => Seen::Last(LastWrite { birth: written.birth, is_tombstone, actor: dot.actor }),
            // Whoever holds the write knows of all that its context covers.
            Rule::Siblings => Seen::Writes(told(key, written)),
            Rule::Crdt(_) if sabotaged!(SettleUnheld) => Seen::Writes(told(key, written)),
            // A change travels by itself: whoever holds it need not know of anything else.
            Rule::Crdt(_) => Seen::Writes(VersionVector::of(dot)),
        };
        let is_part = match &seen {
            // Later than all that the session has ever seen.
            Seen::Last(last) => self.is_behind(ticket) && self.latest.is_some_and(|latest| latest > *last),
            // What was forgotten may be more; a read at a quorum sees both.
            Seen::Writes(_) => self.is_behind(ticket) || (self.forgot && !self.entries.contains_key(&ticket.name)),
        };
        let is_at_quorum = written.fallbacks == 0 && ticket.consistency.is_quorum_of(ticket.replicas);
        let settles = ticket.settles || is_at_quorum;
        self.add(ticket.name, Found { seen, settles, is_part, shows_all: false });
    }

    /// Whether a request may have begun when the session knew more of its key than it does now.
    fn is_behind(&self, ticket: &Ticket) -> bool {
        let forgotten = ticket.forgets != self.forgets && !self.entries.contains_key(&ticket.name);
        forgotten && !sabotaged!(TakePartForAll)
    }

    /// Whether it had to forget keys.
    pub(crate) const fn has_forgotten(&self) -> bool {
        self.forgot
    }

    /// A request has failed, or nobody waits for it any more.
    pub(crate) fn abandon(&mut self, ticket: &Ticket) {
        self.adding -= usize::from(!ticket.settles);
    }

    fn add(&mut self, name: KeyName, found: Found) {
        let Found { seen, settles, is_part, shows_all } = found;
        if let Seen::Last(last) = seen {
            self.latest = self.latest.max(Some(last));
        }
        if is_part && settles {
            // A read at a quorum sees it, and whatever was forgotten.
            return;
        }
        self.uses += 1;
        let used = self.uses;
        let entry = match self.entries.remove(&name) {
            None => Entry { seen, settled: settles, is_part, used },
            Some(before) => {
                let joined = before.seen.join(&seen);
                let (nothing_new, nothing_else) = (joined == before.seen, joined == seen);
                let settled = (before.settled && (settles || nothing_new)) || (settles && nothing_else);
                Entry { seen: joined, settled, is_part: before.is_part && !shows_all, used }
            }
        };
        let seen_bytes = entry.seen.encoded_bytes();
        if (entry.settled && seen_bytes > Floor::SEEN_BYTES_MAX) || seen_bytes > SEEN_BYTES_LIMIT {
            return self.forget();
        }
        self.entries.insert(name, entry);
        while self.entries.len() > self.room {
            let settled = self.entries.iter().filter(|(_, entry)| entry.settled);
            let Some(oldest) = settled.min_by_key(|(_, entry)| entry.used).map(|(name, _)| *name) else { return };
            self.entries.remove(&oldest);
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.forgot = true;
        self.forgets += 1;
    }
}

/// What a request has found out about a key.
struct Found {
    seen: Seen,
    settles: bool,
    /// The session has seen more, and forgotten it.
    is_part: bool,
    /// It has seen whatever the session had forgotten.
    shows_all: bool,
}

/// What a write had seen, and itself.
fn told(key: &RecordKey, written: &Written) -> VersionVector {
    let mut dots = written.context.open(key).unwrap_or_default();
    dots.insert(written.dot);
    dots
}

/// Whether what a write has seen fits into a token, and the write itself.
fn fits_with_a_dot(seen: &VersionVector) -> bool {
    let mut encoded = Vec::new();
    seen.encode(&mut encoded);
    encoded.len() + DOT_BYTES_MAX <= Floor::SEEN_BYTES_MAX
}

#[cfg(test)]
mod tests;
