//! What a read at a sequence number and a time sees of one key: the newest value, merge operands folded onto it, nothing of
//! what was deleted or has expired.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use kv_core::store::{Fold, Folded, MergeOperator};

use crate::error::Error;
use crate::health::Health;
use crate::internal_key::{Kind, Trailer, is_expired, split_expiry};
use crate::time::{AsOf, Moment};

/// What is the same for all keys of one read. Borrowed, so that a read of one key touches no reference count.
#[derive(Copy, Clone)]
pub(crate) struct ReadRules<'a> {
    pub(crate) keyspace: u32,
    pub(crate) sequence: u64,
    pub(crate) as_of: AsOf<'a>,
    pub(crate) operator: Option<&'a dyn MergeOperator>,
    pub(crate) health: &'a Health,
}

/// The same for a scan, which may outlive the handle that began it.
#[derive(Clone)]
pub(crate) struct ScanRules {
    pub(crate) keyspace: u32,
    pub(crate) moment: Moment,
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
    pub(crate) health: Arc<Health>,
}

impl ScanRules {
    pub(crate) fn rules(&self) -> ReadRules<'_> {
        ReadRules {
            keyspace: self.keyspace,
            sequence: self.moment.sequence,
            as_of: AsOf::At(self.moment.as_of),
            operator: self.operator.as_deref(),
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
    key: &'a [u8],
    operands: &'a mut Operands,
    found: &'a mut dyn FnMut(&[u8]),
    /// Number of the newest deleted range that covers the key: what is older is gone.
    covered: u64,
    outcome: Option<Result<bool, Error>>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        rules: ReadRules<'a>,
        key: &'a [u8],
        operands: &'a mut Operands,
        found: &'a mut dyn FnMut(&[u8]),
    ) -> Self {
        operands.clear();
        Self { rules, key, operands, found, covered: 0, outcome: None }
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

    /// The next older version. Breaks when no older one matters.
    pub(crate) fn add(&mut self, trailer: Trailer, value: &[u8]) -> ControlFlow<()> {
        debug_assert!(trailer.sequence() <= self.rules.sequence, "a read is bounded by its sequence number");
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
                // What has expired is a delete, never "missing": it goes on hiding what is older (rule E12).
                let base = match expiry {
                    Some(expire_at) if is_expired(expire_at, self.rules.as_of.time()) => None,
                    _ => Some(value),
                };
                self.decide(base);
            }
            Kind::Delete => self.decide(None),
        }
        ControlFlow::Break(())
    }

    /// Below the operands lies `base`, and nothing older matters.
    fn decide(&mut self, base: Option<&[u8]>) {
        self.outcome = Some(match base {
            Some(value) if self.operands.parts.is_empty() => {
                (self.found)(value);
                Ok(true)
            }
            base => self.fold(base),
        });
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
                (self.found)(&out);
                Ok(true)
            }
            Ok(Folded::Absent) => Ok(false),
            Err(corrupt) => Err(Error::Merge { keyspace, reason: corrupt.what }),
        }
    }
}
