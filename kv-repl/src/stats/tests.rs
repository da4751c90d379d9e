//! What is exported is what was counted, under the names that the documentation lists.

use std::time::Duration;

use kv_core::NodeId;
use kv_core::export::checker::{Sample, check};
use kv_core::version::Incarnation;

use super::*;
use crate::hint_status::{HintStatus, TargetHints};
use crate::identity::{Boot, ClusterId};
use crate::liveness::Liveness;
use crate::message::{Message, MessageKind};
use crate::repair_request::RepairStatus;
use crate::status::{CacheStatus, Dropped, ExtraMessages, LoadStatus, PeerStatus, PurgeStatus, Standing};
use crate::transport::Lane;

/// A node that has done a little of everything.
pub(super) fn small() -> Stats {
    let peer = PeerStatus {
        node: NodeId(2),
        reachable: true,
        boot: Boot(1),
        liveness: Liveness::Suspect,
        refutations: 0,
        latency: None,
        latency_deviation: None,
        phi: 0.0,
    };
    let cache = CacheStatus {
        table: "pages \"hot\"".to_owned(),
        bytes: 100,
        bytes_max: 1000,
        values: 3,
        tombstones: 1,
        hits: 7,
        misses: 2,
        evictions: 1,
        expirations: 0,
        deletes_refused: 0,
    };
    let target = TargetHints {
        target: NodeId(2),
        hints: 4,
        bytes: 400,
        oldest_birth: Some(kv_core::hlc::Stamp::at(kv_core::time::Millis(1_700_000_000_500))),
        owed_partitions: 2,
        shed: 1,
        delivering: false,
    };
    let status = Status {
        node: NodeId(1),
        incarnation: Incarnation(9),
        boot: Boot(3),
        cluster: ClusterId(5),
        standing: Standing::Serving,
        patience: 1,
        peers: vec![peer],
        tables: vec!["carts".to_owned()],
        dropped: Dropped { other_boot: 2, ..Dropped::default() },
        requests: 1,
        load: LoadStatus { client_requests: 1, client_bytes: 600, held_bytes: 256, shed: 1, ..LoadStatus::default() },
        extra: ExtraMessages { needed: 10, hedges: 1, retries: 0, refused: 0 },
        repair: RepairStatus {
            comparisons_begun: 2,
            comparisons_equal: 1,
            comparisons_unfinished: 1,
            ..Default::default()
        },
        caches: vec![cache],
        hints: HintStatus {
            bytes: 400,
            bytes_max: 1 << 20,
            kept: 5,
            shed: 1,
            targets: vec![target],
            ..Default::default()
        },
        purge: PurgeStatus {
            places: 12,
            rounds: 4,
            held_back: 3,
            held_back_by: vec![NodeId(2)],
            versions: 9,
            records: 5,
        },
        importing: 0,
    };
    let mut requests = RequestStats::default();
    for (outcome, ms) in [(OutcomeKind::Ok, 2), (OutcomeKind::Ok, 40), (OutcomeKind::Overloaded, 0)] {
        requests.answered(RequestKind::Put, outcome, Duration::from_millis(ms));
    }
    let mut traffic = TrafficStats { frames_refused: 1, ..TrafficStats::default() };
    traffic.sent.frame(Lane::Request, 90);
    traffic.sent.message(&Message::WriteReply { tag: 1, refused: None });
    let mut turns = TurnStats { commit_bytes: 200, ..TurnStats::default() };
    [0, 3].into_iter().for_each(|inputs| turns.inputs.record(inputs));
    turns.sync_waits.record(1_500);
    let mut round_trips = RoundTrips::default();
    round_trips.pings.record_time(Duration::from_millis(1));
    Stats { status, requests, traffic, turns, round_trips, beliefs: BeliefStats { suspected: 1, ..Default::default() } }
}

/// The value of the sample with this name and, among others, these labels.
fn value(samples: &[Sample], name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    let has = |labels: &[(String, String)]| {
        wanted.iter().all(|(name, text)| labels.iter().any(|label| label.0 == *name && label.1 == *text))
    };
    samples.iter().find(|sample| sample.name == name && has(&sample.labels)).map(|sample| sample.value)
}

#[test]
fn the_text_of_a_small_node_is_as_it_was() {
    let text = small().to_prometheus();
    check(&text).expect("it is what the format says");
    // What is zero is left out here, so that a new kind of message does not change this.
    let is_shown = |line: &&str| line.starts_with("# TYPE") || !(line.starts_with('#') || line.ends_with(" 0"));
    let shown: String = text.lines().filter(is_shown).flat_map(|line| [line, "\n"]).collect();
    if std::env::var_os("KV_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/stats/golden.txt"), &shown)
            .expect("it can be written");
        return;
    }
    for (line, expected) in shown.lines().zip(include_str!("golden.txt").lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(shown.len(), include_str!("golden.txt").len());
}

#[test]
fn each_family_stands_in_the_documentation() {
    let documented = include_str!("../../../docs/operations.md");
    for name in small().to_prometheus().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(documented.contains(&format!("`{name}`")), "docs/operations.md does not say what {name} means");
    }
}

#[test]
fn every_kind_of_request_and_message_has_its_sample() {
    let samples = check(&small().to_prometheus()).expect("it is what the format says");
    for kind in RequestKind::ALL {
        for outcome in OutcomeKind::ALL {
            let labels = [("kind", kind.name()), ("outcome", outcome.name())];
            assert!(value(&samples, "kv_requests_total", &labels).is_some(), "{labels:?}");
        }
    }
    for kind in MessageKind::ALL {
        assert!(value(&samples, "kv_messages_total", &[("direction", "received"), ("kind", kind.name())]).is_some());
    }
    assert_eq!(value(&samples, "kv_requests_total", &[("kind", "put"), ("outcome", "ok")]), Some(2.0));
    assert_eq!(value(&samples, "kv_request_seconds_bucket", &[("kind", "put"), ("le", "0.0025")]), Some(1.0));
    assert_eq!(value(&samples, "kv_cache_hits_total", &[("table", "pages \"hot\"")]), Some(7.0));
    assert!(samples.iter().all(|sample| sample.labels[0] == ("node".to_owned(), "1".to_owned())));
}
