//! Steps towards a higher floor of a place: what this node has under way decides how much it can promise.

use kv_core::NodeId;
use kv_core::time::Now;

use super::NodeCore;
use crate::message::Message;
use crate::repair::{Pending, Step};
use crate::turn::Turn;

impl NodeCore {
    /// The replica that leads a place asks this one for a step.
    pub(super) fn floor_asked(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: &Message) {
        let Message::FloorAsk { tag, epoch, place, step } = *message else { return };
        let hint = self.hints.oldest_birth(place).filter(|_| !sabotaged!(PromiseOverHints));
        let write = self.writes.oldest_birth(self.shared.catalog.as_ref(), place);
        let pending = Pending { oldest: hint.into_iter().chain(write).min(), clock: self.writes.clock() };
        let mut actions = Vec::new();
        let environment = self.shared.environment(now, turn);
        self.repairs.step(&environment, &Step { from, tag, epoch, place, step }, pending, &mut actions);
        self.carry_out(now, turn, actions);
    }

    /// How many records this node has forgotten in this life.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn forgotten(&self) -> u64 {
        self.repairs.purge_status().records
    }

    /// What was promised, settled and purged, by place.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn floors(&self) -> &crate::floors::Floors {
        &self.shared.floors
    }

    /// Other settings from now on; before any table is known.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn purge_after(&mut self, settings: &crate::config::Settings) {
        self.shared.floors.enabled = settings.purge_after.is_some();
        self.repairs.purge_after(settings, &self.shared.me);
    }
}
