//! Clean leaves, noted in the store, so that a node which starts again has not to read everything.
//!
//! 1. The summary of a clean leaf is noted in the batch of a turn that has found it clean, or in the last one of a life.
//! 2. Whatever changes a record in a noted leaf takes the note away, in its own batch: there is no moment at which a crash
//!    leaves the change and the note (rule P12). So a note is right whenever it can be read.
//! 3. That holds in lives that keep notes. A life says durably that it does; a version of this program that knows nothing of
//!    notes says nothing, and the life after it throws them away.
//! 4. When the store refuses a turn, what was noted in it is not there, and what was taken away still is. What was read in it
//!    is in doubt, so none of the notes until then is used any more in this life; with the next change of its leaf each still goes.
//!
//! ```text
//! note key := "leaf/"  table:u32be  first token:u64be  last token:u64be     in the space of what a node keeps about itself
//! note     := format:u8 (1)  sum:u128  records:varint  dead at:u64
//! life key := "leaves"
//! life     := format:u8 (1)  boot:varint                                    which life keeps the notes, or has
//! ```

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use kv_core::View;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::hash::Token;
use kv_core::hlc::Stamp;
use kv_core::key::TableId;
use kv_core::store::{Batch, Direction, KeyRange, Operation, Space, StoreError};

use super::span::Span;
use super::tree::Summary;
use crate::identity::Boot;

const FORMAT: u8 = 1;
const PREFIX: &[u8] = b"leaf/";
/// Behind every key that begins with the prefix.
const PREFIX_END: &[u8] = b"leaf0";
const LIFE_KEY: &[u8] = b"leaves";

/// What the store holds of leaves.
#[derive(Default, Debug)]
pub(super) struct Notes {
    /// By table and first token. No two of them overlap.
    noted: BTreeMap<(TableId, u64), Noted>,
}

#[derive(Copy, Clone, Debug)]
struct Noted {
    last: u64,
    /// None when it is not to be used.
    summary: Option<Summary>,
}

impl Notes {
    /// What the lives before have left. `batch` is what this one begins with.
    pub(super) fn restore(boot: Boot, view: &dyn View, batch: &mut Batch) -> Result<Self, StoreError> {
        let mut kept_in = None;
        view.get(Space::META, LIFE_KEY, &mut |bytes| kept_in = read_life(bytes).ok())?;
        let (mut keys, mut found) = (Vec::new(), Some(Vec::new()));
        scan(view, &mut |key, value| {
            keys.push(key.to_vec());
            match (read(key, value), &mut found) {
                (Ok(note), Some(found)) => found.push(note),
                _ => found = None,
            }
        })?;
        let apart = |pair: &[(Span, Summary)]| pair[0].0.table < pair[1].0.table || pair[0].0.last < pair[1].0.first;
        let is_kept = kept_in.is_some_and(|life| Some(life.0) == boot.0.checked_sub(1));
        let found = found.filter(|found| is_kept && found.windows(2).all(apart));
        if found.is_none() {
            keys.iter().for_each(|key| batch.delete(Space::META, key));
        }
        batch.put(Space::META, LIFE_KEY, &life(boot));
        let noted = |(span, summary): (Span, Summary)| {
            ((span.table, span.first), Noted { last: span.last, summary: Some(summary) })
        };
        Ok(Self { noted: found.into_iter().flatten().map(noted).collect() })
    }

    /// How many leaves are noted.
    pub(super) fn len(&self) -> usize {
        self.noted.len()
    }

    /// The leaves within `span` that are noted, in order.
    pub(super) fn within(&self, span: Span) -> impl Iterator<Item = (Span, Summary)> + '_ {
        let noted = self.noted.range((span.table, span.first)..=(span.table, span.last));
        noted.filter_map(move |((_, first), noted)| {
            let leaf = Span { first: *first, last: noted.last, ..span };
            (noted.last <= span.last).then_some((leaf, noted.summary?))
        })
    }

    /// Whether a leaf is noted as it is.
    pub(super) fn holds(&self, leaf: Span, summary: Summary) -> bool {
        let noted = self.noted.get(&(leaf.table, leaf.first));
        noted.is_some_and(|noted| noted.last == leaf.last && noted.summary == Some(summary))
    }

    /// Notes a leaf.
    pub(super) fn note(&mut self, leaf: Span, summary: Summary, batch: &mut Batch) {
        // Leaves may have been cut elsewhere when what is there was noted.
        while let Some(overlapping) = self.overlapping(leaf) {
            self.take_away(overlapping, batch);
        }
        self.noted.insert((leaf.table, leaf.first), Noted { last: leaf.last, summary: Some(summary) });
        batch.put(Space::META, &key(leaf), &value(summary));
    }

    /// A record with this token is changed: its leaf's note goes, in `batch`.
    pub(super) fn touch(&mut self, table: TableId, token: Token, batch: &mut Batch) {
        let touched = Span { table, first: token.0, last: token.0 };
        if let Some(noted) = self.overlapping(touched).filter(|_| !sabotaged!(LeaveNotes)) {
            self.take_away(noted, batch);
        }
    }

    /// The first noted leaf that has tokens in common with `span`.
    fn overlapping(&self, span: Span) -> Option<Span> {
        let up_to_its_end = self.noted.range((span.table, 0)..=(span.table, span.last));
        let (&(table, first), noted) = up_to_its_end.last()?;
        (noted.last >= span.first).then_some(Span { table, first, last: noted.last })
    }

    fn take_away(&mut self, noted: Span, batch: &mut Batch) {
        self.noted.remove(&(noted.table, noted.first));
        batch.delete(Space::META, &key(noted));
    }

    /// The store did not take this.
    pub(super) fn refused(&mut self, refused: &Batch) {
        let mut was_there: BTreeMap<(TableId, u64, u64), bool> = BTreeMap::new();
        for operation in refused {
            let (key, is_put) = match operation {
                Operation::Put { space: Space::META, key, .. } => (key, true),
                Operation::Delete { space: Space::META, key } => (key, false),
                _ => continue,
            };
            if let Ok(Span { table, first, last }) = read_key(key) {
                // A note that was changed was taken away first.
                was_there.entry((table, first, last)).or_insert(!is_put);
            }
        }
        for ((table, first, _), _) in was_there.iter().filter(|(_, was_there)| !**was_there) {
            self.noted.remove(&(*table, *first));
        }
        for ((table, first, last), _) in was_there.into_iter().filter(|(_, was_there)| *was_there) {
            self.noted.insert((table, first), Noted { last, summary: None });
        }
        self.noted.values_mut().for_each(|noted| noted.summary = None);
    }

    /// Reads every leaf again that is noted in the store, and says what is wrong with one.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn check(
        view: &dyn View,
        read_leaf: impl Fn(Span) -> Result<Summary, StoreError>,
    ) -> Result<Option<String>, StoreError> {
        let mut found = Vec::new();
        scan(view, &mut |key, value| found.push(read(key, value)))?;
        for note in found {
            let (leaf, noted) = match note {
                Ok(note) => note,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let is = read_leaf(leaf)?;
            if is != noted {
                return Ok(Some(format!("the leaf of {leaf:?} is noted with {noted:?} and is {is:?}")));
            }
        }
        Ok(None)
    }
}

fn scan(view: &dyn View, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
    let range = KeyRange { start: Bound::Included(PREFIX), end: Bound::Excluded(PREFIX_END) };
    view.scan(Space::META, range, Direction::Forward, &mut |key, value| {
        each(key, value);
        ControlFlow::Continue(())
    })
}

/// Whether a key of the store is that of a note, or of the life that keeps them.
pub(crate) fn is_note(key: &[u8]) -> bool {
    key.starts_with(PREFIX) || key == LIFE_KEY
}

fn key(leaf: Span) -> Vec<u8> {
    [PREFIX, &leaf.table.0.to_be_bytes(), &leaf.first.to_be_bytes(), &leaf.last.to_be_bytes()].concat()
}

fn value(summary: Summary) -> Vec<u8> {
    // All of it: what a note leaves out, the next life would not know of its leaf.
    let Summary { sum, records, dead_at } = summary;
    let mut out = vec![FORMAT];
    out.extend_from_slice(&sum.to_le_bytes());
    put_varint(&mut out, records);
    out.extend_from_slice(&dead_at.0.to_le_bytes());
    out
}

fn life(boot: Boot) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_varint(&mut out, boot.0);
    out
}

fn read(key: &[u8], value: &[u8]) -> Result<(Span, Summary), DecodeError> {
    let mut reader = begin(value)?;
    let (sum, records, dead_at) = (u128::from_le_bytes(reader.array()?), reader.varint()?, Stamp(reader.u64()?));
    let summary = Summary { sum, records, dead_at };
    reader.finish()?;
    Ok((read_key(key)?, summary))
}

fn read_key(key: &[u8]) -> Result<Span, DecodeError> {
    let wrong = DecodeError { offset: 0, what: "the key of a leaf's note" };
    let mut reader = Reader::new(key.strip_prefix(PREFIX).ok_or(wrong)?);
    let table = TableId(u32::from_be_bytes(reader.array()?));
    let (first, last) = (u64::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
    reader.finish()?;
    if first > last { Err(wrong) } else { Ok(Span { table, first, last }) }
}

fn read_life(value: &[u8]) -> Result<Boot, DecodeError> {
    let mut reader = begin(value)?;
    let boot = Boot(reader.varint()?);
    reader.finish()?;
    Ok(boot)
}

fn begin(value: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(value);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of a leaf's note"));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests;
