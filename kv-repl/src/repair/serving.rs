//! Answers the questions of replicas that have begun a comparison.
//!
//! Nothing is remembered between two questions but the ones whose hashes are still being computed; and those only until they are
//! answered, so many at a time. A question beyond is dropped; whoever asked asks again.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::store::StoreError;

use super::joining::{Joined, join};
use super::measure::Measure;
use super::site::Site;
use super::span::Span;
use super::tree::Reading;
use super::trees::Trees;
use crate::comparison::{Answer, Branch, Differing, Entry, Page, Place, Question};
use crate::machine::{Action, Environment};
use crate::message::Refusal;
use crate::storages::enlighten;

/// Most questions whose hashes are being computed.
const QUESTIONS_MAX: usize = 64;
/// Most branches in one of them.
const BRANCHES_MAX: usize = 1024;
/// Most records in one page of a list.
const PAGE_RECORDS_MAX: usize = 1024;
/// How many records are looked at for those that were asked for. More than a page, because some may have come in between.
const FETCH_READS_MAX: usize = 4 * PAGE_RECORDS_MAX;

/// Questions whose hashes are being computed.
#[derive(Debug)]
pub(super) struct Serving {
    /// Most bytes of records in an answer of more than one.
    bytes_max: usize,
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    from: NodeId,
    tag: u64,
    span: Span,
    theirs: Vec<u128>,
    settled: Stamp,
    measure: Measure,
}

/// An answer and who waits for it.
pub(super) struct Reply {
    pub(super) to: NodeId,
    pub(super) tag: u64,
    pub(super) answer: Result<Answer, Refusal>,
}

/// A question and who asks it.
pub(super) struct Asking {
    pub(super) from: NodeId,
    pub(super) tag: u64,
    pub(super) epoch: u64,
    pub(super) place: Place,
    pub(super) question: Question,
}

impl Serving {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, open: VecDeque::new() }
    }

    /// Whether hashes are to be computed.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes a question. Returns the answer unless hashes have to be computed first. Counts records that cannot be joined.
    pub(super) fn take(
        &mut self,
        env: &Environment<'_>,
        trees: &mut Trees,
        reading: &Reading<'_>,
        asking: Asking,
        unfit: &mut u64,
        out: &mut Vec<Action>,
    ) -> Option<Result<Answer, Refusal>> {
        let Asking { from, tag, epoch, place, question } = asking;
        let site = match Site::find(env, place, from) {
            Ok(site) if site.epoch != epoch => {
                let refusal = Refusal::Fenced { epoch: site.epoch };
                enlighten(env, from, refusal, out);
                return Some(Err(refusal));
            }
            Ok(_) if env.imports.lacks(place) => return Some(Err(Refusal::Importing)),
            Ok(site) => site,
            Err(refusal) => return Some(Err(refusal)),
        };
        match question {
            Question::Compare(branches) => {
                let settled = env.floors.of(place).level.settled;
                self.open(trees, &site, settled, (from, tag), &branches)
            }
            Question::List { branch, after } => Some(list(&site, reading, branch, after.as_ref(), self.bytes_max)),
            Question::Fetch { branch, after, keys } => {
                Some(fetch(&site, reading, branch, after.as_ref(), keys.into_iter().collect(), self.bytes_max))
            }
            Question::Join(records) => {
                let mut more = Vec::new();
                for (position, (key, record)) in (0..).zip(&records) {
                    match join(env, site.span, site.rule, key, record, out) {
                        Ok(Joined::AsSent) => {}
                        Ok(Joined::More) => more.push(position),
                        Err(_) => *unfit += 1,
                    }
                }
                Some(Ok(Answer::Joined(more)))
            }
        }
    }

    fn open(
        &mut self,
        trees: &mut Trees,
        site: &Site,
        settled: Stamp,
        (from, tag): (NodeId, u64),
        branches: &[(Branch, u128)],
    ) -> Option<Result<Answer, Refusal>> {
        if self.open.iter().any(|open| (open.from, open.tag) == (from, tag)) {
            return Some(Ok(Answer::Working));
        }
        if self.open.len() >= QUESTIONS_MAX {
            return None;
        }
        if branches.len() > BRANCHES_MAX {
            return Some(Err(Refusal::Damaged));
        }
        let named = branches.iter().map(|(branch, _)| *branch);
        let Some(measure) = Measure::begin(trees.tree(site.span), &site.tokens, named) else {
            return Some(Err(Refusal::NotReplica));
        };
        let theirs = branches.iter().map(|(_, hash)| *hash).collect();
        self.open.push_back(Open { from, tag, span: site.span, theirs, settled, measure });
        None
    }

    /// Computes hashes, one question after the other, and returns an answer once there is one.
    pub(super) fn step(&mut self, trees: &mut Trees, reading: &mut Reading<'_>) -> Option<Reply> {
        while reading.budget > 0 {
            let mut open = self.open.pop_front()?;
            let answer = match open.measure.step(trees.tree(open.span), reading) {
                Ok(true) => Ok(Answer::Differ { differing: open.differing(), settled: open.settled }),
                Ok(false) => {
                    // The next one has its turn.
                    self.open.push_back(open);
                    continue;
                }
                Err(_) => Err(Refusal::Damaged),
            };
            return Some(Reply { to: open.from, tag: open.tag, answer });
        }
        None
    }

    /// Drops every question: what was computed is in doubt, and whoever asked asks again.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }
}

impl Open {
    fn differing(&self) -> Vec<Differing> {
        let both = (0..).zip(self.theirs.iter().zip(self.measure.summaries()));
        both.filter(|(_, (theirs, own))| **theirs != own.sum)
            .map(|(position, (_, own))| Differing { position, records: own.records })
            .collect()
    }
}

fn list(
    site: &Site,
    reading: &Reading<'_>,
    branch: Branch,
    after: Option<&RecordKey>,
    bytes_max: usize,
) -> Result<Answer, Refusal> {
    let tokens = branch.tokens(&site.tokens).ok_or(Refusal::NotReplica)?;
    let records_max = (bytes_max / size_of::<Entry>()).clamp(1, PAGE_RECORDS_MAX);
    let mut entries = Vec::new();
    let mut last = Bytes::new();
    let mut end = None;
    scan(Span::new(site.place.table, &tokens), reading, after, &mut |key, record| {
        if entries.len() == records_max {
            end = Some(std::mem::take(&mut last));
            return ControlFlow::Break(());
        }
        entries.push(reading.printer.entry(key, record));
        if entries.len() == records_max {
            last = Bytes::copy_from_slice(key);
        }
        ControlFlow::Continue(())
    })
    .map_err(|_| Refusal::Damaged)?;
    let end = end.map(RecordKey::from_bytes).transpose().map_err(|_| Refusal::Damaged)?;
    Ok(Answer::List(Page { entries, end }))
}

fn fetch(
    site: &Site,
    reading: &Reading<'_>,
    branch: Branch,
    after: Option<&RecordKey>,
    mut wanted: BTreeSet<u64>,
    bytes_max: usize,
) -> Result<Answer, Refusal> {
    let tokens = branch.tokens(&site.tokens).ok_or(Refusal::NotReplica)?;
    let (mut records, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
    scan(Span::new(site.place.table, &tokens), reading, after, &mut |key, record| {
        looked_at += 1;
        if wanted.remove(&reading.printer.key(key)) {
            if bytes > 0 && bytes + key.len() + record.len() > bytes_max {
                return ControlFlow::Break(());
            }
            bytes += key.len() + record.len();
            if let Ok(key) = RecordKey::from_bytes(Bytes::copy_from_slice(key)) {
                records.push((key, Bytes::copy_from_slice(record)));
            }
        }
        if wanted.is_empty() || looked_at >= FETCH_READS_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .map_err(|_| Refusal::Damaged)?;
    Ok(Answer::Records(records))
}

fn scan(
    span: Span,
    reading: &Reading<'_>,
    after: Option<&RecordKey>,
    each: &mut kv_core::store::ScanFn<'_>,
) -> Result<(), StoreError> {
    span.scan(reading.view, after.map(|key| &key.as_bytes()[..]), each)
}
