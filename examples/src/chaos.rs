//! The mini cluster under chaos: nodes lose their power, pause, are cut off from each other, and lose their disks, one after
//! the other for as long as asked, while clients write, delete and read; then everything is read.
//!
//! At most one node lacks what was on its disk at a time: the next disk is lost when the one before has been replaced and
//! holds again what was there. Nothing that was acknowledged may be missing in the end, nor anything come back that was
//! deleted.

mod client;
pub mod links;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_repl::request::ClusterError;
use kv_repl::{NodeId, TableOptions};

use self::client::Client;
pub use self::client::Findings;
use self::links::Links;
use crate::coordinators::Coordinators;
use crate::local_cluster::{LocalCluster, LocalClusterError};

const TABLE: &str = "chaos";
const CLIENTS: u64 = 4;
const KEYS_OF_EACH: u64 = 50;
/// How long everything may take that comes after the chaos: imports, and reading it all.
const AFTER_PATIENCE: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Report {
    /// For how many seconds faults were made.
    pub seconds: u64,
    /// Nodes whose power was cut.
    pub kills: u64,
    /// Nodes that stood still for a while.
    pub pauses: u64,
    /// Times that the network was cut in two.
    pub partitions: u64,
    /// Nodes that lost their disks and came back with empty ones.
    pub wipes: u64,
    /// Nodes that did not get everything back in the end.
    pub unimported: u64,
    /// What clients did and found.
    pub findings: Findings,
}

impl Report {
    /// What is broken, or was not put to the test.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut at_least = |what: &str, count: u64, every_seconds: u64| {
            let wanted = (self.seconds / every_seconds).max(1);
            if count < wanted {
                failures.push(format!("{count} {what} in {} s, and not {wanted}", self.seconds));
            }
        };
        at_least("kills", self.kills, 10);
        at_least("pauses", self.pauses, 15);
        at_least("partitions", self.partitions, 10);
        at_least("wipes", self.wipes, 20);
        at_least("acknowledged writes", self.findings.acknowledged, 1);
        at_least("reads", self.findings.reads, 1);
        let Findings { lost, wrong, resurrected, .. } = self.findings;
        let broken = [
            (lost, "reads lacked what was acknowledged"),
            (wrong, "reads found what was replaced or never written"),
            (resurrected, "reads found what was deleted"),
            (self.unimported, "nodes did not get everything back that was on their disks"),
        ];
        failures
            .extend(broken.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, wipes, partitions, findings: Findings { lost, wrong, resurrected, .. }, .. } = self;
        write!(
            f,
            "kills={kills} wipes={wipes} partitions={partitions} lost={lost} wrong={wrong} resurrected={resurrected}"
        )
    }
}

/// Runs it in `directory`.
///
/// # Errors
/// When the cluster does not come about, or a node does not come back.
pub fn run(directory: &Path, nodes: u64, seconds: u64, seed: u64) -> Result<Report, LocalClusterError> {
    let links = Arc::new(Links::default());
    let mut cluster = LocalCluster::start_over(directory, nodes, &links)?;
    let coordinators = create_table(&cluster)?;
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|number| Client::new(&coordinators, number, KEYS_OF_EACH, seed)).collect();
    let is_over = AtomicBool::new(false);
    let mut report = thread::scope(|scope| {
        let loads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        client.step();
                    }
                })
            })
            .collect();
        let mut chaos = Chaos::new(&mut cluster, &coordinators, &links, seed);
        let outcome = chaos.rage(seconds);
        is_over.store(true, Ordering::Relaxed);
        loads.into_iter().for_each(|load| load.join().expect("a client does not panic"));
        outcome.map(|()| chaos.report)
    })?;
    report.seconds = seconds;
    report.unimported = u64::from(!all_imported(&cluster));
    thread::scope(|scope| {
        clients.iter_mut().for_each(|client| drop(scope.spawn(|| client.read_everything(AFTER_PATIENCE))));
    });
    report.findings = clients.iter().fold(Findings::default(), |all, client| all.and(client.findings));
    drop(clients);
    drop(coordinators);
    cluster.stop();
    Ok(report)
}

fn create_table(cluster: &LocalCluster) -> Result<Coordinators, ClusterError> {
    cluster.node(NodeId(1)).create_table(TABLE, TableOptions::siblings())?;
    let at_each = cluster.addresses().map(|(id, _)| Ok((id, cluster.node(id).table(TABLE)?)));
    Ok(Coordinators::new(at_each.collect::<Result<_, _>>()?))
}

/// Waits until every node holds what it should.
fn all_imported(cluster: &LocalCluster) -> bool {
    let began = Instant::now();
    let lacks = |(id, _)| cluster.node(id).status().is_none_or(|status| status.importing > 0);
    while cluster.addresses().any(lacks) {
        if began.elapsed() > AFTER_PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Breaks one thing after the other, and mends it.
struct Chaos<'a> {
    cluster: &'a mut LocalCluster,
    coordinators: &'a Coordinators,
    links: &'a Links,
    random: fastrand::Rng,
    /// The node whose disk was lost last.
    wiped: Option<NodeId>,
    report: Report,
}

impl<'a> Chaos<'a> {
    fn new(cluster: &'a mut LocalCluster, coordinators: &'a Coordinators, links: &'a Links, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { cluster, coordinators, links, random, wiped: None, report: Report::default() }
    }

    fn rage(&mut self, seconds: u64) -> Result<(), LocalClusterError> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut round = 0_u32;
        while Instant::now() < end {
            self.rest(100, 500);
            let nodes = self.coordinators.nodes();
            let node = nodes[self.random.usize(..nodes.len())];
            match round % 4 {
                0 => self.kill(node)?,
                1 => self.partition(),
                2 => self.pause(node),
                _ if self.may_wipe() => self.wipe(node)?,
                _ => {}
            }
            round += 1;
        }
        Ok(())
    }

    fn rest(&mut self, from_ms: u64, to_ms: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(from_ms..=to_ms)));
    }

    fn kill(&mut self, node: NodeId) -> Result<(), LocalClusterError> {
        self.report.kills += 1;
        self.cluster.kill(node)?;
        self.coordinators.set(node, None);
        self.rest(100, 1_500);
        self.cluster.restart(node)?;
        self.is_back(node)
    }

    fn partition(&mut self) {
        self.report.partitions += 1;
        let nodes = self.coordinators.nodes();
        let side: Vec<NodeId> = nodes.iter().copied().filter(|_| self.random.bool()).collect();
        self.links.split(side);
        self.rest(200, 2_000);
        self.links.heal();
    }

    fn pause(&mut self, node: NodeId) {
        self.report.pauses += 1;
        self.links.pause(node, true);
        self.rest(100, 1_500);
        self.links.pause(node, false);
    }

    /// Whether the node whose disk was lost last holds again what was there.
    fn may_wipe(&self) -> bool {
        let holds_all = |node| self.cluster.node(node).status().is_some_and(|status| status.importing == 0);
        self.wiped.is_none_or(holds_all)
    }

    fn wipe(&mut self, node: NodeId) -> Result<(), LocalClusterError> {
        self.report.wipes += 1;
        self.cluster.kill(node)?;
        self.coordinators.set(node, None);
        self.rest(100, 500);
        self.cluster.replace(node)?;
        self.wiped = Some(node);
        self.is_back(node)
    }

    fn is_back(&self, node: NodeId) -> Result<(), LocalClusterError> {
        self.coordinators.set(node, Some(self.cluster.node(node).table(TABLE)?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Report {
        let findings = Findings { acknowledged: 100, reads: 100, ..Findings::default() };
        Report { seconds: 60, kills: 6, pauses: 4, partitions: 6, wipes: 3, unimported: 0, findings }
    }

    #[test]
    fn each_thing_that_is_not_proven_is_a_failure_of_its_own() {
        assert_eq!(well().failures(), Vec::<String>::new());
        let spoil: [fn(&mut Report); 10] = [
            |report| report.kills = 5,
            |report| report.pauses = 3,
            |report| report.partitions = 5,
            |report| report.wipes = 2,
            |report| report.findings.acknowledged = 59,
            |report| report.findings.reads = 59,
            |report| report.findings.lost = 1,
            |report| report.findings.wrong = 1,
            |report| report.findings.resurrected = 1,
            |report| report.unimported = 1,
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut report = well();
            spoil(&mut report);
            assert_eq!(report.failures().len(), 1, "number {number}");
        }
    }
}
