//! What a read at a sequence number and a time sees of one key: the newest value, merge operands folded onto it, nothing of
//! what was deleted or has expired.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use kv_core::store::{Fold, Folded, MergeOperator};

use crate::blob::files::BlobFiles;
use crate::error::Error;
use crate::health::Health;
use crate::internal_key::{Kind, Trailer, is_expired, split_expiry};
use crate::time::{AsOf, Moment};

/// How much of a value a read wants. What it does not want it does not read (rule E13).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Want {
    /// All of it.
    Value,
    /// So many bytes from its start, as many as the keyspace keeps inline.
    Head(usize),
    /// Only whether there is one.
    Presence,
}

/// What is the same for all keys of one read. Borrowed, so that a read of one key touches no reference count.
#[derive(Copy, Clone)]
pub(crate) struct ReadRules<'a> {
    pub(crate) keyspace: u32,
    pub(crate) sequence: u64,
    pub(crate) as_of: AsOf<'a>,
    pub(crate) operator: Option<&'a dyn MergeOperator>,
    pub(crate) want: Want,
    pub(crate) health: &'a Health,
}

impl ReadRules<'_> {
    /// Whether the newest version of a key, if no deleted range covers it, is its value as it lies there.
    pub(crate) fn is_plain(&self, trailer: Trailer) -> bool {
        trailer.kind() == Kind::Put
            && !trailer.is_expiring()
            && !trailer.is_separated()
            && self.want == Want::Value
            && trailer.sequence() <= self.health.trusted_sequence()
    }
}

/// The same for a scan, which may outlive the handle that began it.
#[derive(Clone)]
pub(crate) struct ScanRules {
    pub(crate) keyspace: u32,
    pub(crate) moment: Moment,
    pub(crate) want: Want,
    /// How many bytes of each value the keyspace keeps inline.
    pub(crate) head_bytes: usize,
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
    pub(crate) health: Arc<Health>,
}

impl ScanRules {
    /// Whether the scan sees a version, and it is a value as it lies there ([`ReadRules::is_plain`]).
    #[inline]
    pub(crate) fn sees_plain(&self, trailer: Trailer) -> bool {
        trailer.sequence() <= self.moment.sequence && self.rules().is_plain(trailer)
    }

    pub(crate) fn rules(&self) -> ReadRules<'_> {
        ReadRules {
            keyspace: self.keyspace,
            sequence: self.moment.sequence,
            as_of: AsOf::At(self.moment.as_of),
            operator: self.operator.as_deref(),
            want: self.want,
            health: &self.health,
        }
    }
}

/// Merge operands, newest first, in one run of bytes.
#[derive(Default)]
pub(crate) struct Operands {
    bytes: Vec<u8>,
    parts: Vec<Range<usize>>,
}

impl Operands {
    fn push(&mut self, operand: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(operand);
        self.parts.push(start..self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }
}

/// Takes the versions of one key, newest first, and hands the value that they come to on to `found`.
pub(crate) struct Resolver<'a> {
    rules: ReadRules<'a>,
    /// Where separated values lie.
    blobs: Option<&'a BlobFiles>,
    key: &'a [u8],
    operands: &'a mut Operands,
    found: &'a mut dyn FnMut(&[u8]),
    /// Number of the newest deleted range that covers the key: what is older is gone.
    covered: u64,
    /// Number of the last version that was added.
    last: u64,
    outcome: Option<Result<bool, Error>>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        rules: ReadRules<'a>,
        blobs: Option<&'a BlobFiles>,
        key: &'a [u8],
        operands: &'a mut Operands,
        found: &'a mut dyn FnMut(&[u8]),
    ) -> Self {
        operands.clear();
        Self { rules, blobs, key, operands, found, covered: 0, last: u64::MAX, outcome: None }
    }

    /// The key is covered by a range that was deleted at `sequence`; zero when there is none.
    pub(crate) fn cover(&mut self, sequence: u64) {
        if sequence > self.covered {
            self.trust(sequence);
            self.covered = sequence;
        }
    }

    /// Whether versions in older sources cannot matter any more.
    pub(crate) const fn is_settled(&self) -> bool {
        self.outcome.is_some() || self.covered > 0
    }

    pub(crate) const fn is_decided(&self) -> bool {
        self.outcome.is_some()
    }

    /// Rule E6: what is not durable is not read after a failed sync.
    fn trust(&mut self, sequence: u64) {
        if sequence > self.rules.health.trusted_sequence() {
            let reason = self.rules.health.reason().unwrap_or("a sync failed").to_owned();
            self.outcome = Some(Err(Error::Poisoned { reason }));
        }
    }

    /// Whether the next older version, with this trailer, is the value as it lies there, and nothing else matters. Then it need
    /// not be added.
    pub(crate) fn is_plain(&self, trailer: Trailer) -> bool {
        self.outcome.is_none()
            && self.operands.parts.is_empty()
            && trailer.sequence() >= self.covered
            && self.rules.is_plain(trailer)
    }

    /// The next older version. Breaks when no older one matters.
    pub(crate) fn add(&mut self, trailer: Trailer, value: &[u8]) -> ControlFlow<()> {
        // Sources are asked from the newest to the oldest, for what the read may see. Damage whose checksums are right can say
        // otherwise.
        if trailer.sequence() > self.rules.sequence || trailer.sequence() >= self.last {
            let directory = self.blobs.map_or(Path::new(""), |blobs| &blobs.directory);
            self.outcome = Some(Err(Error::corrupt(directory, 0, "expected the versions of a key newest first")));
            return ControlFlow::Break(());
        }
        self.last = trailer.sequence();
        if trailer.sequence() < self.covered {
            return ControlFlow::Break(());
        }
        self.trust(trailer.sequence());
        if self.outcome.is_some() {
            return ControlFlow::Break(());
        }
        match trailer.kind() {
            Kind::Merge => {
                self.operands.push(value);
                return ControlFlow::Continue(());
            }
            Kind::Put => {
                let (expiry, value) = split_expiry(trailer, value);
                if sabotaged!(ExpiredIsMissing) && expiry.is_some_and(|at| is_expired(at, self.rules.as_of.time())) {
                    return ControlFlow::Continue(());
                }
                // What has expired is a delete, never "missing": it goes on hiding what is older (rule E12).
                let base = match expiry {
                    Some(expire_at) if is_expired(expire_at, self.rules.as_of.time()) => None,
                    _ => Some(value),
                };
                self.outcome = Some(match base {
                    Some(pointer) if trailer.is_separated() => self.follow(pointer),
                    base => self.decide(base),
                });
            }
            Kind::Delete => self.outcome = Some(self.decide(None)),
        }
        ControlFlow::Break(())
    }

    /// Below the operands lies `base`, and nothing older matters.
    fn decide(&mut self, base: Option<&[u8]>) -> Result<bool, Error> {
        match base {
            Some(value) if self.operands.parts.is_empty() => {
                self.hand_on(value);
                Ok(true)
            }
            base => self.fold(base),
        }
    }

    /// The same with a base that lies in a blob file: it is read only if it is wanted, or something folds onto it.
    fn follow(&mut self, pointer: &[u8]) -> Result<bool, Error> {
        let blobs =
            self.blobs.expect("only tables hold pointers, and their files belong to the version that names them");
        match self.rules.want {
            Want::Presence if self.operands.parts.is_empty() => self.hand_on(&[]),
            Want::Head(_) if self.operands.parts.is_empty() => self.hand_on(blobs.pointer(pointer)?.prefix),
            _ => return blobs.look_at(self.key, pointer, |value| self.decide(Some(value)))?,
        }
        Ok(true)
    }

    fn hand_on(&mut self, value: &[u8]) {
        let wanted = match self.rules.want {
            Want::Value => value.len(),
            Want::Head(bytes) => bytes.min(value.len()),
            Want::Presence => 0,
        };
        (self.found)(&value[..wanted]);
    }

    /// There are no more versions. Returns whether there is a value; `found` was called if there is.
    pub(crate) fn finish(mut self) -> Result<bool, Error> {
        match self.outcome.take() {
            Some(outcome) => outcome,
            None => self.fold(None),
        }
    }

    fn fold(&mut self, base: Option<&[u8]>) -> Result<bool, Error> {
        if self.operands.parts.is_empty() {
            return Ok(false);
        }
        let keyspace = self.rules.keyspace;
        let operator = self.rules.operator.ok_or(Error::NoMergeOperator { keyspace })?;
        let oldest_first: Vec<&[u8]> =
            self.operands.parts.iter().rev().map(|part| &self.operands.bytes[part.clone()]).collect();
        let mut out = Vec::new();
        let how = Fold::Complete { as_of: self.rules.as_of.time() };
        match operator.fold(self.key, base, &oldest_first, how, &mut out) {
            Ok(Folded::Value) => {
                self.hand_on(&out);
                Ok(true)
            }
            Ok(Folded::Absent) => Ok(false),
            Err(corrupt) => Err(Error::Merge { keyspace, reason: corrupt.what }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_a_wrong_order_are_damage() {
        let health = Health::new();
        let as_of = AsOf::At(kv_core::time::Millis(0));
        let rules = ReadRules { keyspace: 1, sequence: 9, as_of, operator: None, want: Want::Value, health: &health };
        for (sequences, is_damage) in [(&[9, 7, 5][..], false), (&[7, 7], true), (&[5, 6], true), (&[10], true)] {
            let (mut operands, mut found) = (Operands::default(), |_: &[u8]| panic!("there is no value"));
            let mut resolver = Resolver::new(rules, None, b"k", &mut operands, &mut found);
            let last =
                sequences.iter().map(|&sequence| resolver.add(Trailer::new(sequence, Kind::Merge), b"+1")).last();
            assert_eq!(last, Some(if is_damage { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }));
            let result = resolver.finish();
            match is_damage {
                true => assert!(matches!(result, Err(Error::Corrupt { .. })), "{sequences:?}: {result:?}"),
                false => assert!(matches!(result, Err(Error::NoMergeOperator { keyspace: 1 })), "{result:?}"),
            }
        }
    }
}
