//! What a node believes of all, itself included, and what it tells of that.
//!
//! News is believed when it is later than what is believed, and passed on when it is believed. Doubts about the node itself
//! are contradicted.

use std::time::Duration;

use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use super::members::{Heard, Member, Members};
use super::pace::{Pace, RUMOURS_MAX};
use super::rumours::Rumours;
use crate::identity::{Boot, Identity};
use crate::liveness::{Claim, Liveness, Rumour};
use crate::machine::{Action, Notice};
use crate::peers::DropReason;

/// What a node believes of a peer, and what it measures of it.
#[derive(Copy, Clone, PartialEq, Default, Debug)]
pub(crate) struct Belief {
    pub(crate) liveness: Liveness,
    pub(crate) claim: Claim,
    /// The usual time to answer, and its deviation.
    pub(crate) latency: Option<(Duration, Duration)>,
    pub(crate) phi: f64,
}

/// How a rumour came.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Source {
    /// It is news, found out here or told as such.
    News,
    /// With all that somebody believes.
    Exchange,
}

/// All beliefs of a node.
#[derive(Debug)]
pub(super) struct Beliefs {
    node: NodeId,
    incarnation: Incarnation,
    /// The latest that this node has made.
    claim: Claim,
    pub(super) members: Members,
    rumours: Rumours,
}

impl Beliefs {
    /// Nothing is known of anybody yet.
    pub(super) fn new(me: &Identity) -> Self {
        Self {
            node: me.node,
            incarnation: me.incarnation,
            claim: Claim { boot: me.boot, refutations: 0 },
            members: Members::default(),
            rumours: Rumours::default(),
        }
    }

    /// Names the members of the cluster, and has them told of this node's life.
    pub(super) fn know(&mut self, members: impl Iterator<Item = (NodeId, Incarnation)>) {
        let me = self.node;
        self.members = Members::new(members.filter(|(node, _)| *node != me));
        self.rumours.push(self.own_rumour());
    }

    pub(super) const fn claim(&self) -> Claim {
        self.claim
    }

    /// How many rumours are being told.
    pub(super) fn telling(&self) -> usize {
        self.rumours.len()
    }

    pub(super) fn of(&self, peer: NodeId, now: Millis) -> Option<Belief> {
        let member = self.members.get(peer)?;
        Some(Belief {
            liveness: member.liveness,
            claim: member.claim,
            latency: member.rhythm.latency(),
            phi: member.rhythm.phi(now),
        })
    }

    fn own_rumour(&self) -> Rumour {
        let Self { node, incarnation, claim, .. } = *self;
        Rumour { about: node, incarnation, claim, liveness: Liveness::Alive, by: node }
    }

    /// A member speaks in its life `boot`: it lives in that.
    pub(super) fn met(&mut self, now: Millis, node: NodeId, boot: Boot, out: &mut Vec<Action>) {
        if let Some(member) = self.members.get(node).filter(|member| boot > member.claim.boot) {
            let claim = Claim { boot, refutations: 0 };
            let rumour = Rumour { claim, liveness: Liveness::Alive, by: node, ..member.rumour() };
            self.hear(now, rumour, Source::News, out);
        }
    }

    /// A member was found to be so.
    pub(super) fn find(&mut self, now: Millis, node: NodeId, liveness: Liveness, out: &mut Vec<Action>) {
        let member = self.members.get(node).expect("only members are looked at");
        let rumour = Rumour { liveness, by: self.node, ..member.rumour() };
        self.hear(now, rumour, Source::News, out);
    }

    /// Takes a rumour.
    pub(super) fn hear(&mut self, now: Millis, rumour: Rumour, source: Source, out: &mut Vec<Action>) {
        if rumour.about == self.node {
            return self.hear_of_myself(rumour, out);
        }
        let is_known = self.members.get(rumour.about).is_some_and(Member::is_known);
        let softened = source == Source::Exchange && rumour.liveness == Liveness::Dead && is_known;
        let rumour = if softened { Rumour { liveness: Liveness::Suspect, ..rumour } } else { rumour };
        match self.members.hear(now, &rumour) {
            Heard::Stranger => out.push(dropped(DropReason::Stranger)),
            Heard::OtherIncarnation => out.push(dropped(DropReason::OtherIncarnation)),
            Heard::FirstSign => {}
            Heard::Confirmed => self.rumours.push(rumour),
            Heard::Believed(change) => {
                self.rumours.push(rumour);
                out.extend(change.map(|change| Action::Notify(Notice::Liveness(change))));
            }
            Heard::Old => {
                // Somebody still believes what was refuted long ago.
                let later = self.members.get(rumour.about).expect("it was heard of").rumour();
                let outdated = rumour.liveness != Liveness::Alive && later.claim > rumour.claim;
                if outdated && later.liveness == Liveness::Alive && source == Source::News {
                    self.tell(later);
                }
            }
        }
    }

    fn hear_of_myself(&mut self, rumour: Rumour, out: &mut Vec<Action>) {
        if rumour.incarnation != self.incarnation {
            return out.push(dropped(DropReason::OtherIncarnation));
        }
        if rumour.claim.boot > self.claim.boot {
            // Whether this storage went back in time is found out by greetings, from members and in their own name.
            return out.push(dropped(DropReason::OtherBoot));
        }
        if rumour.liveness == Liveness::Alive || sabotaged!(NeverRefute) {
            return;
        }
        if rumour.claim >= self.claim {
            self.claim.refutations = rumour.claim.refutations.saturating_add(1);
        }
        self.tell(self.own_rumour());
    }

    /// Has a rumour told, unless it is being told already.
    fn tell(&mut self, rumour: Rumour) {
        if !self.rumours.tells(&rumour) {
            self.rumours.push(rumour);
        }
    }

    /// What to tell a node with whatever else it is sent. If it is doubted it hears so, to contradict at once.
    pub(super) fn rumours_for(&mut self, to: NodeId, pace: &Pace) -> Vec<Rumour> {
        let doubted = self.members.get(to).filter(|member| member.liveness != Liveness::Alive);
        let mut rumours: Vec<Rumour> =
            doubted.filter(|_| !sabotaged!(NotTheSuspect)).map(Member::rumour).into_iter().collect();
        self.rumours.take(RUMOURS_MAX, pace.tellings(), &mut rumours);
        rumours
    }

    /// All that is known.
    pub(super) fn all(&self) -> Vec<Rumour> {
        let others = self.members.all().iter().filter(|member| member.is_known() || member.liveness != Liveness::Alive);
        std::iter::once(self.own_rumour()).chain(others.map(Member::rumour)).collect()
    }
}

const fn dropped(reason: DropReason) -> Action {
    Action::Notify(Notice::Dropped(reason))
}
