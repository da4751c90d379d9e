//! What is left of a process that was killed: how much of what it was told is written, and how long until the next one has it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::assignment::Assignment;
use crate::data::{Values, key_of};
use crate::engine::Failure;
use crate::measure::{Memory, Usage, disk_bytes};
use crate::row::{Latency, Line, Row};
use crate::stream::{Kind, Op, random, shuffled};

/// What a writer says when it has written all it was told to; then it waits.
pub(crate) const WRITTEN: &str = "written";

fn ops(assignment: &Assignment, entries: u32) -> Vec<Op> {
    shuffled(Kind::Put, entries, &mut random(assignment.seed_of("kill")))
}

/// Writes one key after the other, and notes after each that it has returned, where a kill does not reach: the operating system
/// keeps what was handed to it.
pub(crate) fn write_until_killed(
    assignment: &Assignment,
    entries: u32,
    tell: &mut dyn FnMut(Line),
) -> Result<(), Failure> {
    fs::create_dir_all(assignment.database())?;
    let opening = assignment.group.opening(assignment.limits.keys, assignment.cache);
    let engine = assignment.engine.open(&assignment.database(), &opening)?;
    let note = File::create(assignment.acknowledged())?;
    let values = Values::new(assignment.group.value_bytes());
    let mut value = Vec::new();
    for (count, op) in (1u64..).zip(ops(assignment, entries)) {
        values.fill(op.number(), 1, &mut value);
        engine.put(&key_of(op.number()), &value)?;
        note.write_all_at(&count.to_le_bytes(), 0)?;
    }
    tell(Line::Phase { what: WRITTEN.to_owned() });
    loop {
        std::thread::park();
    }
}

/// How many writes a process has noted so far.
pub(crate) fn acknowledged(path: &Path) -> io::Result<u64> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes.try_into().map_or(0, u64::from_le_bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Opens what was left, reads one key, and then looks for all the others. A value that is there must be right; one that is not
/// there is counted. The write that was under way may be there or not.
pub(crate) fn open_after_kill(
    assignment: &Assignment,
    entries: u32,
    tell: &mut dyn FnMut(Line),
) -> Result<(), Failure> {
    let acknowledged = acknowledged(&assignment.acknowledged())?;
    let ops = ops(assignment, entries);
    let written = &ops[..usize::try_from(acknowledged)?];
    let opening = assignment.group.opening(assignment.limits.keys, assignment.cache);

    let before = Usage::now()?;
    let begin = Instant::now();
    let engine = assignment.engine.open(&assignment.database(), &opening)?;
    if let Some(first) = written.first() {
        engine.get(&key_of(first.number()), &mut |_| {})?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let usage = Usage::now()?.since(before);
    let memory = Memory::now()?;

    let values = Values::new(assignment.group.value_bytes());
    let mut room = Vec::new();
    let mut lost = 0;
    for op in written {
        let mut checked = Ok(1);
        let found = engine.get(&key_of(op.number()), &mut |value| {
            checked = values.check_whole(op.number(), value, &mut room);
        })?;
        checked?;
        lost += u64::from(!found);
    }
    tell(Line::Kill { engine: assignment.engine, acknowledged, lost });
    let us = seconds * 1e6;
    tell(Line::Row(Box::new(Row {
        engine: assignment.engine,
        workload: "reopen".to_owned(),
        round: assignment.round,
        operations: 1,
        seconds,
        latency: Some(Latency { p50_us: us, p99_us: us, p999_us: us, max_us: us }),
        cpu_us: usage.processor.as_secs_f64() * 1e6,
        memory,
        bench_bytes: size_of_val(&ops[..]) as u64,
        user_bytes: 0,
        written_bytes: usage.written_bytes,
        disk_bytes: disk_bytes(&assignment.database())?,
        settle_seconds: None,
        settled: true,
        cut: false,
        lost,
        series: Vec::new(),
        probe_max_ms: None,
    })));
    Ok(())
}
