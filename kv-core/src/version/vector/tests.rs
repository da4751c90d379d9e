use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::version::Incarnation;

fn actor(index: u64) -> Actor {
    Actor { node: NodeId(index), incarnation: Incarnation(7), epoch: 0 }
}

fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
    prop::collection::btree_set((0_u64..3, 1_u64..12).prop_map(|(a, counter)| Dot { actor: actor(a), counter }), 0..20)
}

fn vector(dots: &BTreeSet<Dot>) -> VersionVector {
    dots.iter().copied().collect()
}

proptest! {
    #[test]
    fn behaves_like_a_set_of_dots(a in dots(), b in dots()) {
        let (va, vb) = (vector(&a), vector(&b));
        for actor_index in 0..3 {
            for counter in 1..13 {
                let dot = Dot { actor: actor(actor_index), counter };
                prop_assert_eq!(va.contains(dot), a.contains(&dot));
            }
            let highest = a.iter().filter(|dot| dot.actor == actor(actor_index)).map(|dot| dot.counter).max();
            prop_assert_eq!(va.counter_max(actor(actor_index)), highest.unwrap_or(0));
        }
        prop_assert_eq!(va.join(&vb), vector(&a.union(&b).copied().collect()));
        prop_assert_eq!(va.covers(&vb), a.is_superset(&b));
        let expected = match (a.is_superset(&b), b.is_superset(&a)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::After,
            (false, true) => Causality::Before,
            (false, false) => Causality::Concurrent,
        };
        prop_assert_eq!(va.compare(&vb), expected);
    }

    #[test]
    fn one_set_one_encoding(a in dots()) {
        let mut out = Vec::new();
        vector(&a).encode(&mut out);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(VersionVector::decode(&mut reader).unwrap(), vector(&a));
        reader.finish().unwrap();
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(0_u8..4, 0..60)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(decoded) = VersionVector::decode(&mut reader) {
            let mut again = Vec::new();
            decoded.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..reader.offset()]);
        }
    }
}

#[test]
fn a_lost_dot_stays_a_gap() {
    let a = actor(1);
    let mut context = VersionVector::of(Dot { actor: a, counter: 1 });
    context.insert(Dot { actor: a, counter: 3 });
    assert!(
        !context.contains(Dot { actor: a, counter: 2 }),
        "two was minted and lost; nobody may claim to have seen it"
    );
    assert_eq!(context.spans().len(), 2);
}

#[test]
fn the_highest_counter_joins_without_overflow() {
    let a = actor(1);
    let top = VersionVector::of(Dot { actor: a, counter: u64::MAX });
    assert_eq!(top.join(&top), top);
    let mut out = Vec::new();
    top.encode(&mut out);
    assert_eq!(VersionVector::decode(&mut Reader::new(&out)).unwrap(), top);
}
