//! What anti-entropy does for floors, besides comparing: it answers steps, and sweeps places that have risen.

use super::Repairs;
use super::promise::{self, Pending, Step};
use super::site::Site;
use super::sweep::{Dropped, Sweep};
use super::tree::Reading;
#[cfg(any(test, feature = "sim"))]
use crate::config::Settings;
#[cfg(any(test, feature = "sim"))]
use crate::identity::Identity;
use crate::machine::{Action, Environment, Release};
use crate::message::Message;
use crate::status::PurgeStatus;

impl Repairs {
    /// Other settings from now on; before any table is known.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn purge_after(&mut self, settings: &Settings, me: &Identity) {
        self.rounds = super::Rounds::new(settings.purge_after, settings.retry_after, me.nonce, me.boot.first_tag());
    }

    /// The replica that leads a place to a higher floor asks something of this one, which has that much under way.
    pub(crate) fn step(&mut self, env: &Environment<'_>, asked: &Step, pending: Pending, out: &mut Vec<Action>) {
        let answer = promise::take(env, asked, pending, out);
        self.look_for_sweeps = true;
        let message = Message::FloorTold { tag: asked.tag, answer };
        out.push(Action::Send { to: asked.from, message, release: Release::Settled });
    }

    /// What was dropped, and what holds back the rest.
    pub(crate) fn purge_status(&self) -> PurgeStatus {
        let Dropped { records, versions } = self.dropped;
        PurgeStatus { records, versions, ..self.rounds.status() }
    }

    /// Begins to sweep places whose floor has risen, in this life or an earlier one.
    pub(super) fn find_sweeps(&mut self, env: &Environment<'_>) {
        if !std::mem::take(&mut self.look_for_sweeps) {
            return;
        }
        for (place, floor) in env.floors.iter().filter(|(_, floor)| floor.is_unswept()) {
            if self.sweeps.iter().all(|sweep| sweep.place != place)
                && let Ok(site) = Site::find(env, place, env.me.node)
            {
                self.sweeps.push(Sweep::new(place, site.span, floor.level.purged));
            }
        }
    }

    /// One slice of each sweep, as far as the budget goes.
    pub(super) fn sweep(&mut self, env: &Environment<'_>, reading: &mut Reading<'_>, out: &mut Vec<Action>) {
        let rested = env.now.monotonic.saturating_add(self.idle);
        let Self { sweeps, trees, dropped, look_for_sweeps, rest_until, .. } = self;
        sweeps.retain_mut(|sweep| {
            let (tree, floor) = (trees.tree(sweep.span), env.floors.of(sweep.place));
            let Ok((went, is_over)) = sweep.step(env.me.node, floor, tree, reading, out) else {
                sweep.restart();
                *rest_until = rested;
                return true;
            };
            dropped.records += went.records;
            dropped.versions += went.versions;
            *look_for_sweeps |= is_over;
            !is_over
        });
    }
}
