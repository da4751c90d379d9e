//! What the messages of one peer tell of it: how long it takes to answer, and how overdue it is.
//!
//! Source: Hayashibara and others, "The φ accrual failure detector" (SRDS 2004), for the figure that grows with silence. Intervals
//! are taken for exponential, as Cassandra does: whom a node talks to next is left to chance, so gaps have no memory.

use std::time::Duration;

use kv_core::time::Millis;

use crate::round_trip::RoundTrip;

/// New samples count for an eighth.
const GAIN: f64 = 0.125;

/// The rhythm of one peer.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Rhythm {
    trip: RoundTrip,
    /// Mean time between two messages.
    interval_ms: Option<f32>,
    heard_at: Option<Millis>,
}

#[expect(clippy::cast_possible_truncation, reason = "six digits are more than these figures are good for")]
impl Rhythm {
    /// A message came.
    pub(super) fn heard(&mut self, now: Millis) {
        if let Some(before) = self.heard_at {
            let interval = now.saturating_sub(before).0 as f64;
            let mean = self.interval_ms.map_or(interval, |mean| f64::from(mean) + (interval - f64::from(mean)) * GAIN);
            self.interval_ms = Some(mean as f32);
        }
        self.heard_at = Some(now);
    }

    /// It took so long to answer.
    pub(super) fn answered_after(&mut self, span: Millis) {
        self.trip.sample(span);
    }

    /// The usual time to answer and its deviation, once there was an answer.
    pub(super) fn latency(&self) -> Option<(Duration, Duration)> {
        self.trip.usual()
    }

    /// The φ of Hayashibara: at φ, one silence in 10^φ would be as long as the present one if all were well. Zero before
    /// there is anything to compare with.
    pub(super) fn phi(&self, now: Millis) -> f64 {
        let (Some(mean), Some(heard_at)) = (self.interval_ms, self.heard_at) else { return 0.0 };
        let silence = now.saturating_sub(heard_at).0 as f64;
        silence / (f64::from(mean).max(1.0) * std::f64::consts::LN_10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_grows_with_silence_and_falls_with_a_message() {
        let mut rhythm = Rhythm::default();
        assert!(rhythm.phi(Millis(5_000)).abs() < 1e-9, "nothing is known yet");
        for beat in 0..20 {
            rhythm.heard(Millis(beat * 1_000));
        }
        let at = |rhythm: &Rhythm, ms: u64| rhythm.phi(Millis(19_000 + ms));
        // An exponential gap of mean 1 s is longer than 2.3 s one time in ten.
        assert!((at(&rhythm, 2_303) - 1.0).abs() < 0.01);
        assert!((at(&rhythm, 23_026) - 10.0).abs() < 0.01);
        rhythm.heard(Millis(42_000));
        assert!(at(&rhythm, 23_001) < 0.01);
        assert!(at(&rhythm, 25_303) < 1.0, "a peer that is slow at times is given more");
    }
}
