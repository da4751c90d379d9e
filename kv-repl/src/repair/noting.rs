//! What anti-entropy does for the notes of leaves: it takes up those of earlier lives, and adds what it reads.

use kv_core::View;
use kv_core::store::{Batch, StoreError};
use kv_core::time::Millis;

use super::trees::Trees;
use super::{Repairs, SLICE_PAUSE};
use crate::identity::Identity;

/// Most leaves that a turn looks at to note them, and most that are noted at the end of a life: six megabytes.
const NOTED_IN_A_TURN_MAX: usize = 512;
const NOTED_AT_THE_END_MAX: usize = 100_000;

impl Repairs {
    /// Goes on with the leaves that earlier lives have noted in `view`; `batch` is the first of this one.
    pub(crate) fn restore(&mut self, me: &Identity, view: &dyn View, batch: &mut Batch) -> Result<(), StoreError> {
        self.trees = Trees::restore(me.boot, view, batch)?;
        Ok(())
    }

    /// Something is about to be stored, and with it what is returned: leaves that it changes are noted no more.
    #[must_use]
    pub(crate) fn touch(&mut self, batch: &Batch) -> Batch {
        self.trees.touch(batch)
    }

    /// Notes leaves that were read. Everything that the turn has decided must have been touched.
    pub(crate) fn note(&mut self, now: Millis) -> Option<Batch> {
        if !self.has_read || self.rest_until > now {
            return None;
        }
        let mut batch = Batch::new();
        self.has_read = self.trees.note(NOTED_IN_A_TURN_MAX, &mut batch);
        if batch.is_empty() {
            return None;
        }
        self.rest_until = now.saturating_add(SLICE_PAUSE);
        Some(batch)
    }

    /// The last batch of the life: whatever is known to be clean.
    pub(crate) fn note_everything(&mut self, batch: &mut Batch) {
        self.trees.note_everything(NOTED_AT_THE_END_MAX, batch);
    }
}
