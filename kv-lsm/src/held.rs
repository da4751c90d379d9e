//! What a reader has hold of while others may replace it.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

/// Something out of a slot, for as long as it is looked at. Costs no reference count that others share.
pub(crate) struct Held<T>(Guard<Option<Arc<T>>>);

impl<T> Held<T> {
    /// What lies in the slot.
    pub(crate) fn load(slot: &ArcSwapOption<T>) -> Option<Self> {
        let guard = slot.load();
        if guard.is_some() { Some(Self(guard)) } else { None }
    }

    /// What lies in no slot, or not for sure.
    pub(crate) fn own(value: Arc<T>) -> Self {
        Self(Guard::from_inner(Some(value)))
    }

    /// Keeps it for longer.
    pub(crate) fn keep(&self) -> Arc<T> {
        self.0.as_ref().map(Arc::clone).expect("only what is there is handed out")
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("only what is there is handed out")
    }
}
