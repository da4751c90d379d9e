//! How long somebody usually takes to answer.
//!
//! Source: Jacobson, "Congestion avoidance and control" (SIGCOMM 1988): the smoothed round trip and its deviation.

use std::time::Duration;

use kv_core::time::Millis;

/// New samples count for an eighth, for deviations a quarter.
const GAIN: f64 = 0.125;
const DEVIATION_GAIN: f64 = 0.25;
/// An answer that takes longer than the usual time and so many deviations is overdue.
const DEVIATIONS: f32 = 4.0;

/// The round trips of one peer.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct RoundTrip {
    mean_ms: Option<f32>,
    deviation_ms: f32,
}

impl RoundTrip {
    /// An answer took so long.
    #[expect(clippy::cast_possible_truncation, reason = "six digits are more than these figures are good for")]
    pub(crate) fn sample(&mut self, span: Millis) {
        let span = span.0 as f64;
        match self.mean_ms {
            None => (self.mean_ms, self.deviation_ms) = (Some(span as f32), (span / 2.0) as f32),
            Some(mean) => {
                let error = span - f64::from(mean);
                let deviation = f64::from(self.deviation_ms);
                self.deviation_ms = (deviation + (error.abs() - deviation) * DEVIATION_GAIN) as f32;
                self.mean_ms = Some((f64::from(mean) + error * GAIN) as f32);
            }
        }
    }

    /// The usual time to answer and its deviation, once there was an answer.
    pub(crate) fn usual(&self) -> Option<(Duration, Duration)> {
        let span = |ms: f32| Duration::from_secs_f32(ms.max(0.0) / 1000.0);
        self.mean_ms.map(|mean| (span(mean), span(self.deviation_ms)))
    }

    /// Within which time an answer is to be expected, once there was one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is not negative, and rounded up")]
    pub(crate) fn expected(&self) -> Option<Millis> {
        self.mean_ms.map(|mean| Millis((mean + DEVIATIONS * self.deviation_ms).max(0.0).ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_measured() {
        let mut trip = RoundTrip::default();
        assert_eq!((trip.usual(), trip.expected()), (None, None));
        for _ in 0..100 {
            trip.sample(Millis(20));
        }
        let (mean, deviation) = trip.usual().unwrap();
        assert!(
            (19..=20).contains(&mean.as_millis()) && deviation < Duration::from_millis(1),
            "{mean:?} {deviation:?}"
        );
        assert!((20..=24).contains(&trip.expected().unwrap().0));
        for sample in 0..100 {
            trip.sample(Millis(if sample % 2 == 0 { 50 } else { 150 }));
        }
        let (mean, deviation) = trip.usual().unwrap();
        assert!(
            (80..=120).contains(&mean.as_millis()) && deviation > Duration::from_millis(30),
            "{mean:?} {deviation:?}"
        );
        assert!(trip.expected().unwrap() > Millis(200));
    }
}
