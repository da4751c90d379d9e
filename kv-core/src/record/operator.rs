//! The join of records as the merge operator of a store.

use std::cmp::Ordering;

use super::Record;
use crate::store::{Corrupt, Fold, Folded, MergeOperator};

/// Joins records. Partial and complete folds are the same: a record forgets nothing by being folded.
#[derive(Copy, Clone, Default, Debug)]
pub struct RecordJoin;

impl MergeOperator for RecordJoin {
    fn fold(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        let mut states = base.into_iter().chain(oldest_first.iter().copied());
        let Some(first) = states.next() else {
            return Ok(Folded::Absent);
        };
        let mut previous = first;
        // A peer that retries sends equal bytes; a join with oneself changes nothing.
        let mut rest = states.filter(|state| *state != std::mem::replace(&mut previous, state)).peekable();
        if rest.peek().is_none() {
            out.extend_from_slice(first);
            return Ok(Folded::Value);
        }
        if let Some(last) = last_write(base.into_iter().chain(oldest_first.iter().copied())) {
            out.extend_from_slice(last);
            return Ok(Folded::Value);
        }
        let mut joined = decode(key, first)?;
        for state in rest {
            joined = joined
                .join(&decode(key, state)?)
                .map_err(|mismatch| Corrupt::new(format!("record under key {}: {mismatch}", hex(key))))?;
        }
        joined.encode(out);
        Ok(Folded::Value)
    }
}

/// The winner among last-write-wins states, which is their join. Nothing when that cannot be told by the fronts of all of them.
fn last_write<'a>(mut states: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let mut last = states.next()?;
    let mut order = Record::last_write_of(last)?;
    for state in states {
        let next = Record::last_write_of(state)?;
        match next.cmp(&order) {
            Ordering::Greater => (last, order) = (state, next),
            Ordering::Equal if state != last => return None,
            Ordering::Equal | Ordering::Less => {}
        }
    }
    Some(last)
}

fn decode(key: &[u8], state: &[u8]) -> Result<Record, Corrupt> {
    Record::decode_slice(state).map_err(|error| Corrupt::new(format!("record under key {}: {error}", hex(key))))
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}
