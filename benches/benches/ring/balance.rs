//! Balance and movement, which matter more than nanoseconds: printed before anything is timed.

use std::collections::BTreeMap;

use crate::contenders::CONTENDERS;

const NODES: u64 = 100;
const KEYS: u32 = 400_000;

/// Prints, for a hundred equal nodes, how far the fullest is above the mean, and what moves when one joins and when one
/// in the middle leaves, as a multiple of the least.
pub(crate) fn print() {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("user:{key:08}")).collect();
    let before: Vec<u64> = (1..=NODES).collect();
    let mut added = before.clone();
    added.push(NODES + 1);
    let mut removed = before.clone();
    removed.remove(before.len() / 2);
    println!("{NODES} equal nodes, one replica, {KEYS} keys (their chance alone makes the fullest 4 % fuller)");
    println!("{:<20} {:>14} {:>13} {:>14}", "", "fullest / mean", "moved, joined", "moved, left");
    for (name, make) in CONTENDERS {
        let placed = |nodes: &[u64], before: Option<&[u64]>| -> Vec<u64> {
            let contender = make(nodes, before);
            keys.iter().map(|key| contender.node_of(key)).collect()
        };
        let (at_first, joined, left) =
            (placed(&before, None), placed(&added, Some(&before)), placed(&removed, Some(&before)));
        let mut counts = BTreeMap::<u64, u32>::new();
        at_first.iter().for_each(|&node| *counts.entry(node).or_default() += 1);
        let fullest = counts.values().copied().max().unwrap_or(0);
        let mean = f64::from(KEYS) / NODES as f64;
        let moved = |now: &[u64]| at_first.iter().zip(now).filter(|(was, is)| was != is).count() as f64;
        let gone = f64::from(counts.get(&before[before.len() / 2]).copied().unwrap_or(0));
        println!(
            "{name:<20} {:>14.3} {:>11.2} x {:>12.2} x",
            f64::from(fullest) / mean,
            moved(&joined) / (f64::from(KEYS) / (NODES + 1) as f64),
            moved(&left) / gone,
        );
    }
    println!();
}
