//! What a reader sees of a record, how long it will, and how that is changed.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Body, Payload, Record, Version};
use crate::expiry::{Expiry, Ttl};
use crate::hlc::Stamp;
use crate::time::Millis;
use crate::version::{Actor, Dot, DottedVersionSet};

impl Record {
    /// The versions with a value that has not expired at `as_of` (wall time), oldest first.
    #[must_use]
    pub fn live(&self, as_of: Millis) -> Vec<(Dot, &Version, &Bytes)> {
        let visible = self.versions().iter().filter(|(_, version)| !version.expiry.is_past(as_of));
        let mut live: Vec<_> = visible
            .filter_map(|(dot, version)| match &version.payload {
                Payload::Value(value) => Some((*dot, version, value)),
                Payload::Tombstone => None,
            })
            .collect();
        live.sort_by_key(|(dot, version, _)| (version.birth, *dot));
        live
    }

    /// The values that a reader sees at `as_of` (wall time), oldest first. Copies of one operation that a retry wrote twice
    /// count once.
    #[must_use]
    pub fn values(&self, as_of: Millis) -> Vec<&Bytes> {
        let mut seen = BTreeSet::new();
        let live = self.live(as_of).into_iter();
        live.filter(|(_, version, _)| version.operation.is_none_or(|operation| seen.insert(operation)))
            .map(|(_, _, value)| value)
            .collect()
    }

    /// How long a reader will see something at `now` (wall time): as long as the last of the values. Nothing when there is
    /// nothing to see.
    #[must_use]
    pub fn ttl(&self, now: Millis) -> Option<Ttl> {
        self.live(now).into_iter().map(|(_, version, _)| version.expiry.ttl(now)).max()
    }

    /// The change that gives every value that a reader sees at `now` (wall time) another expiry, or nothing when there is
    /// nothing to see. The expiry comes from [`Expiring`](crate::expiry::Expiring).
    ///
    /// The expiry of a version never changes, so each value gets a new dot of `actor` above `counter_floor`, and the birth
    /// `birth`, and replaces its old self and nothing else. A value written at the same time elsewhere keeps its own expiry.
    ///
    /// # Panics
    /// When 64 bits of counter are used up.
    #[must_use]
    pub fn expiring(
        &self,
        actor: Actor,
        counter_floor: u64,
        birth: Stamp,
        now: Millis,
        expiry: Expiry,
    ) -> Option<Self> {
        let live = self.live(now);
        let again = |version: &Version| Version { birth, expiry, ..version.clone() };
        if let Body::LastWrite(_) = self.body {
            return live.first().map(|(_, version, _)| Self::last_write(actor, again(version)));
        }
        let used = self.context().counter_max(actor).max(counter_floor);
        let counters = (1..).map(|step| used.checked_add(step).expect("64 bits of counter outlast any actor"));
        let versions: Vec<(Dot, Version)> = live
            .iter()
            .zip(counters)
            .map(|((_, version, _), counter)| (Dot { actor, counter }, again(version)))
            .collect();
        let context = live.iter().map(|(dot, ..)| *dot).chain(versions.iter().map(|(dot, _)| *dot)).collect();
        let set = DottedVersionSet::from_parts(context, versions).expect("the context was made of the dots");
        (!live.is_empty()).then_some(Self::of_siblings(set))
    }
}
