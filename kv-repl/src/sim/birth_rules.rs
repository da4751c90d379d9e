//! Who is a member and who is not (rules 1 and 2): storage that was lost or went back in time, and clusters that are founded
//! once.

use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::record::{Payload, Record, Version};
use kv_core::version::{Actor, Dot, Incarnation};

use super::rules::{founded, key_of, put_of, values};
use super::*;
use crate::identity::{Boot, ClusterId};
use crate::message::Message;
use crate::request::WriteError;
use crate::status::Standing;
use crate::wire::{FrameWriter, Header};

/// Sends node 1 a change that claims to come from node 2, and looks whether it was stored.
fn forged(header: impl Fn(Header) -> Header) -> Result<(), String> {
    let mut world = founded();
    // Node 1 is in its second life, so that there is an earlier one.
    world.crash(NodeId(1));
    world.start(NodeId(1));
    world.run_for(2_000_000);
    let (me, from) = (world.status(NodeId(1)).expect("it runs"), world.status(NodeId(2)).expect("it runs"));
    let right = Header {
        cluster: me.cluster,
        from: NodeId(2),
        from_incarnation: from.incarnation,
        from_boot: from.boot,
        to_incarnation: me.incarnation,
        to_boot: me.boot,
    };
    let key = key_of(&world, "forged");
    let actor = Actor { node: NodeId(2), incarnation: from.incarnation, epoch: 1 };
    let version = Version {
        birth: kv_core::hlc::Stamp(1),
        payload: Payload::Tombstone,
        expiry: kv_core::Expiry::NEVER,
        operation: None,
    };
    let change =
        Record::empty(kv_core::record::Rule::Siblings).sibling(actor, 0, &kv_core::VersionVector::new(), version);
    let send = |world: &mut World, header: &Header| {
        let mut frame = FrameWriter::new(header);
        let message = Message::Write { tag: 1, epoch: 1, key: key.clone(), record: change.to_bytes() };
        assert!(frame.push(&message, usize::MAX));
        world.inject(NodeId(2), NodeId(1), frame.finish());
        world.run_for(100_000);
        world.record_at(NodeId(1), &key).is_some()
    };
    if send(&mut world, &header(right)) {
        return Err("a forged change was stored".to_owned());
    }
    let dropped = world.status(NodeId(1)).expect("it runs").dropped;
    let counted = dropped.other_cluster + dropped.other_incarnation + dropped.other_boot;
    assert!(counted > 0, "what is dropped is counted: {dropped:?}");
    assert!(send(&mut world, &right), "the same change with the right header is stored");
    Ok(())
}

pub(super) fn frame_of_another_cluster() -> Result<(), String> {
    forged(|right| Header { cluster: ClusterId(right.cluster.0 ^ 1), ..right })
}

pub(super) fn frame_of_another_storage() -> Result<(), String> {
    forged(|right| Header { from_incarnation: Incarnation(right.from_incarnation.0 ^ 1), ..right })
}

pub(super) fn frame_of_an_earlier_life() -> Result<(), String> {
    forged(|right| Header { to_boot: Boot(right.to_boot.0 - 1), ..right })
}

#[test]
fn protocol_rule_01_a_wiped_node_is_quarantined_and_the_cluster_goes_on() {
    let mut world = founded();
    world.wipe(NodeId(3));
    world.start(NodeId(3));
    world.run_for(3_000_000);
    assert_eq!(world.status(NodeId(3)).unwrap().standing, Standing::Quarantined);
    let put = put_of(&mut world, "k", "value", None);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    assert_eq!(values(&mut world, 2, "k").unwrap(), ["value"]);
    // For good: another start of the same storage changes nothing.
    world.crash(NodeId(3));
    world.start(NodeId(3));
    world.run_for(3_000_000);
    assert!(!world.is_serving(NodeId(3)));
}

#[test]
fn protocol_rule_01_a_disk_that_went_back_in_time_is_quarantined() {
    let mut world = founded();
    world.crash(NodeId(3));
    world.remember(NodeId(3));
    for _ in 0..2 {
        world.start(NodeId(3));
        world.run_for(2_000_000);
        assert!(world.is_serving(NodeId(3)));
        world.crash(NodeId(3));
    }
    world.restore(NodeId(3));
    world.start(NodeId(3));
    world.run_for(2_000_000);
    assert_eq!(world.status(NodeId(3)).unwrap().standing, Standing::Quarantined);
}

#[test]
fn protocol_rule_01_a_restored_disk_with_the_last_boot_number_is_told_apart() {
    let mut world = founded();
    world.crash(NodeId(3));
    world.remember(NodeId(3));
    world.start(NodeId(3));
    world.run_for(2_000_000);
    assert!(world.is_serving(NodeId(3)));
    // The copy starts with the number of the life that was just met, and another nonce.
    world.restore(NodeId(3));
    world.start(NodeId(3));
    world.run_for(2_000_000);
    assert_eq!(world.status(NodeId(3)).unwrap().standing, Standing::Quarantined);
}

#[test]
fn protocol_rule_01_a_quarantined_node_confirms_nobody() {
    let mut world = founded();
    world.wipe(NodeId(3));
    world.start(NodeId(3));
    world.run_for(2_000_000);
    assert_eq!(world.status(NodeId(3)).unwrap().standing, Standing::Quarantined);
    world.crash(NodeId(1));
    world.crash(NodeId(2));
    world.start(NodeId(1));
    world.run_for(3_000_000);
    assert!(!world.is_serving(NodeId(1)), "it is alone with a node whose storage is in doubt");
}

#[test]
fn nodes_that_belong_to_no_cluster_greet_each_other_in_moderation() {
    let mut world = World::new(1, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.run_for(1_000_000);
    let mut frames = 0;
    let end = world.now_us() + 10_000_000;
    while world.now_us() < end {
        let before = world.trace_hash();
        world.step();
        frames += u64::from(world.trace_hash() != before);
    }
    assert!(frames < 1_000, "{frames} things happened in ten seconds of waiting");
}

#[test]
fn protocol_rule_02_no_node_founds_a_cluster_by_starting() {
    let mut world = World::new(1, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.run_for(10_000_000);
    for node in world.nodes() {
        assert_eq!(world.status(node).unwrap().standing, Standing::Unfounded);
    }
}

#[test]
fn protocol_rule_02_two_founders_never_share_a_member() {
    for seed in 0..40 {
        let mut world = World::new(seed, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
        let all = world.nodes();
        let requests = [world.bootstrap(NodeId(1), &all), world.bootstrap(NodeId(2), &all)];
        let worked = requests.map(|request| world.finish(request) == Answer::Cluster(Ok(())));
        assert!(!(worked[0] && worked[1]), "seed {seed}");
        let clusters: Vec<_> = all.iter().map(|node| world.status(*node).unwrap().cluster).collect();
        if worked[0] || worked[1] {
            assert!(clusters.iter().all(|cluster| *cluster == clusters[0]), "seed {seed}: {clusters:?}");
        }
    }
}

#[test]
fn protocol_rule_02_a_founder_that_dies_half_way_does_no_harm() {
    for cut_us in (0..20_000).step_by(200) {
        let mut world = World::new(9, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
        let all = world.nodes();
        world.bootstrap(NodeId(1), &all);
        world.run_for(cut_us);
        world.crash(NodeId(1));
        world.run_for(2_000_000);
        world.start(NodeId(1));
        let request = world.bootstrap(NodeId(1), &all);
        assert_eq!(world.finish(request), Answer::Cluster(Ok(())), "cut at {cut_us}");
        world.run_for(2_000_000);
        assert!(all.iter().all(|node| world.is_serving(*node)), "cut at {cut_us}");
    }
}

/// A context comes from clients, who can make one up.
#[test]
fn a_context_that_counts_to_the_end_writes_nothing() {
    let mut world = founded();
    let incarnation = world.status(NodeId(1)).expect("it runs").incarnation;
    // A node that is shown a dot of its own that it does not know goes on in the next epoch.
    let actor = Actor { node: NodeId(1), incarnation, epoch: 2 };
    let unknown = Dot { actor: Actor { epoch: 1, ..actor }, counter: 9 };
    let seen = [unknown, Dot { actor, counter: u64::MAX }].into_iter().collect();
    let context = CausalContext::seal(&key_of(&world, "k"), &seen);
    let put = put_of(&mut world, "k", "value", Some(context));
    let request = world.put(NodeId(1), put);
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Written(Err(WriteError::InvalidContext(_)))), "{answer:?}");
    assert_eq!(values(&mut world, 1, "k"), Ok(Vec::new()));
}
