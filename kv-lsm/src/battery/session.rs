//! Runs cases, one for each seed, on threads, for as long as is wanted.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::report::Report;

/// Runs what a seed stands for, and adds to the report. Panics when the engine breaks a promise.
pub type Case = fn(u64, &mut Report);

/// How much is run.
#[derive(Copy, Clone, Debug)]
pub struct Session {
    /// The first seed; the cases that follow have the seeds that follow.
    pub seed: u64,
    /// For how long new cases begin.
    pub duration: Duration,
    /// At most so many cases.
    pub cases_max: u64,
    /// On so many threads.
    pub threads: usize,
    /// A case that takes longer hangs.
    pub hang: Duration,
}

/// Violations after which a session ends: one broken rule breaks most cases.
const VIOLATIONS_MAX: usize = 10;

struct Worker {
    report: Mutex<Report>,
    /// The case that runs, and since when.
    busy: Mutex<Option<(u64, Instant)>>,
    over: AtomicBool,
}

thread_local! {
    /// Where the last panic of this thread came from.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics from being printed: a session reports them. For programs whose only business is a session.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        PLACE.set(place);
    }));
}

/// Runs one case. A panic is a violation.
pub fn run_case(case: Case, seed: u64, report: &mut Report) {
    report.count("cases", 1);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed, report))) {
        let place = PLACE.take().map(|place| format!(" ({place})")).unwrap_or_default();
        report.violations.push(format!("seed {seed}: {}{place}", message(panic.as_ref())));
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

impl Session {
    /// Runs cases until the time is up. `each` is called with every violation as it is found.
    #[must_use]
    pub fn run(&self, case: Case, each: &mut dyn FnMut(&str)) -> Report {
        let until = Instant::now() + self.duration;
        let next = Arc::new(AtomicU64::new(0));
        let workers: Vec<Arc<Worker>> = (0..self.threads.max(1)).map(|_| Arc::default()).collect();
        for worker in &workers {
            let (worker, next, session) = (Arc::clone(worker), Arc::clone(&next), *self);
            // Not joined: a thread that hangs must not hang the session.
            thread::spawn(move || worker.work(case, &session, until, &next));
        }
        let mut told = vec![0; workers.len()];
        loop {
            let hung = workers.iter().find_map(|worker| worker.hangs(self.hang));
            let mut over = hung.is_some();
            let mut violations = 0;
            for (worker, told) in workers.iter().zip(&mut told) {
                let report = worker.report.lock().unwrap_or_else(PoisonError::into_inner);
                report.violations[*told..].iter().for_each(|violation| each(violation));
                *told = report.violations.len();
                violations += *told;
            }
            over |= workers.iter().all(|worker| worker.over.load(Ordering::Acquire));
            if violations >= VIOLATIONS_MAX {
                next.store(self.cases_max, Ordering::Relaxed);
            }
            if over {
                let mut total = Report::default();
                for worker in &workers {
                    total.add(std::mem::take(&mut worker.report.lock().unwrap_or_else(PoisonError::into_inner)));
                }
                if let Some(seed) = hung {
                    let violation = format!("seed {seed}: still running after {} s", self.hang.as_secs());
                    each(&violation);
                    total.violations.push(violation);
                }
                return total;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self { report: Mutex::default(), busy: Mutex::new(None), over: AtomicBool::new(false) }
    }
}

impl Worker {
    fn work(&self, case: Case, session: &Session, until: Instant, next: &AtomicU64) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= session.cases_max || Instant::now() >= until {
                break;
            }
            let seed = session.seed.wrapping_add(number);
            self.set_busy(Some((seed, Instant::now())));
            let mut report = Report::default();
            run_case(case, seed, &mut report);
            self.set_busy(None);
            self.report.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        }
        self.over.store(true, Ordering::Release);
    }

    fn set_busy(&self, busy: Option<(u64, Instant)>) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
    }

    fn hangs(&self, after: Duration) -> Option<u64> {
        let busy = *self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.filter(|(_, since)| since.elapsed() > after).map(|(seed, _)| seed)
    }
}
