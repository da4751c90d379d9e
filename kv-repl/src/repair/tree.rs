//! The hash tree over one partition, in memory.
//!
//! 1. The hash of a set of records is the sum of the hashes of each, modulo 2^128. So it does not depend on order, the hash
//!    of a branch is the sum of those below it, and trees that are cut differently can be compared branch by branch.
//! 2. The tree keeps only leaves. A leaf covers a run of tokens and holds at most [`LEAF_RECORDS_MAX`] records, or a single
//!    token; one that turns out to hold more is cut in two. So trees grow with their partitions.
//! 3. A leaf is unknown at first, unless it was noted in an earlier life ([`notes`](super::notes)), and dirty once a write has touched it. Either
//!    is read again only when somebody asks.
//! 4. Reading is cut into steps of as many records as the caller allows. A write behind the place that a step has reached
//!    begins the leaf anew, so what is known of a leaf was true of all of it at one moment.
//!
//! Sources: DeCandia and others, "Dynamo: Amazon's highly available key-value store" (SOSP 2007) for hash trees per key range, as
//! Cassandra builds for each repair and Riak keeps ("active anti-entropy") with dirty segments; Bellare and Micciancio, "A new
//! paradigm for collision-free hashing: incrementality at reduced cost" (Eurocrypt 1997) for sums of hashes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use kv_core::View;
use kv_core::hlc::Stamp;
use kv_core::record::Record;
use kv_core::store::StoreError;

#[cfg(any(test, feature = "sim"))]
use super::notes::Notes;
use super::print::Printer;
use super::span::Span;

/// Most records in a leaf of more than one token. A difference costs about one list of such a leaf, so smaller leaves
/// save bytes on the wire, and larger ones save memory: some 80 bytes each.
pub(super) const LEAF_RECORDS_MAX: u64 = 512;

/// The hash and number of the records in some run of tokens, and from which floor on any of them can lose something.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Summary {
    pub(super) sum: u128,
    pub(super) records: u64,
    /// The highest stamp there is, as long as nothing can go.
    pub(super) dead_at: Stamp,
}

impl Default for Summary {
    fn default() -> Self {
        Self { sum: 0, records: 0, dead_at: Stamp(u64::MAX) }
    }
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.records += other.records;
        self.dead_at = self.dead_at.min(other.dead_at);
    }

    fn add_record(&mut self, printer: &Printer, key: &[u8], record: &[u8]) {
        // What cannot be read stays.
        let dead_at = Record::dead_at_of(record).ok().flatten().unwrap_or(Stamp(u64::MAX));
        self.add(Self { sum: printer.summand(printer.entry(key, record)), records: 1, dead_at });
    }
}

/// The tree of one partition.
#[derive(Debug)]
pub(super) struct Tree {
    span: Span,
    /// By first token.
    leaves: BTreeMap<u64, Leaf>,
    /// Leaves that are read in part.
    scans: BTreeMap<u64, Scan>,
    /// Counts the questions.
    clock: u64,
    /// No leaf before this token was read since it was noted.
    unnoted: Option<u64>,
}

#[derive(Copy, Clone, Debug)]
struct Leaf {
    last: u64,
    summary: Summary,
    state: State,
    /// The summary was right at some moment after this question came.
    as_of: u64,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    Unknown,
    Dirty,
    Clean,
}

#[derive(Default, Debug)]
struct Scan {
    /// The last key that was read.
    after: Vec<u8>,
    summary: Summary,
}

/// What a step of reading may use.
pub(super) struct Reading<'a> {
    pub(super) view: &'a dyn View,
    pub(super) printer: Printer,
    /// How many more records.
    pub(super) budget: usize,
}

impl Tree {
    pub(super) fn new(span: Span) -> Self {
        let unknown = Leaf { last: span.last, summary: Summary::default(), state: State::Unknown, as_of: 0 };
        Self { span, leaves: BTreeMap::from([(span.first, unknown)]), scans: BTreeMap::new(), clock: 0, unnoted: None }
    }

    /// The same, with leaves that are known. Where no cuts can make one of them, it is not used.
    pub(super) fn knowing(span: Span, known: impl Iterator<Item = (Span, Summary)>) -> Self {
        let mut tree = Self::new(span);
        known.for_each(|(leaf, summary)| tree.know(leaf, summary));
        tree
    }

    fn know(&mut self, known: Span, summary: Summary) {
        loop {
            let (&first, leaf) = self.leaves.range(..=known.first).next_back().expect("leaves tile the partition");
            let span = Span { first, last: leaf.last, ..self.span };
            if span == known {
                self.leaves.insert(first, Leaf { last: known.last, summary, state: State::Clean, as_of: 0 });
                return;
            }
            let Some(halves) = span.halves().filter(|_| leaf.state == State::Unknown && known.last <= span.last) else {
                return;
            };
            self.cut(halves);
        }
    }

    fn cut(&mut self, halves: [Span; 2]) {
        for half in halves {
            let leaf = Leaf { last: half.last, summary: Summary::default(), state: State::Unknown, as_of: 0 };
            self.leaves.insert(half.first, leaf);
        }
    }

    /// From which token on leaves were read that may not be noted.
    pub(super) const fn unnoted(&self) -> Option<u64> {
        self.unnoted
    }

    /// All leaves that were read are noted now, or those before a token.
    pub(super) const fn noted_until(&mut self, next: Option<u64>) {
        self.unnoted = next;
    }

    /// The clean leaves that begin in `span`, in order.
    pub(super) fn clean_leaves(&self, span: Span) -> impl Iterator<Item = (Span, Summary)> + '_ {
        let clean = self.leaves.range(span.first..=span.last).filter(|(_, leaf)| leaf.state == State::Clean);
        clean.map(|(first, leaf)| (Span { first: *first, last: leaf.last, ..self.span }, leaf.summary))
    }

    pub(super) const fn span(&self) -> Span {
        self.span
    }

    pub(super) fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// The runs of tokens in which something may go below a floor, in order: all of which it is not known that nothing does.
    pub(super) fn dead_spans(&self, floor: Stamp) -> Vec<Span> {
        let may = |leaf: &Leaf| leaf.state != State::Clean || leaf.summary.dead_at <= floor;
        let spans = self.leaves.iter().filter(|(_, leaf)| may(leaf));
        spans.map(|(first, leaf)| Span { first: *first, last: leaf.last, ..self.span }).collect()
    }

    /// A record was, or is about to be, changed.
    pub(super) fn touch(&mut self, token: u64, key: &[u8]) {
        let (first, leaf) = self.leaves.range_mut(..=token).next_back().expect("leaves tile the partition");
        if leaf.state == State::Clean {
            leaf.state = State::Dirty;
        }
        if self.scans.get(first).is_some_and(|scan| key <= &scan.after[..]) {
            self.scans.remove(first);
        }
    }

    /// A number for a question that comes now, by which [`Tree::summary`] knows what is too old for it.
    pub(super) const fn ask(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The summary of the records in `span`, each leaf as it was at some moment since `question` came. `None` when the
    /// budget is used up; then call it again. `resume` is where the work goes on, and belongs to the question: the first token
    /// of the span at first.
    pub(super) fn summary(
        &mut self,
        span: Span,
        question: u64,
        resume: &mut u64,
        reading: &mut Reading<'_>,
    ) -> Result<Option<Summary>, StoreError> {
        loop {
            let (&first, leaf) = self.leaves.range_mut(..=*resume).next_back().expect("leaves tile the partition");
            let is_clean = leaf.state == State::Clean;
            if is_clean {
                leaf.as_of = self.clock;
            }
            if is_clean || (leaf.state == State::Dirty && leaf.as_of >= question) {
                let last = leaf.last;
                if last >= span.last {
                    return if first < span.first || last > span.last {
                        read_within_a_leaf(span, reading)
                    } else {
                        Ok(Some(self.sum(span)))
                    };
                }
                *resume = last + 1;
            } else if reading.budget == 0 {
                return Ok(None);
            } else {
                self.step(first, reading)?;
            }
        }
    }

    fn sum(&self, span: Span) -> Summary {
        let mut sum = Summary::default();
        self.leaves.range(span.first..=span.last).for_each(|(_, leaf)| sum.add(leaf.summary));
        sum
    }

    /// Reads on in a leaf, and cuts it when it holds too much.
    fn step(&mut self, first: u64, reading: &mut Reading<'_>) -> Result<(), StoreError> {
        let leaf = self.leaves[&first];
        let span = Span { first, last: leaf.last, ..self.span };
        let mut scan = self.scans.remove(&first).unwrap_or_default();
        let halves = span.halves();
        let mut ended = true;
        let Reading { view, printer, budget } = reading;
        let after = (!scan.after.is_empty()).then(|| scan.after.clone());
        span.scan(*view, after.as_deref(), &mut |key, record| {
            if *budget == 0 || (halves.is_some() && scan.summary.records > LEAF_RECORDS_MAX) {
                ended = false;
                return ControlFlow::Break(());
            }
            *budget -= 1;
            scan.summary.add_record(printer, key, record);
            scan.after.clear();
            scan.after.extend_from_slice(key);
            ControlFlow::Continue(())
        })?;
        if let (Some(halves), true) = (halves, scan.summary.records > LEAF_RECORDS_MAX) {
            self.cut(halves);
        } else if ended {
            let known = Leaf { summary: scan.summary, state: State::Clean, as_of: self.clock, ..leaf };
            self.leaves.insert(first, known);
            self.unnoted = Some(self.unnoted.map_or(first, |from| from.min(first)));
        } else {
            self.scans.insert(first, scan);
        }
        Ok(())
    }

    /// Reads every clean leaf again and says which is not what it should be.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn check(&self, view: &dyn View, printer: Printer) -> Result<Option<String>, StoreError> {
        for (&first, leaf) in self.leaves.iter().filter(|(_, leaf)| leaf.state == State::Clean) {
            let span = Span { first, last: leaf.last, ..self.span };
            let read = read(span, &mut Reading { view, printer, budget: usize::MAX })?;
            if read != leaf.summary {
                return Ok(Some(format!(
                    "the leaf of {span:?} is taken for clean with {:?} and is {read:?}",
                    leaf.summary
                )));
            }
        }
        Ok(None)
    }
}

/// Reads every leaf that is noted in the store again, and says which is not what is noted.
#[cfg(any(test, feature = "sim"))]
pub(super) fn check_notes(view: &dyn View, printer: Printer) -> Result<Option<String>, StoreError> {
    Notes::check(view, |leaf| read(leaf, &mut Reading { view, printer, budget: usize::MAX }))
}

/// A branch below a leaf is not kept: it has at most the records of the leaf.
fn read_within_a_leaf(span: Span, reading: &mut Reading<'_>) -> Result<Option<Summary>, StoreError> {
    if reading.budget == 0 { Ok(None) } else { read(span, reading).map(Some) }
}

fn read(span: Span, reading: &mut Reading<'_>) -> Result<Summary, StoreError> {
    let mut summary = Summary::default();
    let Reading { view, printer, budget } = reading;
    span.scan(*view, None, &mut |key, record| {
        *budget = budget.saturating_sub(1);
        summary.add_record(printer, key, record);
        ControlFlow::Continue(())
    })?;
    Ok(summary)
}

#[cfg(test)]
mod tests;
