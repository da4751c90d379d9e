//! The power is cut at every call of every trace.

use super::battery::{cut_everywhere, effort};
use super::trace;

#[test]
fn opening_an_empty_directory_survives_every_power_cut() {
    assert!(cut_everywhere(&trace::opening(), 6, Some(1)) > 10);
}

#[test]
fn log_rotation_survives_every_power_cut() {
    assert!(cut_everywhere(&trace::rotation(), 3, Some(40)) > 100);
}

#[test]
fn large_records_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::large_records(), 4, Some(40)) > 50);
}

#[test]
fn flushes_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::flushes(), 2, Some(40)) > 100);
}

#[test]
fn compactions_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::compactions(), 2, Some(60)) > 100);
}

#[test]
fn checkpoints_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::checkpoints(), 2, Some(60)) > 100);
}

#[test]
fn manifest_rolls_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::manifest_rolls(), 2, Some(50)) > 100);
}

#[test]
fn reopenings_survive_every_power_cut() {
    assert!(cut_everywhere(&trace::reopenings(), 3, Some(40)) > 100);
}

#[test]
fn random_traces_survive_every_power_cut() {
    for seed in 0..4 * effort() {
        assert!(cut_everywhere(&trace::mixed(seed, 40), 1, Some(100)) > 50);
    }
}
