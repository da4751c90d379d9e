//! A process that measures: opens an engine, loads it if it must, and runs workloads one after the other.

use std::fs::File;
use std::time::Duration;

use rustix::fs::syncfs;

use crate::assignment::Assignment;
use crate::data::{KEY_BYTES, Values};
use crate::drive::{Done, Job, ScanLength, full_scan, histogram, run};
use crate::engine::{Direction, Engine, Failure};
use crate::ledger::Ledger;
use crate::long;
use crate::measure::{Memory, Usage, disk_bytes, reset_peak, settle};
use crate::row::{Latency, Line, Row};
use crate::stream::{Kind, Op, Stream, hot, random, replay, sequential, shuffled, uniform, ycsb};
use crate::verify::verify;
use crate::workload::{Action, BATCH, Cache, Order, Span, Workload, named};

/// Entries that are written together when loading is not what is measured.
const LOAD_BATCH: usize = 1000;

/// Full scans are repeated until they have taken so long, or so many times.
const SCAN_TIME_MIN: Duration = Duration::from_secs(2);
const SCANS_MAX: u32 = 5;

/// Where there are fewer keys, each is read more often, so that there is something to measure.
const READS_MIN: u64 = 1_000_000;

/// More synced writes than a second brings, on any machine that this may meet.
const SYNCED_PER_SECOND_MAX: u64 = 200_000;

/// Runs the workloads of one stage. Each result is told as soon as it is there.
///
/// # Errors
/// A wrong answer, and whatever the engine fails with.
pub(crate) fn measure(
    assignment: &Assignment,
    workloads: &[String],
    tell: &mut dyn FnMut(Line),
) -> Result<(), Failure> {
    let workloads: Vec<&Workload> = workloads
        .iter()
        .map(|name| named(name).ok_or(format!("there is no workload {name}")))
        .collect::<Result<_, _>>()?;
    std::fs::create_dir_all(assignment.database())?;
    let opening = assignment.group.opening(assignment.limits.keys, assignment.cache);
    let engine = assignment.engine.open(&assignment.database(), &opening)?;
    let (engine_name, group) = (assignment.engine, format!("{:?}", assignment.group));
    tell(Line::Options { engine: engine_name, group, options: engine.options() });
    let ledger = if assignment.ledger().exists() { Ledger::load(&assignment.ledger())? } else { Ledger::default() };
    let values = Values::new(assignment.group.value_bytes());
    let mut stage = Stage { assignment, engine: engine.as_ref(), values, ledger, is_warm: false };

    let begins_full =
        workloads.first().is_some_and(|first| !matches!(first.action, Action::Fill(_) | Action::Synced { .. }));
    if begins_full && stage.ledger.numbers() == 0 {
        tell(Line::Phase { what: "loading".to_owned() });
        stage.load()?;
    }
    if begins_full {
        tell(Line::Phase { what: "settling".to_owned() });
        settle(engine.as_ref(), assignment.limits.settle_time)?;
    }
    for workload in workloads {
        tell(Line::Phase { what: workload.name.to_owned() });
        for row in stage.measure(workload)? {
            tell(Line::Row(Box::new(row)));
        }
    }
    Ok(stage.ledger.save(&assignment.ledger())?)
}

struct Stage<'a> {
    assignment: &'a Assignment,
    engine: &'a dyn Engine,
    values: Values,
    ledger: Ledger,
    /// Everything was read once, if the cache is to hold it.
    is_warm: bool,
}

/// What a workload is made of.
struct Plan {
    streams: Vec<Stream>,
    batch: usize,
    scan: ScanLength,
    time_max: Duration,
    /// Run before, unmeasured, to warm the caches.
    warm_up: Vec<Op>,
}

impl Stage<'_> {
    fn job(&self, batch: usize, scan: ScanLength, time_max: Duration) -> Job<'_> {
        Job {
            engine: self.engine,
            values: self.values,
            base: self.ledger.last_generation(),
            numbers: self.ledger.numbers(),
            batch,
            scan,
            time_max,
        }
    }

    /// Writes all keys as fast as it goes, in random order.
    fn load(&mut self) -> Result<(), Failure> {
        let keys = self.assignment.group.keys(self.assignment.limits.keys);
        let streams = [shuffled(Kind::Put, keys, &mut random(self.assignment.seed_of("load"))).into()];
        let done = run(self.job(LOAD_BATCH, ScanLength::Exactly(1), Duration::MAX), &streams)?;
        self.replay(&streams, &done);
        Ok(())
    }

    fn plan(&self, workload: &Workload) -> Plan {
        let limits = &self.assignment.limits;
        let keys = self.assignment.group.keys(limits.keys);
        let numbers = self.ledger.numbers();
        let mut random = random(self.assignment.seed_of(workload.name));
        let reads = (u64::from(keys) / 2).max(READS_MIN.min(u64::from(keys) * 10));
        let mut plan = Plan {
            streams: Vec::new(),
            batch: 1,
            scan: ScanLength::Exactly(1),
            time_max: limits.read_time,
            warm_up: Vec::new(),
        };
        match workload.action {
            Action::Fill(order) => {
                let ops = match order {
                    Order::Sequential => sequential(keys),
                    Order::Random | Order::Batched => shuffled(Kind::Put, keys, &mut random),
                };
                plan.streams.push(ops.into());
                plan.batch = if order == Order::Batched { BATCH } else { 1 };
                plan.time_max = Duration::MAX;
            }
            Action::Overwrite => {
                plan.streams.push(uniform(Kind::Put, u64::from(keys), numbers, &mut random).into());
                plan.time_max = limits.write_time;
            }
            Action::DeleteRandom => {
                plan.streams.push(shuffled(Kind::Delete, numbers, &mut random).into());
                plan.time_max = limits.write_time;
            }
            Action::Read { threads, span } => {
                let mut draw = |count| match span {
                    Span::All => uniform(Kind::Get, count, numbers, &mut random),
                    Span::Missing => uniform(Kind::Miss, count, numbers, &mut random),
                    Span::Hot => hot(count, numbers, &mut random),
                };
                plan.warm_up = draw(reads / 2);
                plan.streams.extend((0..threads).map(|_| Stream::from(draw(reads))));
            }
            Action::Seek(entries) => {
                plan.scan = ScanLength::Exactly(entries);
                plan.warm_up = uniform(Kind::Scan, reads / 8, numbers, &mut random);
                plan.streams.push(uniform(Kind::Scan, reads / 2, numbers, &mut random).into());
            }
            Action::PrefixScan => {
                plan.warm_up = uniform(Kind::PrefixScan, reads / 40, numbers, &mut random);
                plan.streams.push(uniform(Kind::PrefixScan, reads / 10, numbers, &mut random).into());
            }
            Action::ReadWhileWriting => {
                plan.warm_up = uniform(Kind::Get, reads / 2, numbers, &mut random);
                plan.streams.push(uniform(Kind::Get, reads, numbers, &mut random).into());
                let ops = uniform(Kind::Put, u64::from(keys), numbers, &mut random);
                plan.streams.push(Stream { ops, beside: true });
            }
            Action::Ycsb(letter) => {
                plan.scan = ScanLength::UpTo(100);
                plan.warm_up = uniform(Kind::Get, reads / 4, numbers, &mut random);
                plan.streams.push(ycsb(letter, u64::from(keys) / 2, numbers, &mut random).into());
            }
            Action::Synced { threads } => {
                plan.time_max = limits.synced_time;
                let each = SYNCED_PER_SECOND_MAX * limits.synced_time.as_secs().max(1) / u64::from(threads);
                let each = u32::try_from(each).unwrap_or(u32::MAX).min(u32::from(u16::MAX) * 16);
                let of = |thread| (0..each).map(move |index| Op::new(Kind::Put, numbers + thread + threads * index));
                plan.streams.extend((0..threads).map(|thread| Stream::from(of(thread).collect::<Vec<_>>())));
            }
            Action::FullScan(_) | Action::OverwriteLong | Action::Reopen => {}
        }
        plan
    }

    fn measure(&mut self, workload: &Workload) -> Result<Vec<Row>, Failure> {
        match workload.action {
            Action::FullScan(direction) => Ok(vec![self.measure_scans(workload, direction)?]),
            Action::OverwriteLong => Ok(vec![self.measure_long(workload)?]),
            Action::Reopen => Err("reopening takes two processes".into()),
            _ => self.measure_streams(workload),
        }
    }

    fn measure_streams(&mut self, workload: &Workload) -> Result<Vec<Row>, Failure> {
        let plan = self.plan(workload);
        if !plan.warm_up.is_empty() {
            self.warm()?;
            run(self.job(1, plan.scan, self.assignment.limits.read_time / 2), &[plan.warm_up.into()])?;
        }
        self.begin_clean()?;
        let before = Usage::now()?;
        let done = run(self.job(plan.batch, plan.scan, plan.time_max), &plan.streams)?;
        let after = self.rest(workload, before, &plan.streams)?;

        let user_bytes =
            plan.streams.iter().zip(&done).map(|(stream, done)| self.user_bytes(&stream.ops, done.operations));
        let user_bytes = user_bytes.sum();
        self.replay(&plan.streams, &done);
        self.is_warm &= !workload.action.relies_on_buffered_writes();
        if workload.action.leaves_debt() || matches!(workload.action, Action::Synced { .. }) {
            verify(self.engine, self.values, &self.ledger)?;
        }
        let asked: u64 =
            plan.streams.iter().filter(|stream| !stream.beside).map(|stream| stream.ops.len() as u64).sum();
        let rows = [false, true].into_iter().filter_map(|beside| {
            let of = plan.streams.iter().zip(&done).filter(|(stream, _)| stream.beside == beside);
            let row = self.row(workload, of.map(|(_, done)| done), &after)?;
            let name = if beside { format!("{}-writer", workload.name) } else { row.workload };
            let by_clock = beside || matches!(workload.action, Action::Synced { .. });
            Some(Row { workload: name, user_bytes, cut: !by_clock && row.operations < asked, ..row })
        });
        Ok(rows.collect())
    }

    /// Reads everything once where the cache is larger than the data: random reads would leave a part of it unread, the larger
    /// the fewer entries a block has, and then who is measured is the disk.
    fn warm(&mut self) -> Result<(), Failure> {
        let is_whole = self.ledger.live() == self.ledger.numbers() as usize;
        if self.assignment.cache == Cache::Large && is_whole && !self.is_warm {
            full_scan(&self.job(1, ScanLength::Exactly(1), Duration::MAX), Direction::Forward)?;
            self.is_warm = true;
        }
        Ok(())
    }

    fn measure_scans(&self, workload: &Workload, direction: Direction) -> Result<Row, Failure> {
        if self.ledger.live() != self.ledger.numbers() as usize {
            return Err("scans of everything take all keys to be there".into());
        }
        let job = self.job(1, ScanLength::Exactly(1), Duration::MAX);
        full_scan(&job, direction)?;
        reset_peak()?;
        let before = Usage::now()?;
        let mut done = Done { operations: 0, time: Duration::ZERO, latencies: histogram() };
        for _ in 0..SCANS_MAX {
            let begin = std::time::Instant::now();
            done.operations += full_scan(&job, direction)?;
            done.time += begin.elapsed();
            if done.time >= SCAN_TIME_MIN {
                break;
            }
        }
        let after = self.rest(workload, before, &[])?;
        let row = self.row(workload, [&done].into_iter(), &after).ok_or("nothing was scanned")?;
        Ok(Row { latency: None, ..row })
    }

    fn measure_long(&mut self, workload: &Workload) -> Result<Row, Failure> {
        let seed = self.assignment.seed_of(workload.name);
        let run = long::Run {
            engine: self.engine,
            values: self.values,
            seed,
            time_max: self.assignment.limits.long_time,
            probe: &self.assignment.directory.join("probe"),
        };
        self.begin_clean()?;
        let before = Usage::now()?;
        let outcome = run.overwrite(&self.ledger)?;
        let after = self.rest(workload, before, &[])?;
        outcome.replay(&mut self.ledger);
        verify(self.engine, self.values, &self.ledger)?;
        let done = outcome.steady();
        let row = self.row(workload, [&done].into_iter(), &after).ok_or("nothing was written")?;
        Ok(Row {
            cpu_us: outcome.cpu_us(),
            user_bytes: done.operations * (KEY_BYTES + self.assignment.group.value_bytes()) as u64,
            written_bytes: outcome.steady_written_bytes(),
            settled: row.settled && outcome.is_steady(),
            series: outcome.series(),
            probe_max_ms: Some(outcome.probe_max.as_secs_f64() * 1e3),
            ..row
        })
    }

    /// With no dirty pages and no memory of what was before: the kernel counts a page as written when it becomes dirty.
    fn begin_clean(&self) -> Result<(), Failure> {
        syncfs(File::open(&self.assignment.directory)?)?;
        Ok(reset_peak()?)
    }

    fn user_bytes(&self, ops: &[Op], done: u64) -> u64 {
        let put = (KEY_BYTES + self.assignment.group.value_bytes()) as u64;
        let bytes = |op: &Op| match op.kind() {
            Kind::Put | Kind::Modify => put,
            Kind::Delete => KEY_BYTES as u64,
            Kind::Get | Kind::Miss | Kind::Scan | Kind::PrefixScan => 0,
        };
        ops.iter().cycle().take(usize::try_from(done).unwrap_or(usize::MAX)).map(bytes).sum()
    }

    /// Every stream has begun at the same generation, and writes keys of its own; the ledger is behind all of them afterwards.
    fn replay(&mut self, streams: &[Stream], done: &[Done]) {
        let base = self.ledger.last_generation();
        for (stream, done) in streams.iter().zip(done) {
            replay(&stream.ops, done.operations, base, &mut self.ledger);
        }
    }

    /// Waits for the background, and reads the meters.
    fn rest(&self, workload: &Workload, before: Usage, streams: &[Stream]) -> Result<After, Failure> {
        let settled = if workload.action.leaves_debt() {
            Some(settle(self.engine, self.assignment.limits.settle_time)?)
        } else {
            None
        };
        Ok(After {
            usage: Usage::now()?.since(before),
            memory: Memory::now()?,
            bench_bytes: self.ledger.bytes()
                + streams.iter().map(|stream| size_of_val(&stream.ops[..]) as u64).sum::<u64>(),
            disk_bytes: disk_bytes(&self.assignment.database())?,
            settle_seconds: settled.map(|settled| settled.time.as_secs_f64()),
            settled: settled.is_none_or(|settled| settled.at_rest),
        })
    }

    /// One row out of several threads; `None` of none.
    fn row<'d>(&self, workload: &Workload, done: impl Iterator<Item = &'d Done>, after: &After) -> Option<Row> {
        let (mut operations, mut time, mut latencies) = (0, Duration::ZERO, histogram());
        for done in done {
            operations += done.operations;
            time = time.max(done.time);
            latencies.add(&done.latencies).ok()?;
        }
        if operations == 0 {
            return None;
        }
        let us = |nanos: u64| nanos as f64 / 1e3;
        Some(Row {
            engine: self.assignment.engine,
            workload: workload.name.to_owned(),
            round: self.assignment.round,
            operations,
            seconds: time.as_secs_f64(),
            latency: Some(Latency {
                p50_us: us(latencies.value_at_quantile(0.5)),
                p99_us: us(latencies.value_at_quantile(0.99)),
                p999_us: us(latencies.value_at_quantile(0.999)),
                max_us: us(latencies.max()),
            }),
            cpu_us: after.usage.processor.as_secs_f64() * 1e6 / operations as f64,
            memory: after.memory,
            bench_bytes: after.bench_bytes,
            user_bytes: 0,
            written_bytes: after.usage.written_bytes,
            disk_bytes: after.disk_bytes,
            settle_seconds: after.settle_seconds,
            settled: after.settled,
            cut: false,
            lost: 0,
            series: Vec::new(),
            probe_max_ms: None,
        })
    }
}

/// The meters after a workload.
struct After {
    usage: Usage,
    memory: Memory,
    bench_bytes: u64,
    disk_bytes: u64,
    settle_seconds: Option<f64>,
    settled: bool,
}
