//! The power is cut at every call of a trace, and again inside the recovery from it.
//!
//! 1. The trace runs once, on a disk that keeps a copy of itself before each call: a power cut at any call leaves one of
//!    these copies, less a part of what was not synced.
//! 2. For each copy, nothing, all, and chosen parts of what was not synced survive.
//! 3. Each disk that comes of it and was not seen before is opened. What is found must be a state that the history allows:
//!    whole batches without a gap, with everything that was acknowledged as durable; and opening again must change nothing.
//! 4. Between two steps, what survives when nothing does that was not synced is exactly what the engine called durable.
//! 5. Now and then that recovery is itself recorded, and cut at each of its calls.

use std::fmt;

use super::drive::{OnError, run_watched};
use super::generate::random_trace;
use super::history::History;
use super::inspect::{Inspector, survivals};
use super::random::Random;
use super::report::Report;
use super::subject::Subject;
use super::trace::Trace;
use crate::disk::{SimDisk, Survival};

/// How thoroughly a trace is cut.
#[derive(Copy, Clone, Debug)]
pub struct Cuts {
    /// How often, at each call, parts of what was not synced are chosen to survive; five ways each time.
    pub samples: u64,
    /// One in so many of the recoveries is cut at each of its own calls; never, when `None`.
    pub inside_recovery_one_in: Option<u64>,
    /// Tells runs of one trace apart.
    pub salt: u64,
}

/// Cuts the power at every call of a trace.
///
/// # Panics
/// When a power cut leaves what must not be.
pub fn cut_everywhere(trace: &Trace, cuts: Cuts, inspector: &mut Inspector) {
    let disk = SimDisk::new(1);
    disk.record_moments();
    let mut call = 0;
    let mut outcomes = 0;
    inspector.begin(trace.settings);
    run_watched(&disk, trace, OnError::Stop, &mut |history, moments| {
        for (number, moment) in moments.into_iter().enumerate() {
            if number == 0 {
                let context = Cut { trace, call, survival: Survival::None };
                inspector.check_settled(&moment.reboot(Survival::None), history, &context);
            }
            for survival in survivals(&moment, cuts.salt ^ call, cuts.samples) {
                let context = Cut { trace, call, survival };
                if !inspector.check(&moment.reboot(survival), history, &context) {
                    continue;
                }
                outcomes += 1;
                if cuts.inside_recovery_one_in.is_some_and(|every| outcomes % every == 0) {
                    cut_inside_recovery(inspector, &moment, survival, history, &context);
                }
            }
            call += 1;
        }
    });
}

/// Cuts the power at every call of the recovery from one power cut.
fn cut_inside_recovery(
    inspector: &mut Inspector,
    disk: &SimDisk,
    survival: Survival,
    history: &History,
    context: &dyn fmt::Display,
) {
    let second = disk.reboot(survival);
    second.record_moments();
    drop(Subject::open(&second, inspector.settings()));
    for (call, moment) in (0..).zip(second.take_moments()) {
        for survival in survivals(&moment, call, 1) {
            let context = format_args!("{context}, and before call {call} of recovery, {survival:?}");
            inspector.check(&moment.reboot(survival), history, &context);
        }
    }
}

/// Where the power was cut, for a message.
struct Cut<'a> {
    trace: &'a Trace,
    call: u64,
    survival: Survival,
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, call, survival } = self;
        write!(f, "{}: power cut before call {call}, {survival:?}", trace.name)
    }
}

/// One random trace, cut everywhere.
///
/// # Panics
/// When a power cut leaves what must not be.
pub fn case(seed: u64, report: &mut Report) {
    let mut random = Random::new(seed ^ 0x6375_7473);
    let trace = random_trace(seed, 12 + random.below(40));
    let cuts = Cuts { samples: 1, inside_recovery_one_in: Some(60), salt: seed };
    let mut inspector = Inspector::new(trace.settings);
    cut_everywhere(&trace, cuts, &mut inspector);
    report.count("traces", 1);
    report.count("opened", inspector.states);
    report.images.extend(inspector.images);
    report.settings.insert(trace.settings);
}
