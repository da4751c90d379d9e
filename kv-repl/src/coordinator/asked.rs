//! Which replica was asked for additions to counters whose outcome was ambiguous: a retry is no second addition only there.

use std::collections::{BTreeMap, VecDeque};

use kv_core::NodeId;
use kv_core::record::OperationId;
use kv_core::time::Millis;

use crate::identity::Boot;
use crate::mint::modify::ASKED_FOR;

/// Most that are remembered.
const ASKED_MAX: usize = 4096;

/// Remembers for a while.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_name: BTreeMap<OperationId, (Millis, NodeId, Boot)>,
    oldest_first: VecDeque<OperationId>,
}

impl Asked {
    /// Notes that nobody but that life of that replica was asked, at `began` for the first time.
    pub(super) fn add(&mut self, began: Millis, operation: OperationId, node: NodeId, boot: Boot) {
        if self.by_name.contains_key(&operation) {
            return;
        }
        if self.oldest_first.len() >= ASKED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_name.remove(&oldest);
        }
        self.by_name.insert(operation, (began, node, boot));
        self.oldest_first.push_back(operation);
    }

    /// Who was asked, unless that was too long ago for it to know whether it has done it.
    pub(super) fn find(&self, now: Millis, operation: OperationId) -> Option<(NodeId, Boot)> {
        let (began, node, boot) = *self.by_name.get(&operation)?;
        (now < began.saturating_add(ASKED_FOR)).then_some((node, boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_known_for_a_while_and_in_bounds() {
        let mut asked = Asked::default();
        let name = |number: usize| OperationId(number as u128);
        for number in 0..=ASKED_MAX {
            asked.add(Millis(5), name(number), NodeId(2), Boot(3));
        }
        asked.add(Millis(9), name(7), NodeId(9), Boot(9));
        assert_eq!(asked.find(Millis(6), name(0)), None, "the oldest has made room");
        assert_eq!(asked.find(Millis(6), name(7)), Some((NodeId(2), Boot(3))), "the first one counts");
        assert_eq!(asked.find(Millis(5).saturating_add(ASKED_FOR), name(7)), None);
        assert_eq!(asked.by_name.len(), ASKED_MAX);
    }
}
