//! Who keeps a write of a sloppy table for replicas that are away, and whether that counts.
//!
//! 1. Replicas that cannot be reached when the write begins, or have not acknowledged by a retry, each have a *fallback*, as long
//!    as the replicas by themselves do not meet the level, and if the level counts them.
//! 2. A fallback is a node that is no replica of the key, and stands in for one replica alone. The order in which they are asked is
//!    that of highest random weights for the key's partition, so that all coordinators ask the same ones; those in the zone
//!    of the replica come first. At levels that count zones no others are asked.
//! 3. It keeps the change as a durable hint for the replica and says so. That counts in the place of this one replica, and is
//!    told apart from what replicas acknowledge (lesson 08, rule P13).
//! 4. The first one that is asked for a replica which cannot be reached costs what the replica would have. All others are asked
//!    within the budget of extra messages, so that there is not more to do because everybody is late.
//! 5. One that refuses, or has said nothing by the next retry, is passed over for the next one. Where none is left, they are asked
//!    again.
//!
//! Nobody reads from a fallback. The hint goes to the replica when that is back, as any other does.
//!
//! Source: DeCandia and others, "Dynamo: Amazon's highly available key-value store" (SOSP 2007), section 4.6. There the nodes that
//! can be reached are as good as the replicas; here one replica at least, the coordinator, holds the write itself.

use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_ring::Rendezvous;
use kv_ring::classic::Strategy;

use super::{reachable, zone};
use crate::catalog::TableSchema;
use crate::machine::Environment;
use crate::quorum::Consistency;
use crate::quorum::requirement::Requirement;
use crate::request::Write;

/// Those of one write.
#[derive(Debug)]
pub(super) struct Fallbacks {
    /// Whether the level asks for replicas of certain zones.
    by_zone: bool,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    node: NodeId,
    target: NodeId,
    said: Said,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Said {
    Nothing,
    Refused,
    Kept,
}

impl Fallbacks {
    /// None of which was asked yet; `None` for a write for which only replicas count.
    pub(super) fn of(table: &TableSchema, consistency: Consistency, is_strict: bool) -> Option<Self> {
        let is_sloppy = table.options.is_sloppy() || sabotaged!(FallBackUnasked);
        let is_sloppy = is_sloppy && !is_strict && table.options.is_replicated_durably();
        let by_zone = consistency.is_local() || consistency == Consistency::EachQuorum;
        (is_sloppy && !sabotaged!(NeverFallBack))
            .then(|| Self { by_zone: by_zone && !sabotaged!(FallBackAnywhere), asked: Vec::new() })
    }

    /// The next node to ask to stand in for a replica, if there is one: somebody new, or else one that was asked before.
    pub(super) fn next(
        &self,
        env: &Environment<'_>,
        table: &TableSchema,
        key: &RecordKey,
        target: NodeId,
    ) -> Option<NodeId> {
        if self.keeps(target) {
            return None;
        }
        let order = self.candidates(env, table, key, target);
        let is_new = |node: &&NodeId| sabotaged!(FallBackTwice) || !self.asked.iter().any(|asked| asked.node == **node);
        let is_for_target =
            |node: &&NodeId| self.asked.iter().any(|asked| (asked.node, asked.target) == (**node, target));
        order.iter().find(is_new).or_else(|| order.iter().find(is_for_target)).copied()
    }

    /// A node is asked to stand in for a replica.
    pub(super) fn asked(&mut self, node: NodeId, target: NodeId) {
        if !self.asked.iter().any(|asked| (asked.node, asked.target) == (node, target)) {
            self.asked.push(Asked { node, target, said: Said::Nothing });
        }
    }

    /// Whether nobody was asked to stand in for a replica yet.
    pub(super) fn is_first(&self, target: NodeId) -> bool {
        self.asked.iter().all(|asked| asked.target != target)
    }

    /// A node has said whether it stands in for a replica. Returns whether that is new.
    pub(super) fn answered(&mut self, node: NodeId, target: NodeId, keeps: bool) -> bool {
        let open = |asked: &&mut Asked| (asked.node, asked.target) == (node, target) && asked.said != Said::Kept;
        let Some(asked) = self.asked.iter_mut().find(open) else { return false };
        asked.said = if keeps { Said::Kept } else { Said::Refused };
        keeps
    }

    /// Whether somebody keeps the write for a replica.
    pub(super) fn keeps(&self, target: NodeId) -> bool {
        self.kept().any(|(_, kept_for)| kept_for == target)
    }

    /// Who keeps the write, and for whom.
    pub(super) fn kept(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        self.asked.iter().filter(|asked| asked.said == Said::Kept).map(|asked| (asked.node, asked.target))
    }

    /// Who can be reached and may stand in for a replica, the best first.
    fn candidates(&self, env: &Environment<'_>, table: &TableSchema, key: &RecordKey, target: NodeId) -> Vec<NodeId> {
        let (layout, replicas) = (&table.layout, table.replicas_of(key.token()));
        let home = zone(table, target);
        let may = |node: NodeId| !replicas.contains(&node) || (sabotaged!(FallBackOnReplicas) && node != target);
        let others =
            layout.nodes().iter().filter(|member| may(member.id) && (!self.by_zone || Some(&member.zone) == home));
        let strategy = Rendezvous::new(others.map(|member| (member.id, member.weight)));
        let mut order = Vec::new();
        strategy.preference_list(*layout.range_of(layout.partition_of(key.token())).start(), usize::MAX, &mut order);
        order.retain(|node| reachable(env, *node));
        order.sort_by_cached_key(|node| {
            let is_busy = env.peers.is_busy(*node, env.now.monotonic);
            (env.peers.liveness(*node), is_busy, zone(table, *node) != home)
        });
        order
    }
}

/// How many of those that a write asks for can be reached: replicas, and, where they are too few, fallbacks in their place.
pub(super) fn within_reach(
    env: &Environment<'_>,
    table: &TableSchema,
    replicas: &[NodeId],
    write: &Write,
    requirement: &Requirement,
) -> usize {
    let alone = requirement.progress(|node| reachable(env, node));
    let fallbacks = Fallbacks::of(table, write.consistency(), write.is_strict());
    // A fallback coordinates nothing.
    let is_hopeless = !replicas.iter().any(|node| reachable(env, *node));
    match fallbacks.filter(|_| alone < requirement.required() && !is_hopeless) {
        None => alone,
        Some(mut fallbacks) => {
            let away = replicas.iter().copied().filter(|node| !reachable(env, *node) && requirement.concerns(*node));
            let mut stands_in = |target: &NodeId| {
                let next = fallbacks.next(env, table, write.key(), *target);
                next.inspect(|node| fallbacks.asked(*node, *target)).is_some()
            };
            let stood_for: Vec<NodeId> = away.filter(&mut stands_in).collect();
            requirement.progress(|node| reachable(env, node) || stood_for.contains(&node))
        }
    }
}
