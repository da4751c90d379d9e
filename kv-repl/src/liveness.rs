//! What nodes believe of each other's life, and how they say it.
//!
//! Beliefs about one node are ordered: by the claim they speak of, then alive, suspect, dead. Whoever hears two keeps the
//! later one, so it does not matter in which order and how often they arrive, and everybody ends with the same.
//!
//! Source: Das, Gupta and Motivala, "SWIM: scalable weakly-consistent infection-style process group membership protocol"
//! (DSN 2002), section 4.2. What is called an incarnation number there is a [`Claim`] here: the boot that a node stores
//! durably, and a counter within it. So a node that restarts never falls behind what it said before.

use std::fmt;

use kv_core::NodeId;
use kv_core::version::Incarnation;

use crate::identity::Boot;

/// Whether a node is believed to be up. A belief, never a fact: it decides who is asked first and for whom nobody waits, and
/// never who owns what (lesson 11).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default, Debug)]
pub enum Liveness {
    /// It answers, or nobody has noticed that it does not.
    #[default]
    Alive,
    /// It did not answer somebody, directly or through others. It has a while to contradict.
    Suspect,
    /// It did not contradict in time. It may still come back.
    Dead,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        })
    }
}

/// "I live", said by a node: at its start, and once more each time it hears somebody doubt it. Later ones are greater.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default, Debug)]
pub struct Claim {
    /// In which life. Zero stands for a life that nothing is known of.
    pub boot: Boot,
    /// How often it has contradicted in that life.
    pub refutations: u32,
}

/// What one node tells others of a node.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Rumour {
    /// Of whom.
    pub about: NodeId,
    /// Of which storage: another one is another member.
    pub incarnation: Incarnation,
    /// The latest claim of that node that whoever found this out knew of.
    pub claim: Claim,
    /// What was found out.
    pub liveness: Liveness,
    /// Who found it out. Suspicions by different nodes confirm each other.
    pub by: NodeId,
}

impl Rumour {
    /// Whether it replaces a belief.
    #[must_use]
    pub fn overrides(&self, claim: Claim, liveness: Liveness) -> bool {
        (self.claim, self.liveness) > (claim, liveness)
    }
}

/// A node has changed its mind about another one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct LivenessChange {
    /// Of whom.
    pub peer: NodeId,
    /// What it believed.
    pub before: Liveness,
    /// What it believes now.
    pub after: Liveness,
    /// The peer's claim that this is about.
    pub claim: Claim,
    /// Who found it out.
    pub by: NodeId,
}

impl fmt::Display for LivenessChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, before, after, by, .. } = self;
        write!(f, "{peer} was {before} and is {after}, says {by}")
    }
}
