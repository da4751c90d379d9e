//! Each rule of the protocols as a scenario: right with the rule on, and wrong with it off.
//!
//! The first test runs every scenario as it is. The second switches each rule off and requires that its scenario fails: a
//! guard that cannot fail guards nothing.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload};

use super::birth_rules::{frame_of_an_earlier_life, frame_of_another_cluster, frame_of_another_storage};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Get, Put, ReadError, WriteError};
use crate::status::Standing;
use crate::table_options::TableOptions;

/// Says what went wrong, if anything did.
pub(super) type Scenario = fn() -> Result<(), String>;

/// Every switch, and the scenario that it must break. Names begin with the rule or lesson they stand for.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::ReplyBeforeDurable, "protocol_rule_03_lesson_19_no_reply_outruns_durability", slow_disks),
    (Sabotage::KeepActorAfterCrash, "protocol_rule_05_lesson_03_a_crash_retires_the_actor", crash_after_a_mint),
    (Sabotage::AnswerBeforeRepair, "lesson_09_a_quorum_read_repairs_before_it_answers", splits),
    (Sabotage::CountAcksTwice, "protocol_rule_13_a_quorum_counts_replicas_and_not_replies", doubled_acknowledgements),
    (Sabotage::CountRetriesTwice, "protocol_rule_10_two_copies_of_an_operation_count_once", crashes),
    (Sabotage::RepeatForwarded, "protocol_rule_10_a_forwarded_write_happens_once", doubled_frames),
    (Sabotage::ForwardToNextLife, "protocol_rule_10_a_write_is_not_passed_on_to_another_life", forwarded_to_a_crash),
    (Sabotage::CoverUnseen, "protocol_rule_05_lesson_01_a_write_covers_only_what_its_writer_saw", splits),
    (
        Sabotage::ShareTagsBetweenLives,
        "protocol_rule_01_a_late_reply_never_meets_a_request_of_the_next_life",
        reply_to_an_earlier_life,
    ),
    (
        Sabotage::TellUnseen,
        "protocol_rule_05_a_retry_learns_nothing_its_writer_had_not_seen",
        retried_after_another_write,
    ),
    (Sabotage::GoOnAfterTheEnd, "protocol_rule_05_a_node_that_stops_in_order_mints_no_more", write_after_the_end),
    (
        Sabotage::ReadBehindTheTurn,
        "protocol_rule_05_two_writes_in_one_turn_read_different_states",
        two_writes_in_one_turn,
    ),
    (Sabotage::NoSiblingsLimit, "lesson_02_the_limit_of_siblings_refuses_and_drops_nothing", too_many_siblings),
    (Sabotage::IgnoreClusterId, "protocol_rule_02_frames_of_another_cluster_are_dropped", frame_of_another_cluster),
    (Sabotage::IgnoreIncarnation, "protocol_rule_01_frames_of_another_storage_are_dropped", frame_of_another_storage),
    (Sabotage::IgnoreBoot, "protocol_rule_01_frames_of_an_earlier_life_are_dropped", frame_of_an_earlier_life),
    (
        Sabotage::ServeUnconfirmed,
        "protocol_rule_11_nobody_serves_before_a_majority_knows_its_life",
        restart_in_the_dark,
    ),
];

#[test]
fn every_rule_holds() {
    for (_, name, scenario) in RULES.iter().chain(gossip_rules::RULES) {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES.iter().chain(gossip_rules::RULES) {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Runs seeds until one shows a violation.
pub(super) fn search(seeds: std::ops::Range<u64>, options: impl Fn(u64) -> Options) -> Result<(), String> {
    for seed in seeds {
        // Replicas that compare what they hold, or keep it for each other, mend what a rule has let slip before anybody sees it.
        let options =
            Options { repair_every_ms: 0, hint_bytes_max: None, sloppy: false, purge_after_ms: 0, ..options(seed) };
        let report = run(&options, Box::new(MemStores::new()));
        if let Some(violation) = report.violations.first() {
            return Err(format!("seed {seed}: {violation}"));
        }
    }
    Ok(())
}

fn crashes() -> Result<(), String> {
    search(0..80, |seed| Options {
        chaos_every_ms: 150,
        duration_ms: 10_000,
        clients: 6,
        keys: 2,
        // A session replaces what it has seen, copies among it.
        sessions: false,
        ..Options::from_seed(seed)
    })
}

fn slow_disks() -> Result<(), String> {
    let options = |seed| Options {
        nodes: 3,
        sync_max_us: 500_000,
        keys: 2,
        network: NetworkFaults::default(),
        ..Options::from_seed(seed)
    };
    search(0..40, |seed| Options { chaos_every_ms: 400, duration_ms: 10_000, ..options(seed) })
}

fn splits() -> Result<(), String> {
    search(0..40, |seed| Options {
        nodes: 3,
        chaos_every_ms: 200,
        duration_ms: 10_000,
        keys: 1,
        ..Options::from_seed(seed)
    })
}

fn doubled_frames() -> Result<(), String> {
    let network = NetworkFaults { loss: 0.1, duplication: 0.5, delay_max_us: 20_000, straggler: 0.05 };
    search(0..40, |seed| Options {
        nodes: 6,
        keys: 2,
        clients: 6,
        chaos_every_ms: 200,
        duration_ms: 10_000,
        network,
        ..Options::from_seed(seed)
    })
}

// ---- scenarios with a script ----

pub(super) fn founded() -> World {
    founded_from(1)
}

fn founded_from(seed: u64) -> World {
    let mut world = World::new(seed, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world
}

pub(super) fn key_of(world: &World, name: &str) -> RecordKey {
    RecordKey::new(world.table("carts").expect("a table").id, &Key::from(name)).expect("a short key")
}

pub(super) fn put_of(world: &mut World, name: &str, value: &'static str, context: Option<CausalContext>) -> Put {
    Put {
        key: key_of(world, name),
        payload: Payload::Value(Bytes::from_static(value.as_bytes())),
        context,
        ttl: None,
        operation: OperationId(world.random.u128(..)),
        consistency: Consistency::Quorum,
        strict: false,
    }
}

pub(super) fn values(world: &mut World, node: u64, name: &str) -> Result<Vec<Bytes>, ReadError> {
    let get = Get { key: key_of(world, name), consistency: Consistency::Quorum, floor: None };
    let request = world.get(NodeId(node), get);
    match world.finish(request) {
        Answer::Read(outcome) => outcome.map(|read| read.values().into_iter().cloned().collect()),
        other => panic!("a read has ended as {other:?}"),
    }
}

/// One replica's two acknowledgements overtake the coordinator's disk; the coordinator loses power, and the replica is cut
/// off: whoever is left has never heard of the write.
///
/// Whether an unsynced write survives the power cut is left to chance, hence the seeds.
fn doubled_acknowledgements() -> Result<(), String> {
    (0..8).try_for_each(doubled_acknowledgement)
}

fn doubled_acknowledgement(seed: u64) -> Result<(), String> {
    let mut world = founded_from(seed);
    // A first write has the mark of the clock stored; the next one's change need not wait for it.
    let put = put_of(&mut world, "j", "before", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.network.faults.duplication = 1.0;
    world.set_sync(NodeId(1), u64::MAX / 4);
    world.cut(NodeId(1), NodeId(3));
    world.run_for(5_000);
    let put = put_of(&mut world, "k", "value", None);
    let request = world.put(NodeId(1), put);
    world.run_for(1_000_000);
    let acknowledged = matches!(world.take(request), Answer::Written(Ok(_)));
    world.crash(NodeId(1));
    world.set_sync(NodeId(1), 1_000);
    world.heal_links();
    world.start(NodeId(1));
    world.run_for(2_000_000);
    world.crash(NodeId(2));
    let held = values(&mut world, 3, "k").expect("two of three are up");
    if acknowledged && held.is_empty() { Err("an acknowledged write is gone".to_owned()) } else { Ok(()) }
}

/// A replica mints a write, spreads it, forgets it in a crash, and mints the next one of the same key.
fn crash_after_a_mint() -> Result<(), String> {
    (0..8).try_for_each(|seed| {
        let mut world = founded_from(seed);
        let put = put_of(&mut world, "j", "before", None);
        let request = world.put(NodeId(1), put);
        assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
        world.set_sync(NodeId(1), u64::MAX / 4);
        world.run_for(5_000);
        let put = put_of(&mut world, "k", "one", None);
        world.put(NodeId(1), put);
        world.run_for(100_000);
        world.crash(NodeId(1));
        world.set_sync(NodeId(1), 1_000);
        world.start(NodeId(1));
        world.run_for(2_000_000);
        let put = put_of(&mut world, "k", "two", None);
        let request = world.put(NodeId(1), put);
        assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
        world.run_for(100_000);
        world.ledger().violations().first().map_or(Ok(()), |violation| Err(format!("seed {seed}: {violation}")))
    })
}

/// A replica's disk is slow: its acknowledgement comes when the coordinator is in its next life, whose requests do not reach
/// the replica.
fn reply_to_an_earlier_life() -> Result<(), String> {
    let mut world = founded();
    world.run_for(2_000_000);
    world.crash(NodeId(1));
    world.start(NodeId(1));
    world.run_for(2_000_000);
    let write = |world: &mut World, name: &str| {
        let put = put_of(world, name, "value", None);
        world.put(NodeId(1), put)
    };
    let warm = write(&mut world, "warm");
    assert!(matches!(world.finish(warm), Answer::Written(Ok(_))));
    world.run_for(100_000);
    world.set_sync(NodeId(2), 3_000_000);
    write(&mut world, "old");
    world.run_for(1_500);
    world.crash(NodeId(1));
    world.start(NodeId(1));
    world.run_for(20_000);
    world.cut(NodeId(1), NodeId(2));
    world.cut(NodeId(1), NodeId(3));
    write(&mut world, "first");
    let victim = write(&mut world, "victim");
    world.run_for(2_900_000);
    let held =
        world.nodes().into_iter().filter(|node| world.record_at(*node, &key_of(&world, "victim")).is_some()).count();
    match world.take(victim) {
        Answer::Written(Ok(_)) if held < 2 => Err(format!("acknowledged, and {held} hold it")),
        _ => Ok(()),
    }
}

/// A client does not hear that its write was done, another one writes, the first tries again and then replaces what it knows
/// of.
fn retried_after_another_write() -> Result<(), String> {
    let mut world = founded();
    let first = put_of(&mut world, "k", "first", None);
    let request = world.put(NodeId(1), first.clone());
    world.finish(request);
    let other = put_of(&mut world, "k", "other", None);
    let request = world.put(NodeId(2), other);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.run_for(100_000);
    let request = world.put(NodeId(1), first);
    let Answer::Written(Ok(written)) = world.finish(request) else { panic!("a healthy cluster takes a write") };
    let next = put_of(&mut world, "k", "next", Some(written.context));
    let request = world.put(NodeId(1), next);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    let held = values(&mut world, 3, "k").expect("a read of a healthy cluster");
    if held.iter().any(|value| value == "other") { Ok(()) } else { Err(format!("nobody had seen it: {held:?}")) }
}

/// A node notes that it forgets nothing, is asked for one more write, and loses power before that write is synced.
///
/// Whether an unsynced write survives the power cut is left to chance, hence the seeds.
fn write_after_the_end() -> Result<(), String> {
    (0..8).try_for_each(one_write_after_the_end)
}

fn one_write_after_the_end(seed: u64) -> Result<(), String> {
    let mut world = founded_from(seed);
    let put = put_of(&mut world, "j", "before", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.begin_stop(NodeId(1));
    world.run_for(10_000);
    world.set_sync(NodeId(1), u64::MAX / 4);
    world.run_for(5_000);
    let put = put_of(&mut world, "k", "one", None);
    world.put(NodeId(1), put);
    world.run_for(50_000);
    world.crash(NodeId(1));
    world.set_sync(NodeId(1), 1_000);
    world.start(NodeId(1));
    world.run_for(2_000_000);
    let put = put_of(&mut world, "k", "two", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.run_for(100_000);
    world.ledger().violations().first().map_or(Ok(()), |violation| Err(violation.clone()))
}

/// A replica mints a write that was passed on to it, spreads it, and forgets it in a crash, before whoever passed it on has
/// heard of it.
fn forwarded_to_a_crash() -> Result<(), String> {
    (0..8).try_for_each(|seed| {
        let mut world = World::new(seed, 4, NetworkFaults::default(), 5, Box::new(MemStores::new()));
        world.found(&[("carts", TableOptions::siblings().replicas(3))]);
        let table = world.table("carts").expect("it was created");
        let asker = NodeId(4);
        let name = (0..)
            .map(|number| format!("key {number}"))
            .find(|name| !table.replicas_of(key_of(&world, name).token()).contains(&asker));
        let name = name.expect("some key lies elsewhere");
        let key = key_of(&world, &name);
        let &[minter, other, _] = table.replicas_of(key.token()) else { panic!("three replicas") };
        let put = put_of(&mut world, &name, "before", None);
        let request = world.put(minter, put);
        assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
        world.set_sync(minter, u64::MAX / 4);
        world.cut(minter, asker);
        world.run_for(5_000);
        let put = put_of(&mut world, &name, "value", None);
        let operation = Some(put.operation);
        let request = world.put(asker, put);
        world.run_for(300_000);
        world.crash(minter);
        world.set_sync(minter, 1_000);
        world.heal_links();
        world.start(minter);
        world.finish(request);
        world.run_for(1_000_000);
        let record = world.record_at(other, &key).expect("the first write is there");
        match record.versions().iter().filter(|(_, version)| version.operation == operation).count() {
            1 => Ok(()),
            versions => Err(format!("seed {seed}: one write, and {versions} versions of it")),
        }
    })
}

fn two_writes_in_one_turn() -> Result<(), String> {
    let mut world = founded();
    let (one, two) = (put_of(&mut world, "k", "one", None), put_of(&mut world, "k", "two", None));
    let requests = [world.put(NodeId(1), one), world.put(NodeId(1), two)];
    for request in requests {
        assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    }
    world.run_for(1_000_000);
    let values = values(&mut world, 2, "k").expect("a read of a healthy cluster");
    match (values.len(), world.ledger().violations()) {
        (2, []) => Ok(()),
        (_, violations) => Err(format!("{values:?} {violations:?}")),
    }
}

fn too_many_siblings() -> Result<(), String> {
    let mut world = founded();
    let mut refused = 0;
    for round in 0..20 {
        let put = put_of(&mut world, "k", "value", None);
        let request = world.put(NodeId(1 + round % 3), put);
        match world.finish(request) {
            Answer::Written(Ok(_)) => {}
            Answer::Written(Err(WriteError::TooManySiblings { held_max: 5, .. })) => refused += 1,
            other => panic!("a write has ended as {other:?}"),
        }
        world.run_for(100_000);
    }
    let held = values(&mut world, 1, "k").expect("a read of a healthy cluster").len();
    if held == 5 && refused == 15 { Ok(()) } else { Err(format!("{held} held, {refused} refused")) }
}

fn restart_in_the_dark() -> Result<(), String> {
    let mut world = founded();
    let put = put_of(&mut world, "k", "value", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.crash(NodeId(1));
    for other in [2, 3] {
        world.cut(NodeId(1), NodeId(other));
        world.cut(NodeId(other), NodeId(1));
    }
    world.start(NodeId(1));
    let get = Get { key: key_of(&world, "k"), consistency: Consistency::One, floor: None };
    let request = world.get(NodeId(1), get);
    match world.finish(request) {
        Answer::Read(Err(ReadError::NotServing(Standing::Confirming))) => {}
        other => return Err(format!("a node that nobody has confirmed answered {other:?}")),
    }
    world.heal_links();
    world.run_for(2_000_000);
    assert!(world.is_serving(NodeId(1)), "it serves once it is confirmed");
    Ok(())
}

// ---- rules without a switch of their own ----

#[test]
fn a_node_that_falls_silent_is_not_counted_on_for_long() {
    let mut world = World::new(3, 4, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    let table = world.table("carts").expect("it was created");
    let elsewhere = |name: &String| !table.replicas_of(key_of(&world, name).token()).contains(&NodeId(4));
    let name = (0..).map(|number| format!("key {number}")).find(elsewhere).expect("some key lies elsewhere");
    let silent = table.replicas_of(key_of(&world, &name).token())[0];
    world.pause(silent, 600_000_000);
    world.run_for(10_000_000);
    let put = put_of(&mut world, &name, "value", None);
    let request = world.put(NodeId(4), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))), "another replica takes it");
}

#[test]
fn protocol_rule_05_a_client_that_remembers_more_than_the_store_retires_the_actor() {
    let mut world = founded();
    let put = put_of(&mut world, "k", "first", None);
    let key = put.key.clone();
    let epoch = |world: &World| {
        world.record_at(NodeId(1), &key).map(|record| {
            record
                .context()
                .spans()
                .iter()
                .filter(|span| span.actor.node == NodeId(1))
                .map(|span| span.actor.epoch)
                .max()
        })
    };
    let request = world.put(NodeId(1), put);
    let Answer::Written(Ok(written)) = world.finish(request) else { panic!("a healthy cluster takes a write") };
    let before = epoch(&world);
    // A context that holds a later dot of node 1 than node 1 has minted.
    let mut seen = written.context.open(&key).unwrap();
    seen.insert(kv_core::version::Dot { actor: written.dot.actor, counter: written.dot.counter + 5 });
    let put = put_of(&mut world, "k", "second", Some(CausalContext::seal(&key, &seen)));
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    assert!(epoch(&world) > before, "the old actor mints no more");
    assert_eq!(values(&mut world, 2, "k").unwrap(), ["second"]);
}

#[test]
fn protocol_rule_16_a_clock_that_is_behind_does_not_make_a_later_write_lose() {
    let mut world = World::new(1, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::last_write_wins().replicas(3))]);
    world.set_skew(NodeId(1), 400);
    for (node, value) in [(1, "early"), (2, "late")] {
        let put = put_of(&mut world, "k", value, None);
        let request = world.put(NodeId(node), put);
        assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
        world.run_for(10_000);
    }
    assert_eq!(values(&mut world, 3, "k").unwrap(), ["late"]);
    // Beyond the bound, the node whose clock is behind says so rather than lose the write.
    world.set_skew(NodeId(1), 5_000);
    let put = put_of(&mut world, "j", "from the future", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    world.run_for(10_000);
    let put = put_of(&mut world, "j", "from now", None);
    let request = world.put(NodeId(2), put);
    assert!(matches!(world.finish(request), Answer::Written(Err(WriteError::ClockDrift(_)))));
}
