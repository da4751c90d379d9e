//! The power is cut at every call of every script.

use kv_lsm::battery::inspect::Inspector;
use kv_lsm::battery::power_cuts::{Cuts, cut_everywhere};
use kv_lsm::battery::settings::Settings;
use kv_lsm::battery::trace::{self, Trace};

use super::effort;

/// Returns how many different disks were looked at.
fn cut(trace: &Trace, samples: u64, inside_recovery_one_in: u64) -> usize {
    let mut inspector = Inspector::default();
    let inside_recovery_one_in = Some(inside_recovery_one_in);
    cut_everywhere(trace, Cuts { samples: samples * effort(), inside_recovery_one_in, salt: 0 }, &mut inspector);
    inspector.images.len()
}

#[test]
fn opening_an_empty_directory_survives_every_power_cut() {
    assert!(cut(&trace::opening(), 6, 1) > 10);
}

#[test]
fn log_rotation_survives_every_power_cut() {
    assert!(cut(&trace::rotation(), 3, 40) > 100);
}

#[test]
fn a_stored_log_survives_every_power_cut() {
    for trace in
        [trace::rotation(), trace::large_records(), trace::flushes(), trace::recycled_segments(), trace::reopenings()]
    {
        let settings = Settings { stored_log: true, ..trace.settings };
        assert!(cut(&Trace { settings, ..trace }, 3, 60) > 50);
    }
}

#[test]
fn large_records_survive_every_power_cut() {
    assert!(cut(&trace::large_records(), 4, 40) > 50);
}

#[test]
fn flushes_survive_every_power_cut() {
    assert!(cut(&trace::flushes(), 2, 40) > 100);
}

#[test]
fn compactions_survive_every_power_cut() {
    assert!(cut(&trace::compactions(), 2, 60) > 100);
}

#[test]
fn blob_files_survive_every_power_cut() {
    assert!(cut(&trace::blobs(), 2, 60) > 100);
}

#[test]
fn checkpoints_survive_every_power_cut() {
    assert!(cut(&trace::checkpoints(), 2, 60) > 100);
}

#[test]
fn recycled_segments_survive_every_power_cut() {
    assert!(cut(&trace::recycled_segments(), 4, 60) > 100);
}

#[test]
fn transactions_survive_every_power_cut() {
    assert!(cut(&trace::transactions(), 2, 60) > 100);
}

#[test]
fn manifest_rolls_survive_every_power_cut() {
    assert!(cut(&trace::manifest_rolls(), 2, 50) > 100);
}

#[test]
fn reopenings_survive_every_power_cut() {
    assert!(cut(&trace::reopenings(), 3, 40) > 100);
}

#[test]
fn dropped_keyspaces_survive_every_power_cut() {
    assert!(cut(&trace::dropped_keyspaces(), 2, 60) > 100);
}
