//! The rules of failure detection as scenarios, and what it promises in numbers.
//!
//! The table is run by [`super::rules`], each rule on and off.

use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use super::rules::{Scenario, founded, put_of};
use super::*;
use crate::gossip::Gossip;
use crate::identity::{Boot, ClusterId, Identity};
use crate::liveness::{Claim, Liveness, Rumour};
use crate::machine::Action;
use crate::message::Message;
use crate::wire::{FrameWriter, Header};

/// As in [`super::rules`].
pub(super) const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::NoLocalHealth, "a_slow_node_does_not_make_healthy_ones_suspected", slow_node),
    (Sabotage::NeverRefute, "a_live_refuter_is_eventually_alive_again", heavy_loss),
    (Sabotage::NoSuspicion, "nobody_is_dead_before_it_could_contradict", loss),
    (Sabotage::IgnoreConfirmations, "what_several_find_out_is_believed_sooner", one_death),
    (Sabotage::NotTheSuspect, "a_suspect_hears_of_it_from_everybody_who_talks_to_it", forgotten_suspicion),
    (
        Sabotage::BlameTheNextLife,
        "protocol_rule_01_a_question_to_an_earlier_life_says_nothing_of_the_next",
        restart_while_asked,
    ),
    (Sabotage::NoIndirectProbes, "a_single_broken_link_makes_nobody_suspect", broken_link),
    (Sabotage::BelieveOldRumours, "protocol_rule_01_claims_only_grow_and_old_rumours_change_nothing", rough_network),
    (Sabotage::TellForEver, "each_rumour_is_told_a_bounded_number_of_times", quiet_after_a_death),
    (Sabotage::ForgetTheDead, "the_halves_of_a_network_find_each_other_again", healed_split),
    (Sabotage::IgnoreClusterId, "protocol_rule_02_news_of_another_cluster_is_dropped", news_of_another_cluster),
    (Sabotage::IgnoreIncarnation, "protocol_rule_01_news_of_another_storage_is_dropped", news_of_another_storage),
    (Sabotage::GreetEverybody, "an_idle_node_does_no_more_in_a_large_cluster", idle_clusters),
    (Sabotage::CountOnlyTheLiving, "lesson_11_liveness_never_changes_who_owns_what", alone),
];

const PERIOD_MS: u64 = 1_000;

fn calm() -> NetworkFaults {
    NetworkFaults { delay_max_us: 2_000, ..NetworkFaults::default() }
}

fn lossy(loss: f64) -> NetworkFaults {
    NetworkFaults { loss, delay_max_us: 20_000, ..NetworkFaults::default() }
}

/// One node looks at its messages three seconds late: whom it asks seems not to answer.
fn slow_node() -> Result<(), String> {
    let mut swarm = Swarm::new(1, 20, PERIOD_MS, calm());
    swarm.run(10);
    let slow = NodeId(5);
    swarm.slow_down(slow, 3_000_000);
    let mut suspected = 0;
    for _ in 0..300 {
        swarm.run(1);
        let others = swarm.nodes().into_iter().filter(|node| *node != slow);
        suspected += others.filter(|node| swarm.believing(*node, Liveness::Alive) < 19).count();
    }
    if suspected > 0 {
        return Err(format!("healthy nodes were not alive to everybody {suspected} times"));
    }
    assert!(swarm.health_multiplier(slow) > 1, "it knows that it is slow");
    assert!(swarm.nodes().into_iter().all(|node| node == slow || swarm.health_multiplier(node) < 4));
    Ok(())
}

fn judged(swarm: &Swarm) -> Result<(), String> {
    match (swarm.violations().first(), swarm.seen().deaths_of_the_living) {
        (Some(violation), _) => Err(violation.clone()),
        (None, 0) => Ok(()),
        (None, deaths) => Err(format!("living nodes were believed dead {deaths} times")),
    }
}

/// A fifth of all frames are lost: suspicions of the living come all the time, and are contradicted in time.
fn heavy_loss() -> Result<(), String> {
    let mut swarm = Swarm::new(2, 10, PERIOD_MS, lossy(0.2));
    swarm.run(600);
    assert!(swarm.seen().suspicions_of_the_living > 20, "there is something to contradict: {:?}", swarm.seen());
    judged(&swarm)?;
    swarm.network_is(calm());
    swarm.run(30);
    if swarm.is_united() { Ok(()) } else { Err("somebody is still doubted".to_owned()) }
}

fn loss() -> Result<(), String> {
    let mut swarm = Swarm::new(3, 40, PERIOD_MS, lossy(0.05));
    swarm.run(600);
    assert!(swarm.seen().suspicions_of_the_living > 0, "there is something to contradict");
    judged(&swarm)
}

/// A node among a hundred dies: all suspect it within ten periods, and all believe it dead within twenty.
fn one_death() -> Result<(), String> {
    (0..4).try_for_each(|seed| {
        let mut swarm = Swarm::new(seed, 100, PERIOD_MS, calm());
        swarm.run(10);
        let dead = NodeId(1 + seed * 7);
        swarm.kill(dead);
        let suspected = swarm.run_until(10, |swarm| swarm.believing(dead, Liveness::Alive) == 0);
        let suspected = suspected.ok_or_else(|| format!("seed {seed}: not suspected by all in ten periods"))?;
        let died = swarm.run_until(20 - suspected, |swarm| swarm.believing(dead, Liveness::Dead) == 99);
        died.ok_or_else(|| format!("seed {seed}: not dead to all in twenty periods"))?;
        judged(&swarm)
    })
}

/// Node 1 among so many.
fn machine_of(nodes: u64) -> Gossip {
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let me = Identity { node, incarnation, boot: Boot(1), nonce: 11, epoch: 1, quarantined: false };
    let mut machine = Gossip::new(&me, Millis(PERIOD_MS));
    machine.know((1..=nodes).map(|node| (NodeId(node), Incarnation(node))));
    machine.begin(Millis(1));
    machine
}

/// A node is asked whether it lives, does not, and starts again before the time to answer is over.
fn restart_while_asked() -> Result<(), String> {
    let mut machine = machine_of(2);
    let mut out = Vec::new();
    while !out.iter().any(|action| matches!(action, Action::Send { message: Message::Ping { .. }, .. })) {
        let now = machine.next_due();
        machine.due(now, &mut out);
    }
    let asked_at = machine.next_due();
    machine.receive(asked_at, NodeId(2), Boot(2), Message::News { rumours: Vec::new() }, &mut out);
    let end = asked_at.saturating_add(Millis(PERIOD_MS));
    while machine.next_due() <= end {
        let now = machine.next_due();
        machine.due(now, &mut out);
        let belief = machine.belief(NodeId(2), now).expect("a member");
        if belief.liveness == Liveness::Suspect {
            return Err(format!("{:?} is suspected, and nobody has asked it", belief.claim));
        }
        // The next question is not to be answered either, and is another story.
        if out.iter().filter(|action| matches!(action, Action::Send { message: Message::Ping { .. }, .. })).count() > 1
        {
            return Ok(());
        }
    }
    panic!("a node asks again");
}

/// A node has told of a suspicion as often as it tells anything. The suspect has not heard, and is asked again.
fn forgotten_suspicion() -> Result<(), String> {
    let mut machine = machine_of(3);
    let claim = Claim { boot: Boot(1), refutations: 0 };
    let suspicion =
        Rumour { about: NodeId(2), incarnation: Incarnation(2), claim, liveness: Liveness::Suspect, by: NodeId(3) };
    let mut out = Vec::new();
    machine.receive(Millis(1), NodeId(3), Boot(1), Message::News { rumours: vec![suspicion] }, &mut out);
    let mut reminders = 0;
    while machine.belief(NodeId(2), Millis(1)).expect("a member").liveness == Liveness::Suspect {
        let (now, told) = (machine.next_due(), machine.telling() == 0);
        let mut out = Vec::new();
        machine.due(now, &mut out);
        for action in out {
            let Action::Send { to: NodeId(2), message: Message::Ping { rumours, .. }, .. } = action else { continue };
            if told && !rumours.contains(&suspicion) {
                return Err("the suspect is asked, and does not hear why".to_owned());
            }
            reminders += usize::from(told);
        }
    }
    assert!(reminders > 0, "the suspect is asked while it can still contradict");
    Ok(())
}

fn broken_link() -> Result<(), String> {
    let mut swarm = Swarm::new(5, 10, PERIOD_MS, calm());
    swarm.cut(NodeId(1), NodeId(2));
    swarm.cut(NodeId(2), NodeId(1));
    swarm.run(200);
    match swarm.seen().suspicions_of_the_living {
        0 => judged(&swarm),
        suspicions => Err(format!("{suspicions} suspicions, and everybody is up")),
    }
}

/// Frames come twice and late, while nodes die and start again.
fn rough_network() -> Result<(), String> {
    let network = NetworkFaults { loss: 0.1, duplication: 0.3, delay_max_us: 100_000, straggler: 0.1 };
    let mut swarm = Swarm::new(6, 12, PERIOD_MS, network);
    for round in 0..12 {
        swarm.kill(NodeId(1 + round));
        swarm.run(20);
        swarm.start(NodeId(1 + round));
        swarm.run(5);
    }
    swarm.network_is(calm());
    swarm.run(40);
    swarm.violations().first().map_or(Ok(()), |violation| Err(violation.clone()))?;
    if swarm.is_united() { Ok(()) } else { Err("somebody who started again is still doubted".to_owned()) }
}

/// Frames per node and period.
fn rate(swarm: &mut Swarm, periods: u64) -> f64 {
    let before = swarm.seen().frames;
    swarm.run(periods);
    (swarm.seen().frames - before) as f64 / (periods as f64 * swarm.nodes().len() as f64)
}

fn quiet_after_a_death() -> Result<(), String> {
    let mut swarm = Swarm::new(7, 30, PERIOD_MS, calm());
    swarm.run(30);
    swarm.kill(NodeId(3));
    swarm.run(60);
    match rate(&mut swarm, 60) {
        rate if rate < 2.5 => Ok(()),
        rate => Err(format!("a minute after the last news a node sends {rate:.2} frames in a period")),
    }
}

fn healed_split() -> Result<(), String> {
    let mut swarm = Swarm::new(8, 20, PERIOD_MS, calm());
    swarm.run(5);
    swarm.split(10);
    let torn = |swarm: &Swarm| swarm.nodes().iter().all(|node| swarm.believing(*node, Liveness::Dead) == 10);
    swarm.run_until(60, torn).expect("each half believes the other one dead");
    swarm.heal();
    swarm.run_until(30, Swarm::is_united).ok_or("the halves have not found each other again")?;
    swarm.violations().first().map_or(Ok(()), |violation| Err(violation.clone()))
}

// ---- within a whole cluster ----

/// Tells node 1, in the name of node 2, that node 3 is dead, with a header and a rumour that are made wrong.
fn forged_news(header: impl Fn(Header) -> Header, rumour: impl Fn(Rumour) -> Rumour) -> Result<(), String> {
    let mut world = founded();
    world.run_for(2_000_000);
    let status = |world: &World, node| world.status(NodeId(node)).expect("it runs");
    let [me, from, about] = [1, 2, 3].map(|node| status(&world, node));
    let right_header = Header {
        cluster: me.cluster,
        from: from.node,
        from_incarnation: from.incarnation,
        from_boot: from.boot,
        to_incarnation: me.incarnation,
        to_boot: me.boot,
    };
    let right_rumour = Rumour {
        about: about.node,
        incarnation: about.incarnation,
        claim: Claim { boot: about.boot, refutations: 0 },
        liveness: Liveness::Dead,
        by: from.node,
    };
    let send = |world: &mut World, header: &Header, rumour: Rumour| {
        let mut frame = FrameWriter::new(header);
        assert!(frame.push(&Message::News { rumours: vec![rumour] }, usize::MAX));
        world.inject(NodeId(2), NodeId(1), frame.finish());
        // Long enough to be heard, too short to be refuted.
        world.run_for(150);
        let status = status(world, 1);
        let peer = status.peers.iter().find(|peer| peer.node == NodeId(3)).expect("a member");
        peer.liveness == Liveness::Dead
    };
    if send(&mut world, &header(right_header), rumour(right_rumour)) {
        return Err("forged news were believed".to_owned());
    }
    let before = me.dropped.other_cluster + me.dropped.other_incarnation;
    let after = status(&world, 1).dropped;
    assert_eq!(after.other_cluster + after.other_incarnation, before + 1, "what is dropped is counted");
    assert!(send(&mut world, &right_header, right_rumour), "the same news are believed when they are right");
    world.run_for(5_000_000);
    let doubted = world
        .nodes()
        .into_iter()
        .filter_map(|node| world.status(node))
        .any(|status| status.peers.iter().any(|peer| peer.liveness != Liveness::Alive));
    assert!(!doubted, "node 3 has contradicted");
    Ok(())
}

fn news_of_another_cluster() -> Result<(), String> {
    forged_news(|right| Header { cluster: ClusterId(right.cluster.0 ^ 1), ..right }, |rumour| rumour)
}

fn news_of_another_storage() -> Result<(), String> {
    forged_news(|right| right, |rumour| Rumour { incarnation: Incarnation(rumour.incarnation.0 ^ 1), ..rumour })
}

/// What a node has to do in ten seconds in which nobody asks for anything.
fn idle(nodes: u64) -> f64 {
    let mut world = World::new(2, nodes, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[]);
    world.run_for(10_000_000);
    let (mut things, end) = (0, world.now_us() + 10_000_000);
    while world.now_us() < end {
        let before = world.trace_hash();
        world.step();
        things += u64::from(world.trace_hash() != before);
    }
    let doubted = world
        .nodes()
        .into_iter()
        .filter_map(|node| world.status(node))
        .any(|status| status.peers.iter().any(|peer| peer.liveness != Liveness::Alive || !peer.reachable));
    assert!(!doubted, "everybody is alive and within reach");
    things as f64 / nodes as f64
}

fn idle_clusters() -> Result<(), String> {
    match [20, 60].map(idle) {
        [few, many] if many < few * 1.3 => Ok(()),
        [few, many] => Err(format!("{few} things to do among 20 nodes, {many} among 60")),
    }
}

/// A node is cut off until it believes both others dead. It is one replica of three, as before.
fn alone() -> Result<(), String> {
    let mut world = founded();
    let layout = world.table("carts").expect("it was created").layout.hash();
    for other in [2, 3] {
        world.cut(NodeId(1), NodeId(other));
        world.cut(NodeId(other), NodeId(1));
    }
    world.run_for(30_000_000);
    let believes = |world: &World, node, of: &[u64]| {
        let status = world.status(NodeId(node)).expect("it runs");
        let dead = status.peers.iter().filter(|peer| peer.liveness == Liveness::Dead);
        assert_eq!(dead.map(|peer| peer.node.0).collect::<Vec<_>>(), of, "believed dead by node {node}");
    };
    believes(&world, 1, &[2, 3]);
    believes(&world, 2, &[1]);
    believes(&world, 3, &[1]);
    let put = put_of(&mut world, "k", "value", None);
    let request = world.put(NodeId(1), put);
    if let Answer::Written(Ok(written)) = world.finish(request) {
        return Err(format!("a quorum of one has acknowledged: {written:?}"));
    }
    let put = put_of(&mut world, "k", "value", None);
    let request = world.put(NodeId(2), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))), "two of three are a quorum");
    world.heal_links();
    world.run_for(10_000_000);
    (1..=3).for_each(|node| believes(&world, node, &[]));
    assert_eq!(world.table("carts").expect("it was created").layout.hash(), layout);
    assert_eq!(world.liveness().violations(), Vec::<String>::new());
    Ok(())
}

// ---- numbers ----

#[test]
fn nobody_who_lives_is_believed_dead_in_an_hour_with_a_frame_in_twenty_lost() {
    let mut swarm = Swarm::new(9, 100, PERIOD_MS, lossy(0.05));
    swarm.run(3_600);
    assert_eq!(judged(&swarm), Ok(()), "{:?}", swarm.seen());
    assert!(swarm.seen().suspicions_of_the_living > 0, "the network is lossy: {:?}", swarm.seen());
}

#[test]
fn a_period_costs_a_node_as_much_among_hundreds_as_among_ten() {
    let rates: Vec<f64> = [10, 100, 300]
        .map(|nodes| {
            let mut swarm = Swarm::new(10, nodes, PERIOD_MS, calm());
            swarm.run(30);
            rate(&mut swarm, 60)
        })
        .to_vec();
    assert!(rates.iter().all(|rate| (1.8..2.5).contains(rate)), "a question and an answer each: {rates:?}");
}
