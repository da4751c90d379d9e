use super::*;
use crate::{
    node::{Weight, Zone},
    token_of,
};

const KEYS: u32 = 60_000;

fn tokens() -> impl Iterator<Item = Token> {
    (0..KEYS).map(|key| token_of(&key.to_le_bytes()))
}

fn weighted(nodes: u64) -> Vec<(NodeId, Weight)> {
    (1..=nodes).map(|node| (NodeId(node), Weight(1 << (node % 3)))).collect()
}

fn ids(nodes: &[(NodeId, Weight)]) -> impl Iterator<Item = NodeId> {
    nodes.iter().map(|&(node, _)| node)
}

/// Keys per node, as a part of what the weight asks for.
fn loads(strategy: &dyn Strategy, nodes: &[(NodeId, Weight)]) -> Vec<f64> {
    let total: f64 = nodes.iter().map(|(_, weight)| f64::from(weight.0)).sum();
    let mut counts = std::collections::BTreeMap::<NodeId, u32>::new();
    for token in tokens() {
        *counts.entry(strategy.primary(token).unwrap()).or_default() += 1;
    }
    let part = |&(node, weight): &(NodeId, Weight)| {
        f64::from(counts.get(&node).copied().unwrap_or(0)) / f64::from(KEYS) * total / f64::from(weight.0)
    };
    nodes.iter().map(part).collect()
}

#[test]
fn shares_follow_weights() {
    let nodes = weighted(9);
    let equal: Vec<(NodeId, Weight)> = ids(&nodes).map(|node| (node, Weight(1))).collect();
    let cases: [(&str, Vec<f64>, f64); 4] = [
        ("maglev", loads(&Maglev::new(nodes.clone(), 5003), &nodes), 0.06),
        ("ring", loads(&HashRing::new(nodes.clone(), 200), &nodes), 0.25),
        ("rendezvous", loads(&Rendezvous::new(nodes.clone()), &nodes), 0.06),
        ("jump", loads(&Jump::new(ids(&nodes)), &equal), 0.06),
    ];
    for (name, loads, tolerance) in cases {
        assert!(loads.iter().all(|load| (load - 1.0).abs() < tolerance), "{name}: {loads:?}");
    }
}

#[test]
fn a_list_is_distinct_starts_with_the_primary_and_ends_with_the_nodes() {
    let nodes = weighted(5);
    let zones = |node: NodeId| (node, Zone::new(["a", "b"][usize::try_from(node.0 % 2).unwrap()]));
    let strategies: [&dyn Strategy; 6] = [
        &HashRing::new(nodes.clone(), 8),
        &Rendezvous::new(nodes.clone()),
        &Jump::new(ids(&nodes)),
        &Maglev::new(nodes.clone(), 101),
        &BoundedRing::new(nodes.clone(), 8, 0.25),
        &Zoned::new(HashRing::new(nodes.clone(), 8), ids(&nodes).map(zones)),
    ];
    for strategy in strategies {
        let mut list = vec![NodeId(99)];
        for token in tokens().take(2000) {
            for count in 0..=7 {
                strategy.preference_list(token, count, &mut list);
                assert_eq!(list.len(), count.min(5));
                let distinct: std::collections::BTreeSet<NodeId> = list.iter().copied().collect();
                assert_eq!(distinct.len(), list.len());
                assert!(count == 0 || list.first().copied() == strategy.primary(token));
            }
        }
    }
}

#[test]
fn a_node_that_joins_takes_keys_and_no_others_move() {
    let before = weighted(8);
    let after = weighted(9);
    let pairs: [(&dyn Strategy, &dyn Strategy); 3] = [
        (&HashRing::new(before.clone(), 50), &HashRing::new(after.clone(), 50)),
        (&Rendezvous::new(before.clone()), &Rendezvous::new(after.clone())),
        (&Jump::new(ids(&before)), &Jump::new(ids(&after))),
    ];
    for (before, after) in pairs {
        let mut moved = 0;
        for token in tokens() {
            let (old, new) = (before.primary(token).unwrap(), after.primary(token).unwrap());
            assert!(old == new || new == NodeId(9));
            moved += u32::from(old != new);
        }
        assert!(moved > 0);
    }
}

#[test]
fn order_of_nodes_does_not_matter_and_weight_zero_gets_nothing() {
    let nodes = weighted(7);
    let mut shuffled: Vec<(NodeId, Weight)> = nodes.iter().rev().copied().collect();
    shuffled.push((NodeId(50), Weight(0)));
    let pairs: [(&dyn Strategy, &dyn Strategy); 4] = [
        (&Maglev::new(nodes.clone(), 101), &Maglev::new(shuffled.clone(), 101)),
        (&BoundedRing::new(nodes.clone(), 20, 0.1), &BoundedRing::new(shuffled.clone(), 20, 0.1)),
        (&HashRing::new(nodes.clone(), 20), &HashRing::new(shuffled.clone(), 20)),
        (&Rendezvous::new(nodes.clone()), &Rendezvous::new(shuffled.clone())),
    ];
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (left, right) in pairs {
        for token in tokens().take(5000) {
            left.preference_list(token, 3, &mut one);
            right.preference_list(token, 3, &mut other);
            assert_eq!(one, other);
        }
    }
    assert_eq!(HashRing::new([], 10).primary(Token(1)), None);
    assert_eq!(Rendezvous::new([(NodeId(1), Weight(0))]).primary(Token(1)), None);
    assert_eq!(Jump::new([]).primary(Token(1)), None);
    assert_eq!(Maglev::new([], 7).primary(Token(1)), None);
    assert_eq!(BoundedRing::new([(NodeId(1), Weight(0))], 7, 0.1).place(Token(1)), None);
}

#[test]
fn placements_are_frozen() {
    let nodes = weighted(6);
    let strategies: [&dyn Strategy; 4] = [
        &HashRing::new(nodes.clone(), 16),
        &Rendezvous::new(nodes.clone()),
        &Jump::new(ids(&nodes)),
        &Maglev::new(nodes.clone(), 101),
    ];
    let mut lists = Vec::new();
    for strategy in strategies {
        for key in ["a", "user:1", "user:2"] {
            let mut list = Vec::new();
            strategy.preference_list(token_of(key.as_bytes()), 3, &mut list);
            lists.push(list.iter().map(|node| node.0).collect::<Vec<u64>>());
        }
    }
    let expected = [
        [[3, 5, 6], [5, 2, 1], [4, 3, 5]], // ring
        [[5, 1, 4], [2, 1, 5], [4, 2, 6]], // rendezvous
        [[5, 1, 4], [3, 2, 6], [2, 4, 3]], // jump
        [[1, 2, 5], [5, 1, 4], [2, 5, 4]], // maglev
    ];
    assert_eq!(lists, expected.as_flattened());
}

#[test]
fn lists_spread_over_zones_under_every_strategy() {
    // Zone a has six nodes, b two, c one.
    let zone = |node: NodeId| {
        Zone::new(match node.0 {
            1..=6 => "a",
            7 | 8 => "b",
            _ => "c",
        })
    };
    let nodes = weighted(9);
    let strategies: [&dyn Strategy; 5] = [
        &HashRing::new(nodes.clone(), 16),
        &Rendezvous::new(nodes.clone()),
        &Jump::new(ids(&nodes)),
        &Maglev::new(nodes.clone(), 1009),
        &BoundedRing::new(nodes.clone(), 16, 0.25),
    ];
    let mut list = Vec::new();
    let mut order = Vec::new();
    for strategy in strategies {
        let zoned = Zoned::new(strategy, ids(&nodes).map(|node| (node, zone(node))));
        for token in tokens().take(500) {
            strategy.preference_list(token, 9, &mut order);
            for count in (0..=10).chain([usize::MAX]) {
                zoned.preference_list(token, count, &mut list);
                assert_eq!(list.len(), count.min(9));
                assert!(list.iter().enumerate().all(|(place, node)| !list[..place].contains(node)));
                let in_zone = |name: &str| list.iter().filter(|&&node| zone(node).name() == name).count();
                let counts = [in_zone("a"), in_zone("b"), in_zone("c")];
                for (more, fewer) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                    assert!(counts[more] <= counts[fewer] + 1 || counts[fewer] == [6, 2, 1][fewer], "{counts:?}");
                }
                assert!(count == 0 || list[0] == order[0], "the first is the strategy's");
                // Within a zone the strategy's order is kept.
                let of_a =
                    |of: &[NodeId]| of.iter().copied().filter(|&node| zone(node).name() == "a").collect::<Vec<_>>();
                assert!(of_a(&order).starts_with(&of_a(&list)));
            }
        }
    }
}
