//! Starts one process after the other: in each round every group of workloads, in each group every engine in turn.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::assignment::{Assignment, Limits, Task};
use crate::engine::{Failure, Name};
use crate::kill;
use crate::machine;
use crate::process::Process;
use crate::row::{Line, Run};
use crate::settings::Settings;
use crate::workload::{Action, Cache, Group, Workload};

/// Writes of a process that is killed to see what it keeps.
const KILL_ENTRIES: u32 = 50_000;

/// Runs everything, and writes each result to the file as soon as it is there.
///
/// # Errors
/// Only what keeps the whole from running; an engine that fails is a line of the results.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Line>, Failure> {
    let workloads = settings.workloads()?;
    let engines = settings.engines();
    fs::create_dir_all(&settings.dir)?;
    fs::create_dir_all(&settings.out)?;
    let rounds = settings.rounds();
    let limits = settings.limits();
    let steps = u64::from(rounds) * (workloads.len() * engines.len()) as u64 + engines.len() as u64;
    let mut runner = Runner {
        directory: settings.dir.canonicalize()?,
        limits,
        seed: settings.seed,
        results: BufWriter::new(File::create(settings.out.join(RESULTS))?),
        lines: Vec::new(),
        bar: bar(steps),
    };
    runner.keep(Line::Run(Run {
        keys: limits.keys,
        rounds,
        seed: settings.seed,
        machine: machine::describe(&runner.directory),
        versions: engines.iter().map(|engine| (*engine, machine::version(*engine))).collect(),
    }))?;
    for engine in &engines {
        runner.kill_test(*engine)?;
    }
    for round in 0..rounds {
        for group in Group::ALL {
            let chosen: Vec<_> = workloads.iter().copied().filter(|workload| workload.group == group).collect();
            // Another engine goes first each time.
            let first = (round as usize + group as usize) % engines.len().max(1);
            for engine in engines.iter().cycle().skip(first).take(engines.len()) {
                runner.group(*engine, group, round, &chosen)?;
            }
        }
    }
    runner.bar.finish_and_clear();
    // Whatever else lies there is not ours; when something does, it stays.
    let _ = fs::remove_dir(&runner.directory);
    Ok(runner.lines)
}

/// The file of results, in the directory for output.
pub(crate) const RESULTS: &str = "results.jsonl";

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}");
    bar.set_style(style.expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

struct Runner {
    directory: PathBuf,
    limits: Limits,
    seed: u64,
    results: BufWriter<File>,
    lines: Vec<Line>,
    bar: ProgressBar,
}

impl Runner {
    fn keep(&mut self, line: Line) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.results, &line)?;
        writeln!(self.results)?;
        self.results.flush()?;
        if let Line::Failed { engine, what } = &line {
            self.bar.println(format!("FAILED {engine}: {what}"));
        }
        self.lines.push(line);
        Ok(())
    }

    fn fail(&mut self, engine: Name, what: String) -> Result<(), Failure> {
        self.keep(Line::Failed { engine, what })
    }

    fn assignment(&self, engine: Name, group: Group, round: u32, cache: Cache, task: Task) -> Assignment {
        let directory = self.directory.join(format!("{engine}-{group:?}"));
        Assignment { engine, group, cache, round, seed: self.seed, limits: self.limits, directory, task }
    }

    /// All workloads of a group that were asked for, on a database made anew.
    fn group(&mut self, engine: Name, group: Group, round: u32, chosen: &[&Workload]) -> Result<(), Failure> {
        if chosen.is_empty() {
            return Ok(());
        }
        let position = self.bar.position() + chosen.len() as u64;
        if group.suits(engine) {
            self.bar.set_message(format!("round {} {engine} {group:?}", round + 1));
            let assignment = self.assignment(engine, group, round, Cache::Large, Task::Measure(Vec::new()));
            fresh(&assignment.directory)?;
            let outcome = if chosen.iter().all(|workload| workload.action == Action::Reopen) {
                self.reopen(&assignment)
            } else {
                self.stages(&assignment, chosen)
            };
            if let Err(error) = outcome {
                self.fail(engine, format!("{group:?}: {error}"))?;
            }
            fs::remove_dir_all(&assignment.directory)?;
        }
        self.bar.set_position(position);
        Ok(())
    }

    fn stages(&mut self, group: &Assignment, chosen: &[&Workload]) -> Result<(), Failure> {
        for stage in chosen.chunk_by(|one, next| one.stage == next.stage) {
            let names = stage.iter().map(|workload| workload.name.to_owned()).collect();
            let assignment = Assignment { cache: stage[0].cache, task: Task::Measure(names), ..group.clone() };
            let process = Process::start(&assignment)?;
            while let Some(line) = process.next()? {
                self.take(line)?;
            }
            process.wait()?;
        }
        Ok(())
    }

    fn take(&mut self, line: Line) -> Result<(), Failure> {
        match line {
            Line::Phase { what } => {
                let message = self.bar.message();
                let begin = message.split(": ").next().unwrap_or_default();
                self.bar.set_message(format!("{begin}: {what}"));
                Ok(())
            }
            Line::Row(row) => {
                if !row.workload.ends_with("-writer") {
                    self.bar.inc(1);
                }
                self.keep(Line::Row(row))
            }
            // Told once, with what it happened in.
            Line::Failed { what, .. } => Err(what.into()),
            line => self.keep(line),
        }
    }

    /// Kills a process in the midst of its writes, and counts what the next one does not find.
    fn kill_test(&mut self, engine: Name) -> Result<(), Failure> {
        self.bar.set_message(format!("{engine}: kill test"));
        let task = Task::WriteUntilKilled { entries: KILL_ENTRIES };
        let assignment = self.assignment(engine, Group::Random, 0, Cache::Large, task);
        fresh(&assignment.directory)?;
        let outcome = self.kill(&assignment, Some(u64::from(KILL_ENTRIES) * 2 / 3)).and_then(|()| {
            let task = Task::OpenAfterKill { entries: KILL_ENTRIES };
            let process = Process::start(&Assignment { task, ..assignment.clone() })?;
            while let Some(line) = process.next()? {
                // How long it took to open so little says nothing.
                if !matches!(line, Line::Row(_)) {
                    self.take(line)?;
                }
            }
            process.wait()
        });
        if let Err(error) = outcome {
            self.fail(engine, format!("kill test: {error}"))?;
        }
        fs::remove_dir_all(&assignment.directory)?;
        self.bar.inc(1);
        Ok(())
    }

    /// How long it takes to open what a killed process has in its log.
    fn reopen(&mut self, group: &Assignment) -> Result<(), Failure> {
        let entries = group.group.keys(self.limits.keys);
        self.kill(&Assignment { task: Task::WriteUntilKilled { entries }, ..group.clone() }, None)?;
        let process = Process::start(&Assignment { task: Task::OpenAfterKill { entries }, ..group.clone() })?;
        while let Some(line) = process.next()? {
            // What is lost is in the row.
            if !matches!(line, Line::Kill { .. }) {
                self.take(line)?;
            }
        }
        process.wait()
    }

    /// Lets a process write, and kills it once so many writes have returned, or all.
    fn kill(&mut self, assignment: &Assignment, after: Option<u64>) -> Result<(), Failure> {
        let mut process = Process::start(assignment)?;
        while after.is_none_or(|after| kill::acknowledged(&assignment.acknowledged()).is_ok_and(|count| count < after))
        {
            match process.try_next() {
                Some(Line::Phase { what }) if what == kill::WRITTEN => break,
                Some(Line::Failed { what, .. }) => return Err(what.into()),
                _ if !process.is_running() => return Err("the process ended before it was killed".into()),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Ok(process.kill()?)
    }
}

/// An empty directory in this place.
fn fresh(directory: &Path) -> std::io::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)
}
