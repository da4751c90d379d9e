//! The mini cluster proves what it says it proves, on a small scale.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use clap::Parser;
use kv_examples::input_file::{InputError, LineError};
use kv_examples::mini_cluster::{self, RunError};
use kv_examples::options::Options;
use kv_examples::outcome::Outcome;
use kv_examples::report::Screen;
use kv_repl::stats::{OutcomeKind, RequestKind};

fn run(arguments: &[&str]) -> Result<Outcome, RunError> {
    let options = Options::try_parse_from([&["mini_cluster"], arguments].concat()).unwrap();
    mini_cluster::run(&options, &Screen::silent())
}

/// The outcome of a run that proved something.
fn prove(arguments: &[&str]) -> Outcome {
    let outcome = run(arguments).unwrap();
    assert_eq!(outcome.failures(), Vec::<String>::new(), "{:?}", outcome.findings.unexpected);
    outcome
}

#[test]
fn nothing_acknowledged_is_lost_when_a_node_loses_its_power() {
    let outcome = prove(&["--nodes", "3", "--keys", "2000"]);
    assert_eq!((outcome.keys, outcome.findings.lost, outcome.findings.wrong), (2_000, 0, 0));
    let kill = outcome.kill.unwrap();
    assert!(kill.lost.bytes > 0);
    assert!(kill.acknowledged_while_down > 0);
    assert!(outcome.late_reads(kill.node) > 0);
    assert!(outcome.findings.overwrites > 0, "some keys are written again");
    assert_eq!(outcome.findings.writes, outcome.keys + outcome.findings.overwrites);
    let puts = outcome.counted.iter().map(|stats| stats.requests.kind(RequestKind::Put).outcomes(OutcomeKind::Ok));
    assert!(outcome.counted.len() == 3 && puts.sum::<u64>() > 0);
    assert_eq!(outcome.beliefs.iter().map(|beliefs| beliefs.peers.len()).collect::<Vec<_>>(), [2, 2, 2]);
    for holding in &outcome.holdings {
        assert_eq!(holding.by_the_ring, 2_000, "with three replicas each of three nodes holds every key");
        if holding.node != kill.node {
            assert_eq!(holding.in_its_store, 2_000, "{}", holding.node);
        }
    }
}

#[test]
fn a_directory_that_was_given_stays_and_is_not_used_twice() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cluster");
    let shown = directory.to_str().unwrap();
    let outcome = prove(&["--nodes", "4", "--keys", "500", "--no-kill", "--dir", shown]);
    assert!(outcome.kill.is_none());
    let in_stores: u64 = outcome.holdings.iter().map(|holding| holding.in_its_store).sum();
    assert_eq!(in_stores, 3 * 500, "three replicas of each key, and no more");
    assert!((1..=4).all(|node| directory.join(format!("n{node}")).is_dir()));

    let again = run(&["--nodes", "4", "--keys", "500", "--no-kill", "--dir", shown]).err();
    assert!(matches!(again, Some(RunError::DirectoryInUse { path }) if path == directory));
}

#[test]
fn the_last_of_several_lines_with_one_key_wins() {
    let mut lines = String::new();
    for number in 0..3_000 {
        // Neighbours share keys, so that they are often under way when they come again.
        writeln!(lines, "key {}\tvalue {number}", number / 2).unwrap();
    }
    let file = file(lines.as_bytes());
    let outcome = prove(&["--input", shown(file.path())]);
    assert_eq!((outcome.keys, outcome.findings.writes, outcome.findings.overwrites), (1_500, 3_000, 1_500));
}

#[test]
fn a_bad_line_ends_the_run_and_is_named() {
    let mut lines: Vec<u8> = (0..500).flat_map(|number| format!("{number}\tvalue\n").into_bytes()).collect();
    lines.extend_from_slice(b"no tab here\n");
    let file = file(&lines);
    let error = run(&["--no-kill", "--input", shown(file.path())]).err().unwrap();
    assert_eq!(error.to_string(), format!("{}, line 501: no tab between a key and a value", file.path().display()));
    assert!(matches!(
        error,
        RunError::Feed(kv_examples::feeder::FeedError::Input(InputError::Line {
            line: 501,
            what: LineError::NoTab,
            ..
        }))
    ));
}

fn file(contents: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
