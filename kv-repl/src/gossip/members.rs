//! What this node believes of every other member.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use super::pace::Pace;
use super::rhythm::Rhythm;
use super::suspicion::Suspicion;
use crate::liveness::{Claim, Liveness, LivenessChange, Rumour};

/// One member, as this node sees it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: NodeId,
    incarnation: Incarnation,
    pub(super) claim: Claim,
    pub(super) liveness: Liveness,
    /// Who found that out.
    by: NodeId,
    pub(super) rhythm: Rhythm,
}

impl Member {
    /// One that nothing is known of yet.
    fn new(node: NodeId, incarnation: Incarnation) -> Self {
        let (claim, liveness) = (Claim::default(), Liveness::Alive);
        Self { node, incarnation, claim, liveness, by: node, rhythm: Rhythm::default() }
    }

    /// Whether anything was ever heard of it. Until then it is taken for alive.
    pub(super) const fn is_known(&self) -> bool {
        self.claim.boot.0 != 0
    }

    /// What to tell others of it.
    pub(super) const fn rumour(&self) -> Rumour {
        let Self { node, incarnation, claim, liveness, by, .. } = *self;
        Rumour { about: node, incarnation, claim, liveness, by }
    }
}

/// What became of a rumour.
#[derive(Debug)]
pub(super) enum Heard {
    /// About no member.
    Stranger,
    /// About another storage than the member's.
    OtherIncarnation,
    /// It says nothing new.
    Old,
    /// The first sign of life of a member that was taken for alive anyway.
    FirstSign,
    /// It confirms a suspicion.
    Confirmed,
    /// It is believed now. The change, unless only the claim is newer.
    Believed(Option<LivenessChange>),
}

/// The other members, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: Vec<Member>,
    suspicions: BTreeMap<NodeId, Suspicion>,
    dead: usize,
}

impl Members {
    /// Members that nothing is known of yet.
    pub(super) fn new(members: impl Iterator<Item = (NodeId, Incarnation)>) -> Self {
        let mut all: Vec<Member> = members.map(|(node, incarnation)| Member::new(node, incarnation)).collect();
        all.sort_by_key(|member| member.node);
        Self { all, suspicions: BTreeMap::new(), dead: 0 }
    }

    /// A member may have another storage than before: whatever is known of it is of the other one.
    pub(super) fn replaced(&mut self, node: NodeId, incarnation: Incarnation) {
        let Some(member) = self.get_mut(node).filter(|member| member.incarnation != incarnation) else { return };
        let was_dead = member.liveness == Liveness::Dead;
        *member = Member::new(node, incarnation);
        self.dead -= usize::from(was_dead);
        self.suspicions.remove(&node);
    }

    pub(super) fn all(&self) -> &[Member] {
        &self.all
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Member> {
        self.all.binary_search_by_key(&node, |member| member.node).ok().map(|at| &self.all[at])
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.all.binary_search_by_key(&node, |member| member.node).ok().map(|at| &mut self.all[at])
    }

    /// Everybody, this node included.
    pub(super) const fn nodes(&self) -> usize {
        self.all.len() + 1
    }

    pub(super) const fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// Takes a rumour about another node, and believes it if it is later than what is believed.
    pub(super) fn hear(&mut self, now: Millis, rumour: &Rumour) -> Heard {
        let nodes = self.nodes();
        let Some(member) = self.get_mut(rumour.about) else { return Heard::Stranger };
        if rumour.incarnation != member.incarnation && !sabotaged!(IgnoreIncarnation) {
            return Heard::OtherIncarnation;
        }
        if !rumour.overrides(member.claim, member.liveness) && !sabotaged!(BelieveOldRumours) {
            let same = (rumour.claim, rumour.liveness) == (member.claim, Liveness::Suspect);
            let confirms = member.liveness == Liveness::Suspect
                && same
                && self.suspicions.get_mut(&rumour.about).is_some_and(|suspicion| suspicion.confirm(rumour.by));
            return if confirms { Heard::Confirmed } else { Heard::Old };
        }
        let before = member.liveness;
        let first_sign = !member.is_known() && rumour.liveness == before;
        (member.claim, member.liveness, member.by) = (rumour.claim, rumour.liveness, rumour.by);
        self.dead -= usize::from(before == Liveness::Dead);
        self.dead += usize::from(rumour.liveness == Liveness::Dead);
        if rumour.liveness == Liveness::Suspect {
            // A newer claim that is suspected has its own time to be refuted.
            self.suspicions.insert(rumour.about, Suspicion::new(now, rumour.by, nodes));
        } else {
            self.suspicions.remove(&rumour.about);
        }
        if first_sign {
            return Heard::FirstSign;
        }
        Heard::Believed((before != rumour.liveness).then_some(LivenessChange {
            peer: rumour.about,
            before,
            after: rumour.liveness,
            claim: rumour.claim,
            by: rumour.by,
        }))
    }

    /// Those whose time to contradict is over.
    pub(super) fn overdue(&self, now: Millis, pace: &Pace) -> Vec<NodeId> {
        let overdue = self.suspicions.iter().filter(|(_, suspicion)| suspicion.deadline(pace) <= now);
        overdue.map(|(node, _)| *node).collect()
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self, pace: &Pace) -> Option<Millis> {
        self.suspicions.values().map(|suspicion| suspicion.deadline(pace)).min()
    }

    /// Up to `count` different members that `fit`, by chance.
    pub(super) fn choose(
        &self,
        random: &mut fastrand::Rng,
        count: usize,
        fit: impl Fn(&Member) -> bool,
    ) -> Vec<NodeId> {
        let mut fitting: Vec<NodeId> = self.all.iter().filter(|member| fit(member)).map(|member| member.node).collect();
        let count = count.min(fitting.len());
        for at in 0..count {
            let other = random.usize(at..fitting.len());
            fitting.swap(at, other);
        }
        fitting.truncate(count);
        fitting
    }
}
