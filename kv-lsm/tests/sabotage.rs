//! The battery can fail: each rule of the engine is broken by a switch, and the general suites must notice.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kv_lsm::battery::report::Report;
use kv_lsm::battery::session::{Case, run_case};
use kv_lsm::battery::{Sabotage, corruption, model, power_cuts, refusals};

/// Each switch with the rule that it breaks, and the suites that are asked, the likeliest first.
const RULES: &[(&str, Sabotage, &[Suite])] = &[
    ("E1", Sabotage::TrustRecoveredBytes, &[CRASH]),
    ("E2", Sabotage::SyncLastSegmentOnly, &[CRASH]),
    ("E3", Sabotage::CallSealedDurable, &[CRASH]),
    ("E4", Sabotage::CallCorruptionTorn, &[CORRUPT]),
    ("E5", Sabotage::RetireLogEarly, &[CRASH]),
    ("E5", Sabotage::BelieveStaleChunks, &[CRASH]),
    ("E6", Sabotage::GoOnAfterFailedSync, &[ERRORS]),
    ("E7", Sabotage::LetLogGrow, &[MODEL]),
    ("E8", Sabotage::LeaveCheckpointUnsynced, &[CRASH]),
    ("E9", Sabotage::PinAfterVisible, &[MODEL]),
    ("E10", Sabotage::FoldAcrossRangeDelete, &[MODEL]),
    ("E10", Sabotage::FoldAcrossSnapshot, &[MODEL]),
    ("E11", Sabotage::FilterBeforeRangeDeletes, &[MODEL]),
    ("E12", Sabotage::ExpiredIsMissing, &[MODEL]),
    ("E13", Sabotage::FoldOntoPointer, &[MODEL]),
    ("E13", Sabotage::LeaveBlobsUnsynced, &[CRASH]),
    ("E14", Sabotage::ChecksumWithoutPlace, &[CORRUPT]),
    ("E15", Sabotage::SkipValidation, &[CRASH]),
    ("E16", Sabotage::WaitForNobody, &[MODEL]),
    ("E17", Sabotage::CallVisibleDurable, &[CRASH]),
    ("lesson 19", Sabotage::AcknowledgeEarly, &[CRASH]),
    ("lesson 44", Sabotage::SkipDirectorySync, &[CRASH]),
    ("lesson 45", Sabotage::PublishHalfBatch, &[MODEL]),
    ("lesson 52", Sabotage::SkipUnreadableBlock, &[ERRORS]),
];

type Suite = (&'static str, Case);
const CRASH: Suite = ("crash", power_cuts::case);
const ERRORS: Suite = ("errors", refusals::case);
const CORRUPT: Suite = ("corrupt", corruption::case);
const MODEL: Suite = ("model", model::case);

/// A broken rule must show within so many cases of a suite.
const CASES_MAX: u64 = 300;
/// A case that takes longer hangs. For one rule that is the way to notice.
const HANG: Duration = Duration::from_secs(120);
const HANG_EXPECTED: Duration = Duration::from_secs(10);

struct Catch {
    suite: &'static str,
    case: u64,
    /// Different disks, injected faults, mutations or operations until then.
    effort: String,
    violation: String,
}

/// Runs cases with a rule broken until one fails.
fn hunt(sabotage: Sabotage, suites: &[Suite]) -> Option<Catch> {
    for &(suite, case) in suites {
        let mut total = Report::default();
        for seed in 1..=CASES_MAX {
            let (tell, told) = mpsc::channel();
            // A case that hangs is left alone: it sleeps.
            thread::spawn(move || {
                let mut report = Report::default();
                sabotage.during(|| run_case(case, seed, &mut report));
                let _ = tell.send(report);
            });
            let mut violation = "it hangs".to_owned();
            let hang = if sabotage == Sabotage::WaitForNobody { HANG_EXPECTED } else { HANG };
            if let Ok(report) = told.recv_timeout(hang) {
                violation = report.violations.first().cloned().unwrap_or_default();
                total.add(report);
            }
            if !violation.is_empty() {
                let counts = ["images", "injections", "mutations", "operations"];
                let count =
                    |what: &&str| if *what == "images" { total.images.len() as u64 } else { total.counted(what) };
                let effort = counts.iter().map(|what| (what, count(what))).find(|(_, count)| *count > 0);
                let effort =
                    effort.map_or_else(|| "the first case".to_owned(), |(what, count)| format!("{count} {what}"));
                return Some(Catch { suite, case: seed, effort, violation });
            }
        }
    }
    None
}

#[test]
fn every_broken_rule_is_noticed() {
    // The cases fail by panicking, hundreds of lines each.
    kv_lsm::battery::session::silence_panics();
    let began = Instant::now();
    let mut missed = Vec::new();
    println!("{:10} {:26} {:8} {:>5}  {:24} what it said", "rule", "switch", "suite", "case", "after");
    // `KV_SABOTAGE=LetLogGrow` tries one switch alone.
    let only = std::env::var("KV_SABOTAGE").ok();
    let chosen = |sabotage: &Sabotage| only.as_ref().is_none_or(|only| *only == format!("{sabotage:?}"));
    for (rule, sabotage, suites) in RULES.iter().filter(|(_, sabotage, _)| chosen(sabotage)) {
        match hunt(*sabotage, suites) {
            Some(Catch { suite, case, effort, violation }) => {
                let said: String = violation.lines().next().unwrap_or_default().chars().take(150).collect();
                println!("{rule:10} {:26} {suite:8} {case:>5}  {effort:24} {said}", format!("{sabotage:?}"));
            }
            None => missed.push(format!("{rule} {sabotage:?}")),
        }
    }
    println!("in {} s", began.elapsed().as_secs());
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

#[test]
fn every_switch_is_in_the_table() {
    for sabotage in Sabotage::ALL {
        assert!(RULES.iter().any(|(_, listed, _)| listed == sabotage), "{sabotage:?}");
    }
}
