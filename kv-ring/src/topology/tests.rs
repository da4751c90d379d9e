use proptest::prelude::*;

use super::*;
use crate::{change::Change, class::PlacementClass, codec::LayoutDecodeError, node::Zone};

const FORWARDS: [Stage; 6] =
    [Stage::Joint, Stage::Streaming, Stage::Imported, Stage::Switched, Stage::Cleanup, Stage::Done];

fn cluster(nodes: u64, partitions: u32) -> Layout {
    (1..=nodes)
        .fold(Layout::builder(3).partitions(partitions), |builder, id| {
            builder.node(NodeId(id), Weight(1), Zone::default())
        })
        .build()
        .unwrap()
}

/// A topology of five nodes that has begun to replace node 5 by node 6.
fn begun() -> (Topology, Vec<(ClassId, PartitionId)>) {
    let mut topology = Topology::new(cluster(5, 16));
    let plan = topology.layout().plan(&Change::new().replace(NodeId(5), NodeId(6))).unwrap();
    topology.begin(&plan).unwrap();
    let moving = topology.moving().collect();
    (topology, moving)
}

fn carried(topology: &Topology) -> Topology {
    let decoded = Topology::decode(&topology.encode()).unwrap();
    assert_eq!(&decoded, topology);
    assert_eq!(decoded.hash(), topology.hash());
    decoded
}

#[test]
fn a_plan_is_carried_out_stage_by_stage() {
    let (mut topology, moving) = begun();
    assert!(!moving.is_empty());
    let next = topology.next().unwrap().clone();
    for (number, stage) in (0..).zip(FORWARDS) {
        topology.advance(&moving, stage).unwrap();
        topology = carried(&topology);
        let placement = topology.placement(moving[0].1);
        assert_eq!((placement.stage, placement.since, topology.epoch()), (stage, Epoch(3 + number), Epoch(3 + number)));
        assert_eq!(placement.joining().collect::<Vec<_>>(), [NodeId(6)]);
        assert_eq!(placement.leaving().collect::<Vec<_>>(), [NodeId(5)]);
        let writes = placement.writers().count();
        assert_eq!(writes, if stage < Stage::Switched { 4 } else { 3 });
        assert_eq!(placement.is_complete(NodeId(6)), stage >= Stage::Imported);
        assert_eq!(placement.is_complete(NodeId(5)), stage <= Stage::Imported);
        assert_eq!(topology.progress().iter().map(|(_, count)| count).sum::<usize>(), moving.len());
    }
    topology.settle().unwrap();
    assert_eq!(topology.layout().assignments(), next.assignments());
    assert_eq!(topology.layout().nodes(), next.nodes());
    assert_eq!((topology.epoch(), topology.layout().epoch()), (Epoch(9), Epoch(9)));
    assert_eq!(topology.moving().count(), 0);
    // A partition that did not move is not fenced by the moves of others.
    let still = topology.layout().partition_ids().find(|&id| !moving.contains(&(ClassId::FIRST, id))).unwrap();
    assert_eq!(topology.placement(still).since, Epoch(1));
    carried(&topology);
}

#[test]
fn a_change_that_is_given_up_leaves_what_has_switched_and_takes_back_the_rest() {
    let (mut topology, moving) = begun();
    let (switched, back) = moving.split_at(2);
    for stage in &FORWARDS[..3] {
        topology.advance(&moving, *stage).unwrap();
    }
    topology.advance(switched, Stage::Switched).unwrap();
    topology.abort().unwrap();
    assert!(carried(&topology).is_aborting());
    let (class, partition) = back[0];
    assert_eq!(
        topology.advance(back, Stage::Switched),
        Err(TopologyError::Illegal { class, partition, from: Stage::Imported, to: Stage::Switched })
    );
    topology.advance(back, Stage::Reverting).unwrap();
    let placement = topology.placement(partition);
    assert_eq!(placement.sets().collect::<Vec<_>>(), [placement.old]);
    assert!(!placement.is_complete(NodeId(6)));
    topology.advance(back, Stage::Stable).unwrap();
    for stage in [Stage::Cleanup, Stage::Done] {
        let (class, partition) = switched[0];
        assert!(matches!(topology.settle(), Err(TopologyError::NotArrived { class: of, partition: at, .. })
            if (of, at) == (class, partition)));
        topology.advance(switched, stage).unwrap();
    }
    let before = topology.layout().clone();
    topology.settle().unwrap();
    let layout = topology.layout();
    assert_eq!(Layout::decode(&layout.encode()).as_ref(), Ok(layout));
    assert!(layout.member(NodeId(5)).is_some() && layout.member(NodeId(6)).is_some());
    for id in layout.partition_ids() {
        let is_switched = switched.contains(&(ClassId::FIRST, id));
        assert_eq!(layout.replicas(id).contains(&NodeId(6)), is_switched, "{id}");
        assert_eq!(layout.replicas(id) == before.replicas(id), !is_switched, "{id}");
    }
    // The next plan takes it from there.
    let plan = layout.plan(&Change::new().replace(NodeId(5), NodeId(7))).unwrap();
    assert_eq!(topology.begin(&plan), Ok(()));
}

#[test]
fn a_change_that_was_being_given_up_can_be_taken_up_again() {
    let (mut topology, moving) = begun();
    topology.advance(&moving, Stage::Joint).unwrap();
    topology.abort().unwrap();
    topology.advance(&moving, Stage::Reverting).unwrap();
    topology.advance(&moving, Stage::Stable).unwrap();
    topology.resume().unwrap();
    for stage in FORWARDS {
        topology.advance(&moving, stage).unwrap();
    }
    topology.settle().unwrap();
    assert!(topology.layout().member(NodeId(5)).is_none());
}

#[test]
fn there_is_no_way_back_from_another_number_of_replicas() {
    let mut topology = Topology::new(cluster(5, 4));
    let wider = Change::new().set_class(ClassId::FIRST, PlacementClass::replicas(5));
    topology.begin(&topology.layout().plan(&wider).unwrap()).unwrap();
    let moving: Vec<_> = topology.moving().collect();
    for stage in &FORWARDS[..3] {
        topology.advance(&moving, *stage).unwrap();
    }
    let mut aborted = topology.clone();
    assert_eq!(aborted.abort(), Ok(()));
    topology.advance(&moving[..1], Stage::Switched).unwrap();
    assert_eq!(topology.abort(), Err(TopologyError::PointOfNoReturn(ClassId::FIRST)));
    assert!(!topology.is_aborting());
}

#[test]
fn a_change_that_cannot_be_given_up_is_not_read_as_given_up() {
    let mut topology = Topology::new(cluster(5, 4));
    let wider = Change::new().set_class(ClassId::FIRST, PlacementClass::replicas(5));
    topology.begin(&topology.layout().plan(&wider).unwrap()).unwrap();
    let moving: Vec<_> = topology.moving().collect();
    for stage in FORWARDS {
        topology.advance(&moving, stage).unwrap();
    }
    let mut bytes = topology.encode();
    let state = 3 + topology.layout().encode().len();
    assert_eq!(bytes[state], 1);
    bytes[state] = 2;
    assert!(matches!(Topology::decode(&bytes), Err(TopologyDecodeError::Malformed(error))
        if error.what == "a change that is given up with no way back"));
}

#[test]
fn a_change_that_would_leave_more_members_than_a_layout_can_say_is_not_given_up() {
    let most = u64::try_from(Layout::MEMBERS_MAX).unwrap();
    let layout = (1..=most)
        .fold(Layout::builder(1).partitions(1), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
        .build()
        .unwrap();
    let holder = layout.replicas(PartitionId(0))[0];
    let plan = layout.plan(&Change::new().replace(holder, NodeId(most + 1))).unwrap();
    let mut topology = Topology::new(layout);
    topology.begin(&plan).unwrap();
    let moving: Vec<_> = topology.moving().collect();
    assert_eq!(moving.len(), 1);
    assert_eq!(topology.clone().abort(), Ok(()));
    for stage in &FORWARDS[..4] {
        topology.advance(&moving, *stage).unwrap();
    }
    let before = topology.clone();
    assert_eq!(topology.abort(), Err(TopologyError::TooManyMembers { members: Layout::MEMBERS_MAX + 1 }));
    assert_eq!(topology, before);
    for stage in &FORWARDS[4..] {
        topology.advance(&moving, *stage).unwrap();
    }
    assert_eq!(topology.settle(), Ok(()));
    assert_eq!(topology.layout().nodes().len(), Layout::MEMBERS_MAX);
}

#[test]
fn a_class_that_is_added_is_there_when_the_change_has_settled() {
    let mut topology = Topology::new(cluster(5, 4));
    let change = Change::new().add_class(PlacementClass::replicas(1));
    topology.begin(&topology.layout().plan(&change).unwrap()).unwrap();
    topology.settle().unwrap();
    let placement = topology.placement_in(ClassId(1), PartitionId(3));
    assert_eq!((placement.old.len(), placement.since), (1, Epoch(3)));
    carried(&topology);
}

#[test]
fn what_is_out_of_order_is_refused_by_name_and_changes_nothing() {
    let (topology, moving) = begun();
    let refused = |call: &dyn Fn(&mut Topology) -> Result<(), TopologyError>| {
        let mut changed = topology.clone();
        let error = call(&mut changed).unwrap_err();
        assert_eq!(changed, topology);
        error
    };
    let (class, partition) = moving[0];
    let plan = topology.layout().plan(&Change::new()).unwrap();
    assert_eq!(refused(&|topology| topology.begin(&plan)), TopologyError::Moving);
    for to in Stage::ALL.into_iter().filter(|&to| to != Stage::Joint) {
        assert_eq!(
            refused(&|topology| topology.advance(&moving, to)),
            TopologyError::Illegal { class, partition, from: Stage::Stable, to }
        );
    }
    let still = topology.layout().partition_ids().map(|id| (class, id)).find(|pair| !moving.contains(pair)).unwrap();
    assert_eq!(
        refused(&|topology| topology.advance(&[moving[0], still], Stage::Joint)),
        TopologyError::DoesNotMove(class, still.1)
    );
    assert_eq!(
        refused(&|topology| topology.advance(&[moving[0], moving[0]], Stage::Joint)),
        TopologyError::Twice(class, partition)
    );
    for (class, partition) in [(class, PartitionId(16)), (ClassId(1), partition)] {
        let unknown = TopologyError::UnknownPartition(class, partition);
        assert_eq!(refused(&|topology| topology.advance(&[(class, partition)], Stage::Joint)), unknown);
    }
    let stage = Stage::Stable;
    assert_eq!(refused(&Topology::settle), TopologyError::NotArrived { class, partition, stage });

    let mut settled = Topology::new(cluster(5, 16));
    assert_eq!(settled.settle(), Err(TopologyError::Settled));
    assert_eq!(settled.abort(), Err(TopologyError::Settled));
    assert_eq!(settled.resume(), Err(TopologyError::Settled));
    assert_eq!(settled.advance(&[], Stage::Joint), Err(TopologyError::Settled));
    let stale = cluster(6, 16).plan(&Change::new()).unwrap();
    assert!(matches!(settled.begin(&stale), Err(TopologyError::StalePlan(_))));
}

#[test]
fn golden_bytes() {
    let (mut topology, moving) = begun();
    topology.advance(&moving[1..2], Stage::Joint).unwrap();
    let layout = topology.layout().encode();
    let delta = topology.layout().delta_to(topology.next().unwrap()).unwrap().encode();
    let mut expected = vec![1, 3]; // version, epoch
    expected.push(u8::try_from(layout.len()).unwrap());
    expected.extend_from_slice(&layout);
    expected.extend_from_slice(&[1, u8::try_from(delta.len()).unwrap()]); // moving
    expected.extend_from_slice(&delta);
    // Runs of partitions: some are stable since epoch 1, two epochs ago, then one is joint since now.
    assert_eq!(moving[1].1, PartitionId(2));
    expected.extend_from_slice(&[3, 2, 0, 2, 1, 1, 0, 13, 0, 2]);
    assert_eq!(topology.encode(), expected);
    assert_eq!(topology.hash(), 0x417b_b859_ba13_0b09);
}

#[test]
fn wrong_bytes_are_refused_by_name() {
    let (mut topology, moving) = begun();
    topology.advance(&moving, Stage::Joint).unwrap();
    let good = topology.encode();
    for end in 0..good.len() {
        assert!(Topology::decode(&good[..end]).is_err(), "{end} bytes");
    }
    let refused = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        match Topology::decode(&bytes) {
            Err(TopologyDecodeError::Malformed(error)) => error.what,
            other => panic!("{other:?}"),
        }
    };
    let layout_bytes = topology.layout().encode().len();
    assert_eq!(refused(1, 0), "an epoch before that of the layout");
    assert_eq!(refused(3 + layout_bytes, 3), "an unknown state");
    let mut late = good.clone();
    late.splice(1..2, [0xff; 9].into_iter().chain([1]));
    assert!(matches!(Topology::decode(&late), Err(TopologyDecodeError::Malformed(error))
        if error.what == "an epoch that no cluster has"));
    let last = good.len() - 1;
    assert_eq!(refused(last, 9), "a change before the first epoch");
    assert_eq!(refused(last - 1, 8), "an unknown stage");
    assert_eq!(refused(last - 2, 0), "a run of too few or too many partitions");
    assert_eq!(refused(last - 2, 17), "a run of too few or too many partitions");
    assert_eq!(Topology::decode(&[2]), Err(TopologyDecodeError::UnknownVersion { version: 2 }));
    let mut bytes = good.clone();
    bytes[3] = 9;
    let version = LayoutDecodeError::UnknownVersion { version: 9 };
    assert_eq!(Topology::decode(&bytes), Err(TopologyDecodeError::Layout(version)));
    // The first byte of the base's hash in the delta.
    bytes.clone_from(&good);
    bytes[3 + layout_bytes + 1 + 1 + 2] ^= 1;
    assert!(matches!(Topology::decode(&bytes), Err(TopologyDecodeError::Delta(_))));
    // Everything joint, what does not move included.
    let settled = Topology::new(cluster(5, 16));
    let mut bytes = settled.encode();
    let stage = bytes.len() - 2;
    bytes[stage] = 1;
    assert!(matches!(Topology::decode(&bytes), Err(TopologyDecodeError::Malformed(error))
        if error.what == "a stage of a partition that does not move"));
}

/// Every step a mover may take, at random, with a store and a crash between any two.
fn wander(topology: &mut Topology, choices: &[u8]) {
    for &choice in choices {
        *topology = carried(topology);
        let moving: Vec<_> = topology.moving().collect();
        if moving.is_empty() {
            return;
        }
        let pick = moving[usize::from(choice) % moving.len()];
        let stage = topology.placement_in(pick.0, pick.1).stage;
        let next = Stage::ALL.into_iter().filter(|&next| stage.may_become(next));
        for next in next {
            let alike: Vec<_> =
                moving.iter().copied().filter(|pair| topology.placement_in(pair.0, pair.1).stage == stage).collect();
            let some = &alike[..1 + usize::from(choice) % alike.len()];
            let before = topology.epoch();
            if topology.advance(some, next).is_ok() {
                assert_eq!(topology.epoch(), before.next());
                break;
            }
        }
        match choice {
            250.. => drop(topology.abort()),
            245.. => drop(topology.resume()),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_order_moves_are_made_in_the_end_is_sound(choices in prop::collection::vec(any::<u8>(), 0..60), bits in 0..5_u32) {
        let mut topology = Topology::new(cluster(6, 1 << bits));
        let change = Change::new().remove(NodeId(1)).add(NodeId(9), Weight(2), Zone::default()).drain(NodeId(2));
        topology.begin(&topology.layout().plan(&change).unwrap()).unwrap();
        wander(&mut topology, &choices);
        // Whatever was reached, it can be brought to an end: forwards, or as far back as there is a way.
        for aborting in [false, true] {
            let mut topology = topology.clone();
            if aborting { topology.abort().unwrap() } else { topology.resume().unwrap() }
            let moving: Vec<_> = topology.moving().collect();
            for pair in moving {
                let mut hops = 0;
                loop {
                    let stage = topology.placement_in(pair.0, pair.1).stage;
                    if stage == Stage::Done || (aborting && stage == Stage::Stable) {
                        break;
                    }
                    let gone = Stage::ALL.into_iter().any(|next| topology.advance(&[pair], next).is_ok());
                    prop_assert!(gone, "stuck in {stage}");
                    hops += 1;
                    prop_assert!(hops < 10, "runs in circles");
                }
            }
            let wanted = topology.next().unwrap().clone();
            topology.settle().unwrap();
            let layout = topology.layout();
            prop_assert_eq!(&Layout::decode(&layout.encode()).unwrap(), layout);
            if !aborting {
                prop_assert_eq!(layout.assignments(), wanted.assignments());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..3)) {
        drop(Topology::decode(&bytes));
        let (mut topology, moving) = begun();
        topology.advance(&moving[1..], Stage::Joint).unwrap();
        let mut bytes = topology.encode();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(topology) = Topology::decode(&bytes) {
            prop_assert_eq!(topology.encode(), bytes, "one topology, one encoding");
        }
    }
}
