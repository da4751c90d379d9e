use super::*;
use crate::measure::Memory;
use crate::row::Latency;

fn row(engine: Name, workload: &str, per_second: u64) -> Row {
    Row {
        engine,
        workload: workload.to_owned(),
        round: 0,
        operations: per_second,
        seconds: 1.0,
        latency: Some(Latency::default()),
        cpu_us: 1.0,
        memory: Memory::default(),
        bench_bytes: 0,
        user_bytes: 0,
        written_bytes: 0,
        disk_bytes: 0,
        settle_seconds: None,
        settled: true,
        cut: false,
        lost: 0,
        series: Vec::new(),
        probe_max_ms: None,
    }
}

fn line(row: Row) -> Line {
    Line::Row(Box::new(row))
}

fn ratio(lines: &[Line], workload: &str) -> Option<(Name, f64)> {
    let summary = Summary::of(lines);
    let comparison = summary.comparisons.iter().find(|comparison| comparison.name == workload)?;
    comparison.ratio().map(|ratio| (ratio.rival, ratio.times))
}

#[test]
fn the_ratio_is_that_of_medians_to_the_best_rival() {
    let mut lines = Vec::new();
    for (engine, rounds) in [(Name::KvLsm, [90, 100, 400]), (Name::RocksDb, [50, 10, 60]), (Name::Lmdb, [20, 99, 30])] {
        lines.extend(rounds.map(|per_second| line(row(engine, "fillseq", per_second))));
    }
    assert_eq!(ratio(&lines, "fillseq"), Some((Name::RocksDb, 2.0)));
    let summary = Summary::of(&lines);
    let spread = summary.comparisons[0].cells[0].spread(Row::per_second);
    assert_eq!((spread.median, spread.low, spread.high, spread.percent()), (100.0, 90.0, 400.0, 300.0));
}

#[test]
fn who_lost_writes_is_not_compared_where_it_matters() {
    let mut lines = Vec::new();
    for workload in ["fillseq", "readrandom", "readwhilewriting-writer", "synced-8"] {
        lines.push(line(row(Name::KvLsm, workload, 100)));
        lines.push(line(row(Name::Redb, workload, 1000)));
        lines.push(line(row(Name::Fjall, workload, 50)));
    }
    assert_eq!(ratio(&lines, "fillseq"), Some((Name::Redb, 0.1)));
    lines.push(Line::Kill { engine: Name::Redb, acknowledged: 100, lost: 1 });
    assert_eq!(ratio(&lines, "fillseq"), Some((Name::Fjall, 2.0)));
    assert_eq!(ratio(&lines, "readwhilewriting-writer"), Some((Name::Fjall, 2.0)));
    assert_eq!(ratio(&lines, "readrandom"), Some((Name::Redb, 0.1)));
    assert_eq!(ratio(&lines, "synced-8"), Some((Name::Redb, 0.1)));
    lines.push(Line::Kill { engine: Name::KvLsm, acknowledged: 100, lost: 1 });
    assert_eq!(ratio(&lines, "fillseq"), None, "not even when it is ours");
}

#[test]
fn who_has_not_come_to_rest_is_not_compared() {
    let unsettled = |engine, per_second| Row { settled: false, ..row(engine, "overwrite", per_second) };
    let mut lines = vec![line(row(Name::KvLsm, "overwrite", 100)), line(row(Name::Lmdb, "overwrite", 25))];
    lines.push(line(unsettled(Name::RocksDb, 1000)));
    assert_eq!(ratio(&lines, "overwrite"), Some((Name::Lmdb, 4.0)));
    lines.push(line(unsettled(Name::KvLsm, 100)));
    assert_eq!(ratio(&lines, "overwrite"), None, "one bad round is enough");
}

#[test]
fn of_times_less_is_better() {
    let reopen = |engine, seconds| Row { seconds, ..row(engine, "reopen", 1) };
    let lost = Row { lost: 3, ..reopen(Name::Redb, 0.001) };
    let lines = [line(reopen(Name::KvLsm, 0.5)), line(reopen(Name::RocksDb, 2.5)), line(lost)];
    assert_eq!(ratio(&lines, "reopen"), Some((Name::RocksDb, 5.0)));
}

#[test]
fn debt_is_counted_where_there_is_any() {
    let debt =
        |engine, per_second, settle| Row { settle_seconds: Some(settle), ..row(engine, "overwrite", per_second) };
    let mut lines =
        vec![line(debt(Name::KvLsm, 100, 0.0)), line(debt(Name::RocksDb, 100, 3.0)), line(debt(Name::Lmdb, 50, 0.0))];
    let with_debt = |lines: &[Line]| Summary::of(lines).comparisons[0].ratio_with_debt();
    assert_eq!(ratio(&lines, "overwrite"), Some((Name::RocksDb, 1.0)));
    assert_eq!(with_debt(&lines), Some(Ratio { rival: Name::Lmdb, times: 2.0 }));
    lines.push(line(row(Name::Fjall, "overwrite", 1)));
    assert_eq!(with_debt(&lines), None);
}
