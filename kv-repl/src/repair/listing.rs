//! One branch that is small enough to be gone through record by record, at the replica that begins.
//!
//! 1. Ask for the other one's records: a short name for each key, and one for what it holds there. Many come page by page.
//! 2. Go through this replica's own records of that page. Send those that the other one lacks or holds differently, and hear
//!    which of them it joined to something else than what was sent.
//! 3. Fetch those, and the ones that this replica lacks, and join them.
//!
//! So a record travels once where one replica has seen all that the other one has, and twice where both have seen something.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use kv_core::key::RecordKey;
use kv_core::store::StoreError;

use super::joining::join;
use super::site::Site;
use super::span::Span;
use super::tree::Reading;
use crate::comparison::{Answer, Branch, Page, Question};
use crate::machine::{Action, Environment};
use crate::repair_request::RepairTraffic;

/// Most records that one question asks for.
const FETCH_RECORDS_MAX: usize = 1024;

/// The branch and how far it has come.
#[derive(Debug)]
pub(super) struct Listing {
    branch: Branch,
    span: Span,
    /// Where the page begins.
    after: Option<RecordKey>,
    stage: Stage,
    /// Names of keys to be fetched.
    wanted: BTreeSet<u64>,
}

#[derive(Debug)]
enum Stage {
    Asking,
    Reading(Reader),
    Fetching { until: Option<RecordKey> },
}

/// Goes through this replica's own records.
#[derive(Debug)]
struct Reader {
    /// What the other one holds and this one has not come across.
    theirs: BTreeMap<u64, u64>,
    until: Option<RecordKey>,
    /// The last own key that was looked at.
    cursor: Option<Bytes>,
    /// Names of the keys under way to the other one.
    sent: Vec<u64>,
}

/// What comes next.
pub(super) enum Step {
    Ask(Question),
    /// The budget is used up.
    Pause,
    Done,
}

/// The other replica has answered something that cannot be.
pub(super) struct Unexpected;

impl Listing {
    pub(super) fn new(branch: Branch, site: &Site) -> Option<Self> {
        let span = Span::new(site.place.table, &branch.tokens(&site.tokens)?);
        Some(Self { branch, span, after: None, stage: Stage::Asking, wanted: BTreeSet::new() })
    }

    /// Goes on while no question is under way. A question carries records of at most `bytes_max`, or a single one.
    pub(super) fn step(&mut self, reading: &mut Reading<'_>, bytes_max: usize) -> Result<Step, StoreError> {
        loop {
            match &mut self.stage {
                Stage::Asking => {
                    return Ok(Step::Ask(Question::List { branch: self.branch, after: self.after.clone() }));
                }
                Stage::Reading(reader) => {
                    let (lacking, ended) = reader.read(self.span, reading, bytes_max)?;
                    if !lacking.is_empty() {
                        return Ok(Step::Ask(Question::Join(lacking)));
                    }
                    if !ended {
                        return Ok(Step::Pause);
                    }
                    self.wanted.extend(reader.theirs.keys());
                    self.stage = Stage::Fetching { until: reader.until.take() };
                }
                Stage::Fetching { until } => {
                    if !self.wanted.is_empty() {
                        let keys = self.wanted.iter().copied().take(FETCH_RECORDS_MAX).collect();
                        return Ok(Step::Ask(Question::Fetch { branch: self.branch, after: self.after.clone(), keys }));
                    }
                    match until.take() {
                        None => return Ok(Step::Done),
                        end => self.after = end,
                    }
                    self.stage = Stage::Asking;
                }
            }
        }
    }

    /// Takes the answer to the question that [`Listing::step`] asked. Returns how many records cannot be joined.
    pub(super) fn answered(
        &mut self,
        env: &Environment<'_>,
        site: &Site,
        reading: &Reading<'_>,
        answer: Answer,
        traffic: &mut RepairTraffic,
        out: &mut Vec<Action>,
    ) -> Result<u64, Unexpected> {
        match (&mut self.stage, answer) {
            (Stage::Asking, Answer::List(Page { entries, end })) => {
                // A page that does not lead on would be asked for for ever.
                let leads_on = |end: &RecordKey| self.span.holds(end) && Some(end) > self.after.as_ref();
                if !end.as_ref().is_none_or(leads_on) {
                    return Err(Unexpected);
                }
                self.stage = Stage::Reading(Reader {
                    theirs: entries.into_iter().map(|entry| (entry.key, entry.state)).collect(),
                    until: end,
                    cursor: self.after.as_ref().map(|key| key.as_bytes().clone()),
                    sent: Vec::new(),
                });
                Ok(0)
            }
            (Stage::Reading(reader), Answer::Joined(more)) => {
                let sent = std::mem::take(&mut reader.sent);
                traffic.records_sent += sent.len() as u64;
                let named = |position: u32| sent.get(usize::try_from(position).ok()?).copied();
                self.wanted.extend(more.into_iter().filter_map(named));
                Ok(0)
            }
            (Stage::Fetching { .. }, Answer::Records(records)) => {
                let before = self.wanted.len();
                let mut unfit = 0;
                for (key, record) in &records {
                    self.wanted.remove(&reading.printer.key(key.as_bytes()));
                    unfit += u64::from(join(env, self.span, site.rule, key, record, out).is_err());
                }
                traffic.records_received += records.len() as u64;
                if self.wanted.len() == before {
                    // The other one cannot send them any more.
                    self.wanted.clear();
                }
                Ok(unfit)
            }
            _ => Err(Unexpected),
        }
    }
}

impl Reader {
    /// Reads on. Returns records that the other one lacks or holds differently, and whether the page was read to its end.
    fn read(
        &mut self,
        span: Span,
        reading: &mut Reading<'_>,
        bytes_max: usize,
    ) -> Result<(Vec<(RecordKey, Bytes)>, bool), StoreError> {
        let mut lacking = Vec::new();
        let mut bytes = 0;
        let mut ended = true;
        let Reading { view, printer, budget } = reading;
        let Self { theirs, until, cursor, sent } = self;
        let after = cursor.clone();
        span.scan(*view, after.as_deref(), &mut |key, record| {
            if until.as_ref().is_some_and(|until| key > &until.as_bytes()[..]) {
                return ControlFlow::Break(());
            }
            let entry = printer.entry(key, record);
            let differs = theirs.get(&entry.key) != Some(&entry.state);
            let full = bytes > 0 && bytes + key.len() + record.len() > bytes_max;
            if *budget == 0 || (differs && full) {
                ended = false;
                return ControlFlow::Break(());
            }
            *budget -= 1;
            let key = Bytes::copy_from_slice(key);
            theirs.remove(&entry.key);
            // What the store holds under something else than a key is not this machine's to mend.
            if differs && let Ok(whole) = RecordKey::from_bytes(key.clone()) {
                bytes += key.len() + record.len();
                sent.push(entry.key);
                lacking.push((whole, Bytes::copy_from_slice(record)));
            }
            *cursor = Some(key);
            ControlFlow::Continue(())
        })?;
        Ok((lacking, ended))
    }
}
