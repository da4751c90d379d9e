use proptest::prelude::*;

use super::*;
use crate::{change::Change, class::ClassId};

fn small() -> Layout {
    (1..=4)
        .fold(Layout::builder(2).partitions(8), |builder, id| builder.node(NodeId(id), Weight(1), Zone::new("a")))
        .build()
        .unwrap()
}

fn next(layout: &Layout, change: &Change) -> Layout {
    layout.plan(change).unwrap().next().clone()
}

/// Through bytes, as it travels.
fn carried(base: &Layout, next: &Layout) -> LayoutDelta {
    let delta = base.delta_to(next).unwrap();
    let decoded = LayoutDelta::decode(&delta.encode()).unwrap();
    assert_eq!(decoded, delta);
    decoded
}

#[test]
fn golden_bytes() {
    let base = small();
    let change = Change::new().remove(NodeId(2)).add(NodeId(300), Weight(1), Zone::new("a"));
    let next = next(&base, &change);
    let bytes = base.delta_to(&next).unwrap().encode();
    let mut expected = vec![1, 1];
    expected.extend_from_slice(&base.hash().to_le_bytes());
    expected.push(2);
    expected.extend_from_slice(&next.hash().to_le_bytes());
    expected.extend_from_slice(&[
        1, 2, // node 2 leaves
        1, 0xac, 0x02, 1, 1, b'a', // node 300 joins
        4,    // members afterwards
        1, 2, 0, // one class: two replicas, spread over zones
    ]);
    assert_eq!(bytes[..expected.len()], expected);
    let rows = [
        4, // changed, of eight
        0, 1, 3, // partition 0: nodes 3 and 300
        2, 3, 1, // partition 3, two further on: nodes 300 and 3
        0, 0, 3, // partition 4: nodes 1 and 300
        1, 3, 1, // partition 6: nodes 300 and 3
    ];
    assert_eq!(bytes[expected.len()..], rows);
    assert_eq!(base.apply(&LayoutDelta::decode(&bytes).unwrap()), Ok(next));
}

#[test]
fn a_delta_is_as_large_as_the_change() {
    let layout = (1..=300)
        .fold(Layout::builder(3).partitions(16_384), |builder, id| {
            builder.node(NodeId(id), Weight(1), Zone::new(["a", "b", "c"][usize::try_from(id % 3).unwrap()]))
        })
        .build()
        .unwrap();
    let change = Change::new().add(NodeId(301), Weight(1), Zone::new("b"));
    let plan = layout.plan(&change).unwrap();
    let delta = carried(&layout, plan.next());
    assert_eq!(layout.apply(&delta).as_ref(), Ok(plan.next()));
    // Every changed row takes seven bytes or eight; primaries that are handed over change rows as well.
    let (whole, small) = (layout.encode().len(), delta.encode().len());
    assert!(small < 60 + 20 * plan.moves().len() && small < whole / 20, "{small} of {whole} bytes");
    // Nothing changed but the epoch.
    let same = next(&layout, &Change::new());
    assert!(carried(&layout, &same).encode().len() < 40);
}

#[test]
fn a_delta_to_another_base_is_refused() {
    let base = small();
    let later = next(&base, &Change::new().drain(NodeId(1)));
    let delta = carried(&base, &later);
    let OtherEpoch { found, .. } = refused(&later, &delta);
    assert_eq!(found, Epoch(2));
    // Another layout of the same epoch.
    let other = (1..=5)
        .fold(Layout::builder(2).partitions(8), |builder, id| builder.node(NodeId(id), Weight(1), Zone::new("a")))
        .build()
        .unwrap();
    let OtherEpoch { found, found_hash } = refused(&other, &delta);
    assert_eq!((found, found_hash), (Epoch(1), other.hash()));
}

struct OtherEpoch {
    found: Epoch,
    found_hash: u64,
}

fn refused(layout: &Layout, delta: &LayoutDelta) -> OtherEpoch {
    match layout.apply(delta) {
        Err(DeltaError::OtherBase { found, found_hash, .. }) => OtherEpoch { found, found_hash },
        other => panic!("{other:?}"),
    }
}

#[test]
fn layouts_of_different_clusters_have_no_delta() {
    let base = small();
    let wider = (1..=4)
        .fold(Layout::builder(2).partitions(16), |builder, id| builder.node(NodeId(id), Weight(1), Zone::new("a")))
        .build()
        .unwrap();
    assert_eq!(base.delta_to(&wider), Err(DeltaError::PartitionsChanged { had: 8, wanted: 16 }));
    let two = next(&base, &Change::new().add_class(PlacementClass::replicas(1)));
    assert_eq!(two.delta_to(&base), Err(DeltaError::ClassesLost { had: 2, wanted: 1 }));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let base = small();
    let later = next(&base, &Change::new().remove(NodeId(2)).reweight(NodeId(3), Weight(2)));
    let good = base.delta_to(&later).unwrap();
    let refused = |change: &dyn Fn(&mut LayoutDelta)| {
        let mut delta = good.clone();
        change(&mut delta);
        base.apply(&delta).unwrap_err()
    };
    assert_eq!(
        refused(&|delta| delta.next.hash ^= 1),
        DeltaError::OtherResult { wanted: later.hash() ^ 1, found: later.hash() }
    );
    let unsound = |change: &dyn Fn(&mut LayoutDelta)| match refused(change) {
        DeltaError::Unsound(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(unsound(&|delta| delta.removed = vec![NodeId(9)]), "a node that leaves is no member");
    assert_eq!(unsound(&|delta| delta.members = 2), "another number of members");
    assert_eq!(unsound(&|delta| delta.classes.clear()), "classes are missing");
    assert_eq!(unsound(&|delta| delta.classes[0].class.replicas = 1), "rows of a new class are missing");
    assert_eq!(unsound(&|delta| delta.classes[0].holders[0] = 3), "an unknown member");
    assert_eq!(unsound(&|delta| delta.classes[0].partitions[0] = 8), "an unknown partition");
    let forget = |delta: &mut LayoutDelta| {
        delta.classes[0].partitions.clear();
        delta.classes[0].holders.clear();
    };
    assert_eq!(unsound(&forget), "a replica stays on a node that leaves");
    let twice = |delta: &mut LayoutDelta| delta.classes[0].holders[1] = delta.classes[0].holders[0];
    assert_eq!(unsound(&twice), "two replicas of a partition on one member");
    assert_eq!(unsound(&|delta| delta.next.epoch = Epoch(0)), "an epoch that no cluster has");
    assert_eq!(unsound(&|delta| delta.next.epoch = Epoch(u64::MAX)), "an epoch that no cluster has");
}

#[test]
fn every_prefix_and_every_longer_run_is_refused() {
    let base = small();
    let change = Change::new().set_class(ClassId(0), PlacementClass::replicas(3)).remove(NodeId(1));
    let mut bytes = base.delta_to(&next(&base, &change)).unwrap().encode();
    for end in 0..bytes.len() {
        assert!(LayoutDelta::decode(&bytes[..end]).is_err(), "{end} bytes");
    }
    bytes.push(0);
    assert!(LayoutDelta::decode(&bytes).is_err(), "a byte too many");
    assert_eq!(LayoutDelta::decode(&[2]), Err(LayoutDecodeError::UnknownVersion { version: 2 }));
}

/// Steps that are always possible for members 1 to 20.
fn changes() -> impl Strategy<Value = Change> {
    let weight = || (0..4_u32).prop_map(Weight);
    let step = prop_oneof![
        (21..40_u64).prop_map(|id| Step::Add(NodeId(id))),
        (1..8_u64).prop_map(|id| Step::Remove(NodeId(id))),
        (8..20_u64, weight()).prop_map(|(id, weight)| Step::Reweight(NodeId(id), weight)),
        (8..20_u64, "[a-d]").prop_map(|(id, zone)| Step::Rezone(NodeId(id), Zone::new(&zone))),
        (1..5_usize).prop_map(Step::Replicas),
        Just(Step::Class),
    ];
    prop::collection::vec(step, 0..6).prop_map(|steps| {
        let mut done: Vec<Step> = Vec::new();
        for step in steps {
            if !done.iter().any(|before| before.collides(&step)) {
                done.push(step);
            }
        }
        done.into_iter().fold(Change::new(), |change, step| match step {
            Step::Add(node) => change.add(node, Weight(1), Zone::new("a")),
            Step::Remove(node) => change.remove(node),
            Step::Reweight(node, weight) => change.reweight(node, weight),
            Step::Rezone(node, zone) => change.rezone(node, zone),
            Step::Replicas(replicas) => change.set_class(ClassId(0), PlacementClass::replicas(replicas)),
            Step::Class => change.add_class(PlacementClass { replicas: 2, zones: crate::ZoneRule::Ignore }),
        })
    })
}

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Add(NodeId),
    Remove(NodeId),
    Reweight(NodeId, Weight),
    Rezone(NodeId, Zone),
    Replicas(usize),
    Class,
}

impl Step {
    /// Whether only one of the two is possible.
    fn collides(&self, other: &Self) -> bool {
        self == other && matches!(self, Self::Add(_) | Self::Remove(_) | Self::Class)
    }
}

proptest! {
    #[test]
    fn any_change_travels_as_a_delta(one in changes(), two in changes(), bits in 0..7_u32) {
        let base = (1..=20)
            .fold(Layout::builder(3).partitions(1 << bits), |builder, id| {
                builder.node(NodeId(id), Weight(1), Zone::new(["a", "b", "c"][usize::try_from(id % 3).unwrap()]))
            })
            .build()
            .unwrap();
        let later = next(&base, &one);
        prop_assert_eq!(base.apply(&carried(&base, &later)), Ok(later.clone()));
        // From any layout to any other of the cluster, not only to the next.
        if let Ok(plan) = later.plan(&two) {
            prop_assert_eq!(base.apply(&carried(&base, plan.next())), Ok(plan.next().clone()));
            prop_assert!(plan.check(&base).is_err());
        }
    }

    #[test]
    fn damaged_deltas_are_refused_or_lead_to_what_they_say(
        damage in prop::collection::vec((0..64_usize, any::<u8>()), 1..4),
    ) {
        let base = small();
        let change = Change::new().remove(NodeId(2)).add(NodeId(300), Weight(1), Zone::new("b"));
        let mut bytes = base.delta_to(&next(&base, &change)).unwrap().encode();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(delta) = LayoutDelta::decode(&bytes) {
            prop_assert_eq!(delta.encode(), bytes, "one delta, one encoding");
            if let Ok(layout) = base.apply(&delta) {
                prop_assert_eq!(layout.epoch(), delta.next());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(delta) = LayoutDelta::decode(&bytes) {
            prop_assert_eq!(delta.encode(), bytes, "one delta, one encoding");
        }
    }
}
