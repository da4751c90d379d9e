//! Clients and chaos, then healing, then the checks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use kv_core::crdt::Kind;
use kv_core::key::RecordKey;
use kv_core::record::Record;

use super::batches::Batcher;
use super::caches::{self, CacheClients};
use super::chaos::{Chaos, Faults, MEND};
use super::clients::Clients;
use super::data_types::{self, DataTypes};
use super::factory::StoreFactory;
use super::options::Options;
use super::scans::Scanner;
use super::workload::{Workload, forget};
use super::world::{Answer, World};
use crate::check::HintTotals;
use crate::liveness::Liveness;
use crate::quorum::Consistency;
use crate::request::{Get, Read};
use crate::table_options::TableOptions;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed that repeats it.
    pub seed: u64,
    /// Equal for equal runs.
    pub trace_hash: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Writes that a quorum acknowledged.
    pub acknowledged: u64,
    /// Quorum reads that were checked.
    pub reads: u64,
    /// How many of those of a cache table found something.
    pub cache_hits: u64,
    /// Those of each data type.
    pub type_reads: BTreeMap<Kind, u64>,
    /// Reads in sessions that were checked.
    pub session_reads: u64,
    /// Pages of scans that were checked.
    pub pages: u64,
    /// Batches that a client handed in.
    pub batches: u64,
    /// Operations that failed or whose node died.
    pub failures: u64,
    /// Faults of nodes, links, clocks and disks; lost, late and doubled frames are not counted.
    pub faults: Faults,
    /// Writes that were acknowledged with the help of fallbacks.
    pub by_fallbacks: u64,
    /// What became of what replicas have missed.
    pub hints: HintTotals,
    /// Records that nodes have forgotten, one for each replica.
    pub forgotten: u64,
    /// What was wrong.
    pub violations: Vec<String>,
}

const CHAOS: u64 = u64::MAX;
/// The alarms of clients of counters and sets are counted on from here.
const COUNTING: u64 = 1 << 32;
/// Those of clients of other data types from here.
const CHANGING: u64 = 1 << 36;
/// Those of clients of sloppy tables from here.
const SLOPPY: u64 = 1 << 38;
/// The alarm of the client that scans.
const SCANNER: u64 = u64::MAX - 2;
/// The alarm of the client that hands in batches.
const BATCHER: u64 = u64::MAX - 3;
/// And those of the clients of a cache from here.
const CACHES: u64 = 1 << 40;
/// How long healing may take, in microseconds.
const PATIENCE_US: u64 = 30_000_000;
const ATTEMPTS: usize = 20;

/// Runs a cluster through `options` and checks it.
#[must_use]
pub fn run(options: &Options, factory: Box<dyn StoreFactory>) -> Report {
    let repair_every = match options.repair_every_ms {
        0 => Duration::MAX,
        every_ms => Duration::from_millis(every_ms),
    };
    let Options { seed, nodes, network, siblings_max, .. } = *options;
    let mut world = World::with_repair(seed, nodes, network, siblings_max, factory, repair_every);
    if let Some(bytes_max) = options.hint_bytes_max {
        world.bound_hints(bytes_max, options.hint_bytes_per_second);
        world.age_hints(options.hint_age_ms);
    }
    world.purge_after(options.purge_after_ms);
    let replicas = options.replicas.min(usize::try_from(options.nodes).unwrap_or(usize::MAX));
    let mut tables = vec![
        ("siblings", TableOptions::siblings().replicas(replicas)),
        ("last writes", TableOptions::last_write_wins().replicas(replicas)),
    ];
    let types = data_types::COUNTERS_AND_SETS.into_iter().chain(data_types::OTHERS);
    tables.extend(types.map(|(name, kind)| (name, TableOptions::crdt(kind).replicas(replicas))));
    tables.push((caches::TABLE, caches::table(options, replicas)));
    if options.sloppy {
        tables.push(("baskets", TableOptions::siblings().replicas(replicas).sloppy()));
        tables.push(("prices", TableOptions::last_write_wins().replicas(replicas).sloppy()));
    }
    world.found_in_zones(options.zones, &tables);
    let named = |name: &str| world.table(name).expect("it was created");
    let of_types = |types: &[(&str, Kind)]| -> Vec<_> { types.iter().map(|(name, _)| named(name)).collect() };
    let mut workload = Workload::new(options, &["siblings", "last writes"].map(named));
    let of_sloppy = Options { clients: 2, keys: options.keys.clamp(1, 2), ..options.clone() };
    let mut sloppy = options.sloppy.then(|| Workload::new(&of_sloppy, &["baskets", "prices"].map(named)));
    let mut counting = DataTypes::new(options, &of_types(&data_types::COUNTERS_AND_SETS), options.keys.clamp(1, 2));
    let mut changing = DataTypes::new(options, &of_types(&data_types::OTHERS), 1);
    let mut cache_clients = CacheClients::new(options, &named(caches::TABLE));
    let mut scanner = Scanner::new(&["siblings", "last writes"].map(named), workload.keys());
    let mut batcher = Batcher::new(workload.keys(), options.spell_ms);
    let mut chaos = Chaos::new(options, &mut world);

    let end = world.now_us() + options.duration_ms * 1000;
    let groups = [
        (0, workload.clients()),
        (COUNTING, counting.clients()),
        (CHANGING, changing.clients()),
        (CACHES, cache_clients.clients()),
        (SLOPPY, sloppy.as_ref().map_or(0, Clients::clients)),
    ];
    for (first, clients) in groups {
        (0..clients as u64).for_each(|client| world.alarm(1 + client, first + client));
    }
    world.alarm(1, SCANNER);
    world.alarm(1, BATCHER);
    if let Some(pause) = chaos.pause_us(&mut world) {
        world.alarm(pause, CHAOS);
    }
    let mut wrong_hashes = Vec::new();
    while world.now_us() < end {
        match world.step() {
            None => {}
            Some(CHAOS) => {
                wrong_hashes.extend(world.wrong_hashes());
                wrong_hashes.extend(world.wrong_hints());
                wrong_hashes.extend(world.wrong_floors());
                chaos.strike(&mut world);
                let pause = chaos.pause_us(&mut world).expect("chaos comes again");
                world.alarm(pause, CHAOS);
            }
            Some(MEND) => chaos.mend(&mut world),
            Some(SCANNER) => {
                scanner.attend(&mut world, &mut workload.history);
                let think = world.random.u64(1_000..50_000);
                world.alarm(think, SCANNER);
            }
            Some(BATCHER) => {
                batcher.attend(&mut world, &mut workload.history);
                let think = world.random.u64(1_000..50_000);
                world.alarm(think, BATCHER);
            }
            Some(client) => {
                let number = |first| usize::try_from(client - first).expect("a client");
                match client {
                    SLOPPY..CACHES => {
                        sloppy.iter_mut().for_each(|clients| clients.attend(&mut world, number(SLOPPY)));
                    }
                    CACHES.. => cache_clients.attend(&mut world, number(CACHES)),
                    CHANGING.. => changing.attend(&mut world, number(CHANGING)),
                    COUNTING.. => counting.attend(&mut world, number(COUNTING)),
                    _ => workload.attend(&mut world, number(0)),
                }
                let think = world.random.u64(100..20_000);
                world.alarm(think, client);
            }
        }
    }
    chaos.heal(&mut world);
    let mut violations = wrong_hashes;
    let drain = |world: &mut World| {
        let others = scanner.drain(world, &mut workload.history) | batcher.drain(world, &mut workload.history);
        let sloppy = sloppy.as_mut().is_some_and(|clients| clients.drain(world));
        let others = others | sloppy;
        workload.drain(world) | counting.drain(world) | changing.drain(world) | cache_clients.drain(world) | others
    };
    settle(&mut world, drain, &mut violations);
    if options.repair_every_ms > 0 {
        let sloppy = sloppy.iter().flat_map(Workload::keys);
        let plain = workload.keys().iter().chain(sloppy).map(|(key, _)| key);
        let keys: Vec<_> = plain.chain(counting.keys()).chain(changing.keys()).cloned().collect();
        become_equal(&mut world, &keys, &mut violations);
    }
    violations.extend(world.wrong_hashes());
    violations.extend(world.wrong_hints());
    violations.extend(world.wrong_floors());
    converge(&mut world, &mut workload, &mut violations);
    let by_fallbacks = sloppy.as_ref().map_or(0, Workload::by_fallbacks);
    if let Some(sloppy) = &mut sloppy {
        sloppy.expect_what_fallbacks_kept(&world);
        converge(&mut world, sloppy, &mut violations);
    }
    for types in [&mut counting, &mut changing] {
        types.converge(&mut world, |world, key| read_equal(world, key, &mut violations));
    }
    for (key, tally) in counting.tallies().chain(changing.tallies()) {
        violations.extend(tally.violations.iter().map(|violation| format!("{key:?}: {violation}")));
    }
    scanner.converge(&mut world, &mut workload.history, |world, key| {
        read_equal(world, key, &mut violations).map(|read| !read.is_absent())
    });
    violations.extend_from_slice(scanner.violations());
    violations.extend(cache_clients.violations());
    for workload in sloppy.iter().chain([&workload]) {
        violations.extend_from_slice(&workload.history.tally().violations);
        violations.extend_from_slice(workload.sessions.violations());
    }
    violations.extend_from_slice(world.ledger().violations());
    violations.extend_from_slice(world.liveness().violations());
    let mut type_reads = BTreeMap::new();
    for (kind, reads) in counting.reads().chain(changing.reads()) {
        *type_reads.entry(kind).or_default() += reads;
    }
    let tallies = || {
        let of_types = counting.tallies().chain(changing.tallies()).map(|(_, tally)| tally);
        let sloppy = sloppy.iter().map(|clients| clients.history.tally());
        of_types.chain(sloppy).chain([workload.history.tally(), cache_clients.history.tally()])
    };
    Report {
        seed: options.seed,
        trace_hash: world.trace_hash(),
        operations: sloppy.as_ref().map_or(0, |clients| clients.operations)
            + workload.operations
            + batcher.operations
            + counting.operations
            + changing.operations
            + cache_clients.operations,
        acknowledged: tallies().map(|tally| tally.acknowledged).sum(),
        reads: tallies().map(|tally| tally.reads).sum(),
        cache_hits: cache_clients.history.hits(),
        type_reads,
        session_reads: workload.sessions.reads(),
        pages: scanner.pages,
        batches: batcher.batches,
        failures: sloppy.as_ref().map_or(0, |clients| clients.failures)
            + workload.failures
            + batcher.failures
            + counting.failures
            + changing.failures
            + cache_clients.failures,
        faults: chaos.faults,
        by_fallbacks,
        hints: world.hint_totals(),
        forgotten: world.floors().forgotten(),
        violations,
    }
}

/// Everybody serves again and takes everybody for alive, and nobody waits for an outcome.
fn settle(world: &mut World, mut drain: impl FnMut(&mut World) -> bool, violations: &mut Vec<String>) {
    let give_up = world.now_us() + PATIENCE_US;
    loop {
        world.run_for(50_000);
        let waiting = drain(world);
        let serving = world.nodes().iter().all(|node| world.is_serving(*node));
        let doubted = doubted(world);
        if serving && !waiting && doubted.is_none() {
            return;
        }
        if world.now_us() > give_up {
            let standings: Vec<_> =
                world.nodes().iter().filter_map(|node| world.status(*node)).map(|status| status.standing).collect();
            violations.push(match doubted {
                Some(doubted) if serving => format!("liveness: {doubted} after healing"),
                _ => format!("liveness: not everybody serves after healing: {standings:?}"),
            });
            return;
        }
    }
}

/// A node that somebody does not take for alive.
fn doubted(world: &World) -> Option<String> {
    world.nodes().into_iter().filter_map(|node| world.status(node)).find_map(|status| {
        let doubted = status.peers.iter().find(|peer| peer.liveness != Liveness::Alive)?;
        Some(format!("{} believes {} to be {}", status.node, doubted.node, doubted.liveness))
    })
}

/// Replicas become equal although nobody reads.
fn become_equal(world: &mut World, keys: &[RecordKey], violations: &mut Vec<String>) {
    let give_up = world.now_us() + PATIENCE_US;
    loop {
        let differing = keys.iter().find(|key| {
            let held = held(world, key);
            held.iter().any(|record| *record != held[0])
        });
        let Some(key) = differing else { return };
        if world.now_us() > give_up {
            violations.push(format!("{key:?} differs between replicas that compare: {:?}", held(world, key)));
            return;
        }
        world.run_for(50_000);
    }
}

/// What each replica holds of a key.
fn held(world: &World, key: &RecordKey) -> Vec<Option<Record>> {
    let table = world.table_of(key).expect("it was created");
    table.replicas_of(key.token()).iter().map(|node| world.record_at(*node, key)).collect()
}

/// A read of all replicas makes them equal; it sees all that was acknowledged.
fn converge(world: &mut World, workload: &mut Workload, violations: &mut Vec<String>) {
    for (key, rule) in workload.keys().to_vec() {
        let begun = workload.history.read_begins(&key, world.now_us());
        if let Some(read) = read_equal(world, &key, violations) {
            forget(world, &mut workload.history, &begun);
            workload.history.read_ends(&begun, rule, &read);
        }
    }
}

/// A read of all replicas, which hold the same then.
fn read_equal(world: &mut World, key: &RecordKey, violations: &mut Vec<String>) -> Option<Read> {
    let nodes = world.nodes();
    let is_equal = |world: &World, read: &Read| held(world, key).iter().all(|record| record.as_ref() == read.record());
    let read = (0..ATTEMPTS).find_map(|attempt| {
        let get = Get { key: key.clone(), consistency: Consistency::All, floor: None };
        let request = world.get(nodes[attempt % nodes.len()], get);
        match world.finish(request) {
            // Replicas do not forget at one moment.
            Answer::Read(Ok(read)) if attempt + 1 == ATTEMPTS || is_equal(world, &read) => Some(read),
            _ => {
                // Nodes that serve may still have to greet each other.
                world.run_for(500_000);
                None
            }
        }
    });
    let Some(read) = read else {
        violations.push(format!("liveness: {key:?} cannot be read after healing"));
        return None;
    };
    let held = held(world, key);
    if held.iter().any(|record| record.as_ref() != read.record()) {
        let mut what = format!("{key:?} differs between replicas after healing:");
        for record in held {
            let _ = write!(what, " {record:?}");
        }
        violations.push(what);
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{MemStores, Sabotage};

    #[test]
    fn runs_with_faults_have_no_violations() {
        let mut hints = HintTotals::default();
        let (mut pages, mut batches, mut by_fallbacks, mut forgotten) = (0, 0, 0, 0);
        let (mut session_reads, mut cache_hits, mut wipes, mut acknowledged, mut reads) = (0, 0, 0, 0, 0);
        let mut type_reads = Kind::ALL.map(|_| 0);
        for seed in 0..60 {
            let report = run(&Options::from_seed(seed), Box::new(MemStores::new()));
            assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
            assert!(report.faults.total() > 0, "{report:?}");
            wipes += report.faults.wipes;
            acknowledged += report.acknowledged;
            reads += report.reads;
            session_reads += report.session_reads;
            cache_hits += report.cache_hits;
            pages += report.pages;
            batches += report.batches;
            by_fallbacks += report.by_fallbacks;
            for (sum, kind) in type_reads.iter_mut().zip(Kind::ALL) {
                *sum += report.type_reads[&kind];
            }
            hints.delivered += report.hints.delivered;
            hints.shed += report.hints.shed;
            forgotten += report.forgotten;
        }
        assert!(session_reads > 1_000, "{session_reads}");
        assert!(pages > 1_000, "{pages}");
        assert!(batches > 1_000, "{batches}");
        assert!(by_fallbacks > 100, "{by_fallbacks}");
        assert!(wipes > 10, "{wipes}");
        assert!(acknowledged > 10_000 && reads > 10_000, "{acknowledged}, {reads}");
        assert!(cache_hits > 500, "{cache_hits}");
        assert!(type_reads.iter().all(|reads| *reads > 500), "{type_reads:?}");
        assert!(forgotten > 50, "{forgotten}");
        assert!(hints.delivered > 100 && hints.shed > 100, "{hints:?}");
    }

    /// A place that was left behind by a raise, a new storage that rose too early, and checkers that took what was right for wrong.
    /// What they found has scenarios and tests of its own; these runs go other ways with each change of what nodes do.
    #[test]
    fn seeds_that_have_found_something_find_nothing() {
        for seed in [44, 83, 180, 400, 624, 722, 2241, 2414, 4361, 4520, 4985] {
            let report = run(&Options::from_seed(seed), Box::new(MemStores::new()));
            assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        }
    }

    fn rough(seed: u64) -> Options {
        let options = Options::from_seed(seed);
        Options { hint_bytes_max: Some(1 << 20), chaos_every_ms: 300, duration_ms: 10_000, ..options }
    }

    #[test]
    fn what_a_fallback_does_not_keep_is_noticed() {
        let lost = |seed, bytes_max| {
            let options = Options { nodes: 5, hint_bytes_max: Some(bytes_max), ..rough(seed) };
            let report = run(&options, Box::new(MemStores::new()));
            report.violations.iter().filter(|violation| violation.contains("does not keep it for it")).count()
        };
        assert_eq!((0..6).map(|seed| lost(seed, 1 << 20)).sum::<usize>(), 0);
        let noticed = Sabotage::CountShedHints.during(|| (0..40).any(|seed| lost(seed, 0) > 0));
        assert!(noticed, "without room nobody keeps anything");
    }

    #[test]
    fn what_nobody_keeps_is_noticed() {
        let options = |seed| Options { sloppy: false, ..rough(seed) };
        let bare = |seed| {
            let report = run(&options(seed), Box::new(MemStores::new()));
            report.violations.iter().filter(|violation| violation.contains("neither keeps nor owes")).count()
        };
        assert_eq!((0..6).map(bare).sum::<usize>(), 0);
        let off =
            [Sabotage::NeverHint, Sabotage::DeleteHintBeforeAck, Sabotage::ShedWithoutMark, Sabotage::ForgetCrashes];
        for sabotage in off {
            // Reads and scans mend much of it before anybody looks.
            let noticed = sabotage.during(|| (0..60).any(|seed| bare(seed) > 0));
            assert!(noticed, "{sabotage:?}");
        }
    }

    #[test]
    fn what_is_forgotten_too_early_is_noticed() {
        let options = |seed| Options {
            purge_after_ms: 500,
            chaos_every_ms: 300,
            duration_ms: 10_000,
            keys: 2,
            ..Options::from_seed(seed)
        };
        let wrong = |seed| !run(&options(seed), Box::new(MemStores::new())).violations.is_empty();
        assert!(!(0..10).any(wrong));
        assert!(Sabotage::PurgeUnconfirmed.during(|| (0..60).any(wrong)));
    }

    #[test]
    fn equal_seeds_give_equal_traces() {
        let run = |seed| run(&Options { duration_ms: 5_000, ..Options::from_seed(seed) }, Box::new(MemStores::new()));
        assert_eq!(run(7).trace_hash, run(7).trace_hash);
        assert_ne!(run(7).trace_hash, run(8).trace_hash);
    }
}
