//! The battery, a bounded part of it. `KV_BATTERY=20 cargo test -p kv-lsm --release --test battery` runs so many times more, the example
//! `torture` as much as wanted.

use std::time::Duration;

use kv_lsm::battery::report::Report;
use kv_lsm::battery::session::{Case, Session};
use kv_lsm::battery::{model, power_cuts};

fn effort() -> u64 {
    std::env::var("KV_BATTERY").ok().and_then(|effort| effort.parse().ok()).unwrap_or(1)
}

fn run(case: Case, cases: u64) -> Report {
    let session = Session {
        seed: 1,
        duration: Duration::from_secs(3600),
        cases_max: cases * effort(),
        threads: 1,
        hang: Duration::from_secs(120),
    };
    let report = session.run(case, &mut |violation| println!("{violation}"));
    assert_eq!(report.violations, Vec::<String>::new());
    println!("{{{}}}", report.json_members());
    report
}

#[test]
fn random_traces_survive_every_power_cut() {
    let report = run(power_cuts::case, 12);
    assert!(report.images.len() > 500, "{report:?}");
}

#[test]
fn databases_read_as_sorted_maps_do() {
    let report = run(model::case, 60);
    assert!(report.counted("operations") > 100_000, "{report:?}");
    assert!(report.settings.len() > 30);
}
