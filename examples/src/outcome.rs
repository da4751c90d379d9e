//! What a run of the mini cluster came to.

use std::net::SocketAddr;
use std::time::Duration;

use kv_lsm::disk::Lost;
use kv_repl::{Liveness, NodeId, Stats};

use crate::client::Findings;
use crate::phase::Phase;

/// What a run came to.
pub struct Outcome {
    /// Keys that were acknowledged, each of which was read back.
    pub keys: u64,
    /// What the clients found, together.
    pub findings: Findings,
    /// How long each phase took.
    pub took: [Duration; Phase::ALL.len()],
    /// The node that was killed, if one was.
    pub kill: Option<Kill>,
    /// Who holds what.
    pub holdings: Vec<Holding>,
    /// Who thinks what of whom.
    pub beliefs: Vec<Beliefs>,
    /// What each node has counted since it was last started.
    pub counted: Vec<Stats>,
}

/// A node that was killed and came back.
#[derive(Copy, Clone, Debug)]
pub struct Kill {
    /// Who.
    pub node: NodeId,
    /// What its disk lost.
    pub lost: Lost,
    /// Writes that began and were acknowledged while it was down.
    pub acknowledged_while_down: u64,
    /// How long it took from its start until it served.
    pub restart_took: Duration,
}

/// What one node holds in the end.
#[derive(Copy, Clone, Debug)]
pub struct Holding {
    /// Who.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Keys that the ring gives it.
    pub by_the_ring: u64,
    /// Keys in its store.
    pub in_its_store: u64,
}

/// What one node believes of the others in the end.
#[derive(Clone, Debug)]
pub struct Beliefs {
    /// Who.
    pub node: NodeId,
    /// Of whom, what, and how long that one usually takes to answer.
    pub peers: Vec<(NodeId, Liveness, Option<Duration>)>,
}

impl Outcome {
    /// Quorum reads that a node coordinated after the killed one had come back.
    #[must_use]
    pub fn late_reads(&self, node: NodeId) -> u64 {
        self.findings.late_reads.iter().filter(|(reader, _)| *reader == node).map(|(_, reads)| reads).sum()
    }

    /// What is broken, or was not put to the test. Empty when all is well.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(Kill { node, lost, acknowledged_while_down, .. }) = &self.kill {
            if lost.bytes == 0 {
                failures
                    .push(format!("{node} had synced everything when its power was cut: no bytes were thrown away"));
            }
            if *acknowledged_while_down == 0 {
                failures.push(format!("no write was acknowledged while {node} was down"));
            }
            if self.late_reads(*node) == 0 {
                failures.push(format!("{node} served no quorum read after it came back"));
            }
        }
        let Findings { lost, wrong, .. } = self.findings;
        if lost > 0 {
            failures.push(format!("{lost} reads found nothing under an acknowledged key"));
        }
        if wrong > 0 {
            failures.push(format!("{wrong} reads found another value than the one acknowledged last"));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven() -> Outcome {
        let node = NodeId(2);
        let lost = Lost { bytes: 1, files: 0 };
        Outcome {
            keys: 1,
            findings: Findings { late_reads: vec![(NodeId(1), 5), (node, 1)], ..Findings::default() },
            took: [Duration::ZERO; 4],
            kill: Some(Kill { node, lost, acknowledged_while_down: 1, restart_took: Duration::ZERO }),
            holdings: Vec::new(),
            beliefs: Vec::new(),
            counted: Vec::new(),
        }
    }

    fn kill(outcome: &mut Outcome) -> &mut Kill {
        outcome.kill.as_mut().unwrap()
    }

    #[test]
    fn each_thing_that_is_not_proven_is_a_failure_of_its_own() {
        assert_eq!(proven().failures(), Vec::<String>::new());
        let spoil: [fn(&mut Outcome); 5] = [
            |outcome| kill(outcome).lost.bytes = 0,
            |outcome| kill(outcome).acknowledged_while_down = 0,
            |outcome| outcome.findings.late_reads[1].1 = 0,
            |outcome| outcome.findings.lost = 1,
            |outcome| outcome.findings.wrong = 1,
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut outcome = proven();
            spoil(&mut outcome);
            assert_eq!(outcome.failures().len(), 1, "number {number}");
        }
    }
}
