//! A merge operator of which every order, repetition and omission shows.

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};

/// Concatenates, oldest first.
pub(crate) struct Append;

impl MergeOperator for Append {
    fn fold(
        &self,
        _: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        out.extend_from_slice(base.unwrap_or_default());
        oldest_first.iter().for_each(|operand| out.extend_from_slice(operand));
        Ok(Folded::Value)
    }
}
