//! A real process on a real disk is killed (SIGKILL) again and again, at any moment: while it opens, writes, flushes, compacts.
//!
//! 1. The parent starts its own executable once more, in a hidden mode, as the *child*: two threads write batches that a
//!    seed decides, synced and buffered ones, and say on the standard output what was acknowledged.
//! 2. The parent keeps what must be there, outside the child, and kills it after some milliseconds.
//! 3. It opens the database itself and compares: each writer's keyspaces hold all that was acknowledged, and of what was not
//!    at most the one batch that was on its way. At times it does not look, and lets the next child recover.
//!
//! The death of a process loses nothing that was acknowledged, whatever its durability.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::content::{Content, MERGED};
use super::generate::Generator;
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::Subject;
use crate::options::Background;

/// The environment variable that makes a process a child.
const ORDER: &str = "KV_LSM_BATTERY_CHILD";
/// The keyspaces of each writer.
const WRITERS: [&[usize]; 2] = [&[0, 1], &[MERGED]];
/// After so many batches a writer waits to be killed.
const BATCHES_MAX: u64 = 2000;
/// A child that nobody kills ends by itself.
const LIFE_MAX: Duration = Duration::from_secs(20);

static CHILD_ARGUMENTS: OnceLock<Vec<String>> = OnceLock::new();

/// With which arguments the executable has to be started to reach [`child`]; none, unless they are set.
pub fn set_child_arguments(arguments: &[&str]) {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let _ = CHILD_ARGUMENTS.set(arguments);
}

/// What a child has to do.
#[derive(Clone, Debug)]
pub struct Order {
    directory: PathBuf,
    seed: u64,
    life: u64,
}

/// What this process has to do, when it is a child.
#[must_use]
pub fn order_of_child() -> Option<Order> {
    let order = std::env::var(ORDER).ok()?;
    let mut parts = order.splitn(3, ' ');
    let seed = parts.next()?.parse().ok()?;
    let life = parts.next()?.parse().ok()?;
    Some(Order { directory: parts.next()?.into(), seed, life })
}

impl Order {
    fn settings(&self) -> Settings {
        Settings::random(&mut Random::new(self.seed))
    }

    fn open(&self, background: Background) -> Result<Subject, crate::Error> {
        let settings = self.settings();
        Subject::open_with(settings.builder(&self.directory).background(background), settings)
    }

    /// What a writer writes in this life.
    fn generator(&self, writer: usize) -> Generator {
        let random = Random::new(self.seed ^ self.life << 32 ^ (writer as u64) << 56);
        Generator::new(random, 60, 60).on(WRITERS[writer]).starting_at(self.life * 1_000_000)
    }

    fn synced_one_in(&self) -> u64 {
        [1, 4, 50][usize::try_from(self.life % 3).expect("below three")]
    }
}

/// The child: writes until it is killed.
///
/// # Panics
/// When the database cannot be opened or written.
pub fn child(order: &Order) -> ! {
    let subject = order.open(Background::Threads).unwrap_or_else(|error| {
        say(&format!("error {error}"));
        std::process::exit(1)
    });
    thread::scope(|scope| {
        for writer in 0..WRITERS.len() {
            let subject = &subject;
            scope.spawn(move || {
                let mut generator = order.generator(writer);
                for number in 1..=BATCHES_MAX {
                    let batch = generator.batch();
                    let durability = generator.durability(order.synced_one_in());
                    match subject.write(&batch, durability) {
                        Ok(()) => say(&format!("{writer} {number}")),
                        Err(error) => say(&format!("error {error}")),
                    }
                }
            });
        }
    });
    thread::sleep(LIFE_MAX);
    std::process::exit(0)
}

/// One line, in one write, so that a kill cannot leave half of it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        // The parent is gone.
        std::process::exit(1);
    }
}

/// Kills a child that is still alive when the parent gives up.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a child live for a while. Returns how many batches of each writer it acknowledged.
fn life(order: &Order, lasts: Duration) -> [u64; WRITERS.len()] {
    let executable = std::env::current_exe().expect("this process was started from a file");
    let mut command = Command::new(executable);
    command.args(CHILD_ARGUMENTS.get().into_iter().flatten());
    command.env(ORDER, format!("{} {} {}", order.seed, order.life, order.directory.display()));
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A child that is forked while another pipe is open holds on to it.
    static FORK: Mutex<()> = Mutex::new(());
    let mut child = {
        let _turn = FORK.lock().unwrap_or_else(PoisonError::into_inner);
        Reaped(command.spawn().expect("the executable starts again"))
    };
    let output = child.0.stdout.take().expect("it was piped");
    let reader = thread::spawn(move || {
        let mut acknowledged = [0; WRITERS.len()];
        let mut error = None;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(text) = line.strip_prefix("error ") {
                error = Some(text.to_owned());
                continue;
            }
            let Some((writer, number)) = line.split_once(' ') else { continue };
            if let (Ok(writer), Ok(number)) = (writer.parse::<usize>(), number.parse::<u64>())
                && let Some(count) = acknowledged.get_mut(writer)
            {
                *count = number;
            }
        }
        (acknowledged, error)
    });
    thread::sleep(lasts);
    drop(child);
    let (acknowledged, error) = reader.join().expect("reading lines does not panic");
    assert_eq!(error, None, "a child in {}", order.directory.display());
    acknowledged
}

/// What a writer's keyspaces may hold: one state, or, before anybody looked, several.
type Candidates = Vec<Content>;

/// A database whose process is killed several times.
///
/// # Panics
/// When something acknowledged is missing, or something is there that was not written. The directory is left for inspection.
pub fn case(seed: u64, report: &mut Report) {
    let mut random = Random::new(seed ^ 0x6b69_6c6c);
    let directory = std::env::temp_dir().join(format!("kv-lsm-battery-{}-{seed}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut candidates: [Candidates; WRITERS.len()] = [vec![Content::new()], vec![Content::new()]];
    let lives = 4 + random.below(5);
    for life_number in 0..lives {
        let order = Order { directory: directory.clone(), seed, life: life_number };
        // Some die while they recover.
        let lasts = if random.one_in(3) { random.below(15) } else { 10 + random.below(150) };
        let acknowledged = life(&order, Duration::from_millis(lasts));
        report.count("kills", 1);
        for (writer, states) in candidates.iter_mut().enumerate() {
            report.count("acknowledged_batches", acknowledged[writer]);
            *states = after(states, &order, writer, acknowledged[writer]);
        }
        if life_number + 1 == lives || candidates[0].len() > 4 || !random.one_in(3) {
            look(&order, &mut candidates);
            report.count("looks", 1);
        }
    }
    report.settings.insert(Order { directory: directory.clone(), seed, life: 0 }.settings());
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
}

/// The states that a life with so many acknowledged batches leads to.
fn after(states: &[Content], order: &Order, writer: usize, acknowledged: u64) -> Candidates {
    let mut generator = order.generator(writer);
    let mut states = states.to_vec();
    for _ in 0..acknowledged {
        let batch = generator.batch();
        generator.durability(order.synced_one_in());
        states.iter_mut().for_each(|state| batch.iter().for_each(|operation| state.apply(operation)));
    }
    if acknowledged < BATCHES_MAX {
        let batch = generator.batch();
        for at in 0..states.len() {
            let mut with_batch = states[at].clone();
            batch.iter().for_each(|operation| with_batch.apply(operation));
            states.push(with_batch);
        }
    }
    states
}

fn look(order: &Order, candidates: &mut [Candidates; WRITERS.len()]) {
    let at = Path::new(&order.directory).display();
    let subject = order.open(Background::Manual).unwrap_or_else(|error| panic!("{at}, life {}: {error}", order.life));
    subject.assert_sound(&format_args!("{at}, life {}", order.life));
    let found = subject.content().unwrap_or_else(|error| panic!("{at}, life {}: {error}", order.life));
    for (writer, states) in candidates.iter_mut().enumerate() {
        let same =
            |state: &&Content| WRITERS[writer].iter().all(|&index| state.keyspace(index) == found.keyspace(index));
        let Some(state) = states.iter().find(same) else {
            let difference = states[0].difference(&found);
            let own = difference.iter().filter(|line| {
                let of = |index: &usize| line.starts_with(super::content::KEYSPACES[*index]);
                WRITERS[writer].iter().any(of)
            });
            panic!("{at}, life {}, writer {writer}: {:#?}", order.life, own.collect::<Vec<_>>());
        };
        *states = vec![state.clone()];
    }
}
