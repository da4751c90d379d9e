//! The names under which everything is exported, and what each of them means. `docs/operations.md` lists them; a test compares.

use kv_core::export::{Distribution, Exporter, Family, Kind, Label, Value};

use super::{OutcomeKind, RequestKind, Stats, Traffic};
use crate::liveness::Liveness;
use crate::message::MessageKind;
use crate::status::{Dropped, Standing};
use crate::transport::Lane;

/// Bounds of times in microseconds: from a hit in memory to a deadline that was set generously.
const TIMES_US: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
/// Bounds of how many there were of something.
const SIZES: [u64; 9] = [0, 1, 4, 16, 64, 256, 1_024, 4_096, 16_384];

pub(super) fn export(stats: &Stats, exporter: &mut dyn Exporter) {
    let mut families = Families { exporter, node: stats.status.node.0.to_string() };
    families.standing(stats);
    families.requests(stats);
    families.load(stats);
    families.traffic(stats);
    families.turns(stats);
    families.peers(stats);
    families.hints(stats);
    families.purge(stats);
    families.repair(stats);
    families.caches(stats);
}

struct Families<'a> {
    exporter: &'a mut dyn Exporter,
    node: String,
}

impl Families<'_> {
    fn counter(&mut self, name: &'static str, help: &'static str) {
        self.exporter.family(Family { name, kind: Kind::Counter, help });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) {
        self.exporter.family(Family { name, kind: Kind::Gauge, help });
    }

    fn histogram(&mut self, name: &'static str, help: &'static str) {
        self.exporter.family(Family { name, kind: Kind::Histogram, help });
    }

    fn is(&mut self, labels: &[Label<'_>], value: &Value) {
        let all: Vec<Label<'_>> = std::iter::once(("node", self.node.as_str())).chain(labels.iter().copied()).collect();
        self.exporter.sample(&all, value);
    }

    fn count(&mut self, labels: &[Label<'_>], count: u64) {
        self.is(labels, &Value::Count(count));
    }

    fn size(&mut self, labels: &[Label<'_>], size: usize) {
        self.count(labels, size as u64);
    }

    fn number(&mut self, labels: &[Label<'_>], number: f64) {
        self.is(labels, &Value::Number(number));
    }

    fn distribution(&mut self, labels: &[Label<'_>], distribution: Distribution) {
        self.is(labels, &Value::Distribution(distribution));
    }

    fn standing(&mut self, Stats { status, .. }: &Stats) {
        self.gauge("kv_standing", "Whether the node serves: one for what it is, zero for what it is not.");
        for (name, standing) in [
            ("unfounded", Standing::Unfounded),
            ("confirming", Standing::Confirming),
            ("serving", Standing::Serving),
            ("quarantined", Standing::Quarantined),
            ("halted", Standing::Halted),
        ] {
            self.count(&[("standing", name)], u64::from(status.standing == standing));
        }
        self.gauge("kv_boot", "How often this storage was started.");
        self.count(&[], status.boot.0);
        self.gauge("kv_importing_partitions", "Partitions that a new storage has yet to get from other replicas.");
        self.size(&[], status.importing);
        self.gauge("kv_tables", "Tables that the node knows.");
        self.size(&[], status.tables.len());
    }

    fn requests(&mut self, Stats { requests, .. }: &Stats) {
        self.counter("kv_requests_total", "Requests of clients, by what was asked and what it came to.");
        for kind in RequestKind::ALL {
            for outcome in OutcomeKind::ALL {
                let labels = [("kind", kind.name()), ("outcome", outcome.name())];
                self.count(&labels, requests.kind(kind).outcomes(outcome));
            }
        }
        self.histogram(
            "kv_request_seconds",
            "How long clients waited for an answer, by whether what they asked was done.",
        );
        for kind in RequestKind::ALL {
            let stats = requests.kind(kind);
            for (done, times) in [("yes", &stats.done), ("no", &stats.undone)] {
                if times.count() > 0 {
                    self.distribution(&[("kind", kind.name()), ("done", done)], times.seconds(&TIMES_US));
                }
            }
        }
        self.histogram("kv_batch_requests", "How many requests each batch held.");
        self.distribution(&[], requests.batches.sizes(&SIZES));
    }

    fn load(&mut self, Stats { status, .. }: &Stats) {
        let (load, extra) = (&status.load, &status.extra);
        self.gauge(
            "kv_requests_under_way",
            "Requests without an outcome: of clients, and writes that peers passed on.",
        );
        self.size(&[("of", "clients")], load.client_requests);
        self.size(&[("of", "peers")], load.peer_requests);
        self.gauge("kv_requests_under_way_bytes", "About how many bytes they take.");
        self.size(&[("of", "clients")], load.client_bytes);
        self.size(&[("of", "peers")], load.peer_bytes);
        self.gauge("kv_arrived_bytes", "About how many bytes wait for the next turn.");
        self.size(&[], load.arrived_bytes);
        self.gauge("kv_held_bytes", "About how many bytes of answers wait for the disk.");
        self.size(&[], load.held_bytes);
        self.gauge("kv_stragglers", "Answered writes that a replica has yet to acknowledge.");
        self.size(&[], load.stragglers);
        self.counter("kv_requests_shed_total", "What was refused because there was too much to do.");
        self.count(&[("of", "clients")], load.shed);
        self.count(&[("of", "peers")], load.shed_for_peers);
        self.counter("kv_messages_needed_total", "Messages to replicas that requests needed.");
        self.count(&[], extra.needed);
        self.counter("kv_hedges_total", "Replicas asked in the place of others that took longer than usual.");
        self.count(&[], extra.hedges);
        self.counter("kv_retries_total", "Messages sent again after a pause without an answer.");
        self.count(&[], extra.retries);
        self.counter("kv_extra_refused_total", "Hedges and retries that the budget did not allow.");
        self.count(&[], extra.refused);
    }

    fn traffic(&mut self, Stats { traffic, status, .. }: &Stats) {
        let directions = [("sent", &traffic.sent), ("received", &traffic.received)];
        self.counter("kv_frames_total", "Frames sent to peers and received from them.");
        self.lanes(directions, |traffic, lane| traffic.lane(lane).frames);
        self.counter("kv_frame_bytes_total", "Bytes of those frames.");
        self.lanes(directions, |traffic, lane| traffic.lane(lane).bytes);
        self.counter("kv_messages_total", "Messages in those frames, by what they are.");
        for (direction, traffic) in directions {
            for kind in MessageKind::ALL {
                self.count(&[("direction", direction), ("kind", kind.name())], traffic.messages(*kind));
            }
        }
        self.counter("kv_frames_refused_total", "Frames that the transport did not take.");
        self.count(&[], traffic.frames_refused);
        self.counter("kv_frames_dropped_total", "Frames of peers that found no room to wait for a turn.");
        self.count(&[], status.load.dropped_frames);
        self.counter("kv_messages_oversized_total", "Messages that no frame could carry.");
        self.count(&[], traffic.oversized);
        self.counter("kv_messages_dropped_total", "Frames and messages of peers that were not used.");
        let Dropped {
            malformed,
            impostor,
            other_cluster,
            stranger,
            other_incarnation,
            other_boot,
            premature,
            unknown_kind,
            repeated,
        } = status.dropped;
        for (reason, count) in [
            ("malformed", malformed),
            ("impostor", impostor),
            ("other_cluster", other_cluster),
            ("stranger", stranger),
            ("other_incarnation", other_incarnation),
            ("other_boot", other_boot),
            ("premature", premature),
            ("unknown_kind", unknown_kind),
            ("repeated", repeated),
        ] {
            self.count(&[("reason", reason)], count);
        }
    }

    fn lanes(&mut self, directions: [(&str, &Traffic); 2], count: fn(&Traffic, Lane) -> u64) {
        for (direction, traffic) in directions {
            for (name, lane) in [("control", Lane::Control), ("request", Lane::Request), ("bulk", Lane::Bulk)] {
                self.count(&[("direction", direction), ("lane", name)], count(traffic, lane));
            }
        }
    }

    fn turns(&mut self, Stats { turns, .. }: &Stats) {
        self.histogram("kv_turn_inputs", "How many requests and frames each turn took in.");
        self.distribution(&[], turns.inputs.sizes(&SIZES));
        self.histogram("kv_turn_seconds", "How long turns took.");
        self.distribution(&[], turns.took.seconds(&TIMES_US));
        self.histogram("kv_commit_seconds", "How long the store took to take the writes of a turn.");
        self.distribution(&[], turns.commits.seconds(&TIMES_US));
        self.histogram("kv_commit_operations", "How many writes a commit made at a time.");
        self.distribution(&[], turns.commit_operations.sizes(&SIZES));
        self.counter("kv_commit_bytes_total", "Bytes of all commits.");
        self.count(&[], turns.commit_bytes);
        self.counter("kv_commit_failures_total", "Commits that the store refused.");
        self.count(&[], turns.commit_failures);
        self.histogram("kv_sync_wait_seconds", "How long it took from a commit until it was known to be durable.");
        self.distribution(&[], turns.sync_waits.seconds(&TIMES_US));
    }

    fn peers(&mut self, Stats { status, beliefs, round_trips, .. }: &Stats) {
        self.gauge("kv_peers", "Other members, by what this node believes of them.");
        for (name, liveness) in [("alive", Liveness::Alive), ("suspect", Liveness::Suspect), ("dead", Liveness::Dead)] {
            let of = status.peers.iter().filter(|peer| peer.liveness == liveness).count();
            self.size(&[("liveness", name)], of);
        }
        self.gauge(
            "kv_peers_reachable",
            "Other members that have been heard of in this life and whose frames are taken.",
        );
        self.size(&[], status.peers.iter().filter(|peer| peer.reachable).count());
        self.gauge(
            "kv_patience",
            "How many times as long as usual the node waits for others because it is slow itself.",
        );
        self.count(&[], status.patience);
        self.counter(
            "kv_beliefs_total",
            "How often peers were suspected, contradicted, were believed dead, and returned.",
        );
        for (change, count) in [
            ("suspected", beliefs.suspected),
            ("refuted", beliefs.refuted),
            ("died", beliefs.died),
            ("returned", beliefs.returned),
        ] {
            self.count(&[("change", change)], count);
        }
        self.counter("kv_contradictions_total", "How often this node was suspected itself, and contradicted.");
        self.count(&[], beliefs.contradicted);
        self.histogram("kv_round_trip_seconds", "How long peers took to answer, to the millisecond.");
        self.distribution(&[("of", "pings")], round_trips.pings.seconds(&TIMES_US));
        self.distribution(&[("of", "reads")], round_trips.reads.seconds(&TIMES_US));
    }

    fn purge(&mut self, Stats { status, .. }: &Stats) {
        let purge = &status.purge;
        self.gauge("kv_purge_partitions", "Partitions that the node leads to higher floors.");
        self.size(&[], purge.places);
        self.gauge(
            "kv_purge_held_back_partitions",
            "Those of them that hold something old enough to be forgotten, and cannot forget it.",
        );
        self.size(&[], purge.held_back);
        self.counter("kv_purge_versions_total", "Tombstones and expired versions that were dropped.");
        self.count(&[], purge.versions);
        self.counter("kv_purge_records_total", "Records that were dropped as a whole.");
        self.count(&[], purge.records);
        self.gauge("kv_purge_held_back_by", "Nodes that hold back what could be forgotten.");
        for node in &purge.held_back_by {
            self.count(&[("holder", &node.0.to_string())], 1);
        }
    }

    fn hints(&mut self, Stats { status, .. }: &Stats) {
        let hints = &status.hints;
        self.gauge("kv_hint_bytes", "What is kept for other nodes takes up so many bytes.");
        self.count(&[], hints.bytes);
        self.gauge("kv_hint_bytes_max", "What is kept for other nodes may take up so many bytes.");
        self.count(&[], hints.bytes_max);
        self.counter("kv_hints_kept_total", "Changes that were kept for other nodes.");
        self.count(&[], hints.kept);
        self.counter("kv_hints_stood_in_total", "Of these, changes that were kept for other coordinators.");
        self.count(&[], hints.stood_in);
        self.counter("kv_hints_delivered_total", "Hints that are durable at whom they were for.");
        self.count(&[], hints.delivered);
        self.counter(
            "kv_hints_shed_total",
            "Changes that were not kept, or not any longer; their partitions owe a comparison.",
        );
        self.count(&[], hints.shed);
        self.counter("kv_hints_redirected_total", "Hints that went to other holders of their records.");
        self.count(&[], hints.redirected);
        let targets: Vec<(String, _)> =
            hints.targets.iter().map(|target| (target.target.0.to_string(), target)).collect();
        self.gauge("kv_hints", "Hints that are kept, by whom they are for.");
        for (name, target) in &targets {
            self.count(&[("target", name)], target.hints);
        }
        self.gauge("kv_owed_partitions", "Partitions that owe a comparison, by with whom.");
        for (name, target) in &targets {
            self.size(&[("target", name)], target.owed_partitions);
        }
        self.gauge("kv_hints_oldest_birth_seconds", "When the oldest change was born that is kept, since 1970.");
        for (name, target) in &targets {
            if let Some(birth) = target.oldest_birth {
                self.number(&[("target", name)], birth.wall().as_duration().as_secs_f64());
            }
        }
    }

    fn repair(&mut self, Stats { status, .. }: &Stats) {
        let repair = &status.repair;
        self.counter("kv_comparisons_begun_total", "Comparisons with other replicas that this node began.");
        self.count(&[], repair.comparisons_begun);
        self.counter("kv_comparisons_total", "Those of them that have ended, by how.");
        self.count(&[("outcome", "equal")], repair.comparisons_equal);
        self.count(&[("outcome", "unfinished")], repair.comparisons_unfinished);
        self.counter("kv_comparisons_idle_total", "Those among the equal ones that found nothing to do.");
        self.count(&[], repair.comparisons_idle);
        self.gauge("kv_comparisons_running", "Comparisons that are under way.");
        self.size(&[], repair.comparisons_running);
        self.counter("kv_repair_records_total", "Records that comparisons begun here have moved.");
        self.count(&[("direction", "sent")], repair.traffic.records_sent);
        self.count(&[("direction", "received")], repair.traffic.records_received);
        self.counter("kv_repair_bytes_total", "About how many bytes comparisons begun here have moved.");
        self.count(&[("direction", "sent")], repair.traffic.bytes_sent);
        self.count(&[("direction", "received")], repair.traffic.bytes_received);
        self.counter("kv_repair_records_hashed_total", "Records that were read to compute hashes.");
        self.count(&[], repair.records_hashed);
        self.counter("kv_repair_records_unfit_total", "Records of others that were not joined.");
        self.count(&[], repair.records_unfit);
        self.counter("kv_repair_questions_total", "Questions of other replicas that were answered.");
        self.count(&[], repair.questions_answered);
        self.gauge("kv_repair_leaves", "Leaves of hash trees in memory.");
        self.size(&[], repair.leaves);
        self.gauge("kv_repair_leaves_noted", "Leaves whose hashes are in the store for the next start.");
        self.size(&[], repair.leaves_noted);
    }

    fn caches(&mut self, Stats { status, .. }: &Stats) {
        type Of = fn(&crate::status::CacheStatus) -> u64;
        let gauges: [(&str, &str, Of); 4] = [
            ("kv_cache_bytes", "What is held of a cache table takes up so many bytes.", |cache| cache.bytes),
            ("kv_cache_bytes_max", "What is held of a cache table may take up so many bytes.", |cache| cache.bytes_max),
            ("kv_cache_values", "Values that are held of a cache table.", |cache| cache.values),
            ("kv_cache_tombstones", "Deletes that are held of a cache table.", |cache| cache.tombstones),
        ];
        let counters: [(&str, &str, Of); 5] = [
            ("kv_cache_hits_total", "Looks into a cache table that found a value.", |cache| cache.hits),
            ("kv_cache_misses_total", "Looks into a cache table that found none.", |cache| cache.misses),
            ("kv_cache_evictions_total", "Values that had to make room.", |cache| cache.evictions),
            ("kv_cache_expirations_total", "Values whose time was over.", |cache| cache.expirations),
            ("kv_cache_deletes_refused_total", "Deletes that had no room.", |cache| cache.deletes_refused),
        ];
        for (name, help, of) in gauges {
            self.gauge(name, help);
            status.caches.iter().for_each(|cache| self.count(&[("table", &cache.table)], of(cache)));
        }
        for (name, help, of) in counters {
            self.counter(name, help);
            status.caches.iter().for_each(|cache| self.count(&[("table", &cache.table)], of(cache)));
        }
    }
}
