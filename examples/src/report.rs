//! What a run shows: lines on standard output, a progress bar on standard error while there is a terminal.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kv_lsm::disk::Lost;
use kv_repl::NodeId;
use kv_repl::stats::{OutcomeKind, RequestKind, Stats};
use kv_ring::Layout;

use crate::client::WINDOW;
use crate::latency::Kind;
use crate::mini_cluster::CLIENTS;
use crate::options::Options;
use crate::outcome::{Kill, Outcome};
use crate::phase::{Phase, Progress};
use crate::workload::Workload;

/// How often the bar is drawn, per second.
const DRAWS_PER_SECOND: u8 = 10;

/// Where a run shows itself.
pub struct Screen {
    bar: ProgressBar,
    is_silent: bool,
}

impl Screen {
    /// The terminal.
    #[must_use]
    pub fn terminal() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        Self { bar, is_silent: false }
    }

    /// Nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), is_silent: true }
    }

    fn line(&self, line: &str) {
        if !self.is_silent {
            // The bar steps aside while somebody else writes.
            self.bar.suspend(|| println!("{line}"));
        }
    }

    pub(crate) fn opening(&self, options: &Options, directory: &Path) {
        let Options { nodes, replicas, .. } = options;
        let stays = if options.dir.is_some() { "stays there afterwards" } else { "is removed afterwards" };
        self.line(&format!(
            "{nodes} nodes in one process, each key on {replicas} of them, quorum {}",
            replicas / 2 + 1
        ));
        self.line(&format!("everything is below {} and {stays}", directory.display()));
    }

    pub(crate) fn ring(&self, layout: &Layout, addresses: impl Iterator<Item = (NodeId, SocketAddr)>) {
        self.line(&format!("\nthe ring\n{}", layout.report()));
        let addresses: Vec<String> = addresses.map(|(node, address)| format!("{node} {address}")).collect();
        self.line(&format!("addresses: {}\n", addresses.join(", ")));
    }

    pub(crate) fn loading(&self, workload: &Workload) {
        let what = match workload {
            Workload::Generated(_) => "generated keys",
            Workload::File(_) => "lines of the file",
        };
        let under_way = CLIENTS * WINDOW;
        self.line(&format!(
            "loading {what}: {CLIENTS} clients with {WINDOW} requests under way each, {under_way} in all"
        ));
        self.start_bar(workload.progress().1);
    }

    pub(crate) fn loaded(&self, done: u64, progress: &Progress) {
        self.bar.set_position(done);
        // Formatting for each write would cost more than sending it.
        if done.is_multiple_of(1024) {
            self.bar.set_message(format!("{}, {} writes acknowledged", progress.phase(), progress.acknowledged()));
        }
    }

    pub(crate) fn killed(&self, node: NodeId, lost: Lost) {
        let Lost { bytes, files } = lost;
        self.line(&format!(
            "{node}: power cut, {bytes} unsynced bytes and {files} unsynced files thrown away; the load goes on"
        ));
    }

    pub(crate) fn restarted(&self, node: NodeId, took: Duration, acknowledged: u64) {
        self.line(&format!(
            "{node}: serves again, {} ms after its start; {acknowledged} writes were acknowledged without it",
            took.as_millis()
        ));
    }

    pub(crate) fn reading_back(&self, keys: u64) {
        self.bar.finish_and_clear();
        self.line(&format!("reading {keys} keys back at quorum, through all nodes in turn"));
    }

    fn start_bar(&self, length: u64) {
        let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {elapsed}  {msg}");
        self.bar.set_style(style.expect("the template is right"));
        self.bar.set_length(length);
        self.bar.reset();
    }

    /// Shows what a run came to; its last line is for programs.
    pub fn outcome(&self, outcome: &Outcome) {
        self.line("\nwho holds what");
        self.line(&format!("{:<8}{:>18}{:>18}", "node", "keys by the ring", "keys in its store"));
        for holding in &outcome.holdings {
            let node = holding.node.to_string();
            self.line(&format!("{node:<8}{:>18}{:>18}", holding.by_the_ring, holding.in_its_store));
        }
        self.beliefs(outcome);
        self.counted(outcome);
        self.latencies(outcome);
        if let Some(kill) = &outcome.kill {
            self.kill(outcome, kill);
        }
        let findings = &outcome.findings;
        self.line(&format!(
            "{} writes of {} keys acknowledged, {} of them over an earlier value; {} attempts repeated",
            findings.writes, outcome.keys, findings.overwrites, findings.retries
        ));
        if findings.companions > 0 {
            self.line(&format!(
                "{} reads also found a copy of a write whose first outcome was unknown",
                findings.companions
            ));
        }
        for unexpected in &findings.unexpected {
            self.line(unexpected);
        }
        let (lost, wrong) = (findings.lost, findings.wrong);
        self.line(&format!("acknowledged={} lost={lost} wrong={wrong}", outcome.keys));
    }

    fn beliefs(&self, outcome: &Outcome) {
        self.line("\nwho thinks what of whom, and how long it waits for an answer");
        let names = outcome.beliefs.iter().map(|beliefs| format!("{:>16}", beliefs.node.to_string()));
        self.line(&format!("{:<8}{}", "node", names.collect::<String>()));
        for beliefs in &outcome.beliefs {
            let of = |node| {
                let peer = beliefs.peers.iter().find(|(peer, ..)| *peer == node);
                let shown = peer.map(|(_, liveness, latency)| match latency {
                    Some(latency) => format!("{liveness}, {} ms", latency.as_millis()),
                    None => liveness.to_string(),
                });
                format!("{:>16}", shown.unwrap_or_default())
            };
            let row: String = outcome.beliefs.iter().map(|beliefs| of(beliefs.node)).collect();
            self.line(&format!("{:<8}{row}", beliefs.node.to_string()));
        }
    }

    fn counted(&self, outcome: &Outcome) {
        self.line("\nwhat each node has counted since its last start");
        self.line(&format!(
            "{:<8}{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}{:>14}{:>16}",
            "node", "puts", "gets", "put p99 ms", "turns", "inputs each", "syncs ms", "MiB to peers", "hints delivered"
        ));
        for Stats { status, requests, traffic, turns, .. } in &outcome.counted {
            let [puts, gets] = [RequestKind::Put, RequestKind::Get].map(|kind| requests.kind(kind));
            let ms = |us: u64| us as f64 / 1e3;
            let bytes: u64 = traffic.sent.lanes().map(|(_, lane)| lane.bytes).sum();
            self.line(&format!(
                "{:<8}{:>10}{:>10}{:>12.2}{:>12}{:>12.1}{:>12.2}{:>14.1}{:>16}",
                status.node.to_string(),
                puts.outcomes(OutcomeKind::Ok),
                gets.outcomes(OutcomeKind::Ok),
                ms(puts.done.quantile(0.99)),
                turns.inputs.count(),
                turns.inputs.mean(),
                ms(turns.sync_waits.quantile(0.5)),
                bytes as f64 / f64::from(1 << 20),
                status.hints.delivered
            ));
        }
    }

    fn latencies(&self, outcome: &Outcome) {
        self.line("\nrequests, from the first attempt to the answer");
        self.line(&format!(
            "{:<18}{:>8}{:>12}{:>6}{:>10}{:>12}{:>12}",
            "phase", "seconds", "requests/s", "", "count", "p50 ms", "p99 ms"
        ));
        for (phase, took) in Phase::ALL.into_iter().zip(outcome.took) {
            let latencies = [Kind::Put, Kind::Get].map(|kind| outcome.findings.latencies.percentiles(phase, kind));
            let seconds = took.as_secs_f64();
            let per_second = latencies.iter().map(|kind| kind.count).sum::<u64>() as f64 / seconds.max(1e-9);
            let mut head = format!("{:<18}{seconds:>8.2}{per_second:>12.0}", phase.to_string());
            for (kind, percentiles) in ["put", "get"].into_iter().zip(latencies).filter(|(_, of)| of.count > 0) {
                let [p50, p99] = [percentiles.p50, percentiles.p99].map(|took| took.as_secs_f64() * 1e3);
                self.line(&format!("{head:<38}{kind:>6}{:>10}{p50:>12.2}{p99:>12.2}", percentiles.count));
                head.clear();
            }
        }
        self.line("");
    }

    fn kill(&self, outcome: &Outcome, kill: &Kill) {
        let Kill { node, lost, acknowledged_while_down, .. } = kill;
        self.line(&format!(
            "{node}: {} bytes thrown away, {acknowledged_while_down} writes acknowledged while it was down, \
             {} quorum reads served by it afterwards",
            lost.bytes,
            outcome.late_reads(*node)
        ));
    }
}
