//! Repairs that somebody has asked for and waits for.

use std::collections::{BTreeMap, VecDeque};

use kv_core::NodeId;
use kv_core::time::Millis;

use crate::catalog::{Catalog, TableSchema};
use crate::comparison::Place;
use crate::machine::{Action, Environment, Origin, Outcome, Release};
use crate::repair_request::{
    RepairError, RepairProgress, RepairReport, RepairScope, RepairTraffic, Unfinished, UnfinishedReason,
};

/// Most of them at a time.
const JOBS_MAX: usize = 16;
/// When to ask for one more, if there are so many: a comparison takes a moment at least.
const RETRY_AFTER: Millis = Millis(1_000);

/// All of them.
#[derive(Default, Debug)]
pub(super) struct Jobs {
    open: BTreeMap<u64, Job>,
    next: u64,
}

#[derive(Debug)]
struct Job {
    origin: Origin,
    deadline: Millis,
    scope: RepairScope,
    queue: VecDeque<(Place, NodeId)>,
    running: usize,
    report: RepairReport,
}

impl Jobs {
    /// Takes one on.
    pub(super) fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        scope: RepairScope,
    ) -> Result<(), RepairError> {
        let catalog = env.catalog.ok_or(RepairError::NotServing(env.standing))?;
        if self.open.len() >= JOBS_MAX {
            return Err(RepairError::Overloaded { retry_after: RETRY_AFTER });
        }
        let queue = comparisons(env.me.node, catalog, &scope)?;
        let report = RepairReport { comparisons: queue.len(), ..RepairReport::default() };
        self.open.insert(self.next, Job { origin, deadline, scope, queue, running: 0, report });
        self.next += 1;
        Ok(())
    }

    /// The next comparison to be made of a place that is free, and for which of them.
    pub(super) fn pop(&mut self, is_free: impl Fn(Place) -> bool) -> Option<(u64, Place, NodeId)> {
        self.open.iter_mut().find_map(|(id, job)| {
            let at = job.queue.iter().position(|(place, _)| is_free(*place))?;
            let (place, peer) = job.queue.remove(at)?;
            job.running += 1;
            Some((*id, place, peer))
        })
    }

    /// Whether [`Jobs::pop`] would return something.
    pub(super) fn is_queued(&self, is_free: impl Fn(Place) -> bool) -> bool {
        self.open.values().any(|job| job.queue.iter().any(|(place, _)| is_free(*place)))
    }

    /// A comparison has ended.
    pub(super) fn ended(
        &mut self,
        id: u64,
        place: Place,
        peer: NodeId,
        outcome: Result<(), UnfinishedReason>,
        traffic: &RepairTraffic,
    ) {
        let Some(job) = self.open.get_mut(&id) else { return };
        job.running -= 1;
        job.report.traffic.add(traffic);
        match outcome {
            Ok(()) => job.report.equal += 1,
            Err(why) => {
                let Place { table, partition } = place;
                job.report.unfinished.push(Unfinished { table, partition, peer, why });
            }
        }
    }

    /// Answers those that have come to an end.
    pub(super) fn settle(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.open.retain(|_, job| {
            let outcome = if job.queue.is_empty() && job.running == 0 {
                let report = std::mem::take(&mut job.report);
                if report.unfinished.is_empty() { Ok(report) } else { Err(RepairError::Incomplete(report)) }
            } else if job.deadline <= now {
                Err(RepairError::DeadlinePassed(std::mem::take(&mut job.report)))
            } else {
                return true;
            };
            out.push(reply(job.origin, outcome));
            false
        });
    }

    /// Answers all of them with an error.
    pub(super) fn refuse(&mut self, error: &RepairError, out: &mut Vec<Action>) {
        let open = std::mem::take(&mut self.open);
        out.extend(open.into_values().map(|job| reply(job.origin, Err(error.clone()))));
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.open.values().map(|job| job.deadline).min()
    }

    pub(super) fn progress(&self) -> Vec<RepairProgress> {
        let progress = |job: &Job| RepairProgress { scope: job.scope.clone(), report: job.report.clone() };
        self.open.values().map(progress).collect()
    }
}

/// Everybody with whom this node shares what is in the scope.
fn comparisons(me: NodeId, catalog: &Catalog, scope: &RepairScope) -> Result<VecDeque<(Place, NodeId)>, RepairError> {
    let named = |name: &str| match catalog.named(name) {
        Some(table) if !table.options.is_replicated_durably() => Err(RepairError::CacheTable),
        table => table.ok_or(RepairError::UnknownTable),
    };
    let of_partition = |table: &TableSchema, partition| {
        let place = Place { table: table.id, partition };
        let peers = table.layout.replicas(partition).iter().copied().filter(move |peer| *peer != me);
        peers.map(move |peer| (place, peer)).collect::<Vec<_>>()
    };
    let of_table = |table: &TableSchema| -> Vec<_> {
        table.layout.partitions_of(me).flat_map(|partition| of_partition(table, partition)).collect()
    };
    Ok(match scope {
        RepairScope::Everything => {
            let durable = catalog.tables().iter().filter(|table| table.options.is_replicated_durably());
            durable.flat_map(|table| of_table(table)).collect()
        }
        RepairScope::Table(name) => of_table(named(name)?).into(),
        RepairScope::Partition { table, partition } => {
            let table = named(table)?;
            let known = partition.0 < table.layout.partitions();
            if !known || !table.layout.replicas(*partition).contains(&me) {
                return Err(RepairError::NotReplica);
            }
            of_partition(table, *partition).into()
        }
    })
}

/// Waits until everything is durable that was stored: equal means equal after a power cut too.
pub(super) const fn reply(origin: Origin, outcome: Result<RepairReport, RepairError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Repair(outcome), release: Release::Settled }
}
