//! Counters, gauges and histograms on their way to whatever watches a program, and their text form for Prometheus.
//!
//! A component shows what it has counted to an [`Exporter`], family by family; it does not know who reads it. [`Prometheus`] is
//! the exporter that writes version 0.0.4 of the text format.
//!
//! Source of the format: Prometheus, "Exposition formats", text-based format.

#[cfg(any(test, feature = "conformance"))]
pub mod checker;

use std::fmt::Write as _;

/// What a family of samples is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which magnitude was met.
    Histogram,
}

/// Samples that are of one name and differ in their labels.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Family {
    /// Its name: of letters, digits and `_`, the unit at its end (`_seconds`, `_bytes`), and for counters `_total` after that.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence that says what is counted.
    pub help: &'static str,
}

/// A name of letters, digits and `_`, and any text.
pub type Label<'a> = (&'static str, &'a str);

/// The value of one sample.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of a counter or a gauge that counts.
    Count(u64),
    /// Of one that measures.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// A histogram at one moment.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Distribution {
    /// How many values there are that do not exceed a bound; bounds grow, and so do the counts.
    pub buckets: Vec<(f64, u64)>,
    /// Parts of one, and the value that so large a part of all does not exceed.
    pub quantiles: Vec<(f64, f64)>,
    /// All values added up.
    pub sum: f64,
    /// How many there are.
    pub count: u64,
}

/// Takes what a component has counted.
pub trait Exporter {
    /// The samples from here on are of this family. Each family comes once.
    fn family(&mut self, family: Family);

    /// A sample of the present family.
    fn sample(&mut self, labels: &[Label<'_>], value: &Value);
}

/// Writes the text that a Prometheus server reads.
///
/// ```
/// use kv_core::export::{Exporter, Family, Kind, Prometheus, Value};
///
/// let mut text = Prometheus::default();
/// text.family(Family { name: "kv_reads_total", kind: Kind::Counter, help: "Reads." });
/// text.sample(&[("table", "carts")], &Value::Count(7));
/// assert_eq!(
///     text.finish(),
///     "# HELP kv_reads_total Reads.\n# TYPE kv_reads_total counter\nkv_reads_total{table=\"carts\"} 7\n"
/// );
/// ```
#[derive(Debug, Default)]
pub struct Prometheus {
    text: String,
    family: Option<Family>,
    /// Whether the present family has its head: one without samples gets none.
    has_head: bool,
}

impl Prometheus {
    /// What has been written. Serve it as `text/plain; version=0.0.4`.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, family: Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(family.name);
        self.text.push(' ');
        escape(family.help, false, &mut self.text);
        let _ = write!(self.text, "\n# TYPE {} {kind}\n", family.name);
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[Label<'_>], bound: Option<f64>, value: &Number) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| Number::Real(bound).to_string());
        let all = labels.iter().copied().chain(bound.iter().map(|bound| ("le", bound.as_str())));
        for (place, (label, text)) in all.enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(text, true, &mut self.text);
            self.text.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

impl Exporter for Prometheus {
    fn family(&mut self, family: Family) {
        (self.family, self.has_head) = (Some(family), false);
    }

    /// # Panics
    /// When no family was named.
    fn sample(&mut self, labels: &[Label<'_>], value: &Value) {
        let family = self.family.expect("a sample is of a family");
        if !std::mem::replace(&mut self.has_head, true) {
            self.head(family);
        }
        match value {
            Value::Count(count) => self.line(family.name, "", labels, None, &Number::Whole(*count)),
            Value::Number(number) => self.line(family.name, "", labels, None, &Number::Real(*number)),
            Value::Distribution(Distribution { buckets, sum, count, .. }) => {
                for (bound, count) in buckets {
                    self.line(family.name, "_bucket", labels, Some(*bound), &Number::Whole(*count));
                }
                self.line(family.name, "_bucket", labels, Some(f64::INFINITY), &Number::Whole(*count));
                self.line(family.name, "_sum", labels, None, &Number::Real(*sum));
                self.line(family.name, "_count", labels, None, &Number::Whole(*count));
            }
        }
    }
}

enum Number {
    Whole(u64),
    Real(f64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            Self::Real(real) if real.is_nan() => f.write_str("NaN"),
            Self::Real(real) if real.is_infinite() => f.write_str(if *real > 0.0 { "+Inf" } else { "-Inf" }),
            Self::Real(real) => real.fmt(f),
        }
    }
}

/// In help and in labels alike, but for the quotes around labels.
fn escape(text: &str, quotes: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> String {
        let mut text = Prometheus::default();
        text.family(Family { name: "kv_up", kind: Kind::Gauge, help: "Whether it is up:\n\"yes\" or \\ no." });
        text.sample(&[], &Value::Count(1));
        text.family(Family { name: "kv_nothing_total", kind: Kind::Counter, help: "Has no sample." });
        text.family(Family { name: "kv_wait_seconds", kind: Kind::Histogram, help: "Waits." });
        let waits =
            Distribution { buckets: vec![(0.001, 1), (2.5, 3)], quantiles: vec![(0.5, 0.002)], sum: 4.5, count: 4 };
        text.sample(&[("of", "a \"b\"\\\nc")], &Value::Distribution(waits));
        text.family(Family { name: "kv_odd", kind: Kind::Gauge, help: "Odd ones." });
        for (name, odd) in [("none", f64::NAN), ("most", f64::INFINITY), ("least", f64::NEG_INFINITY)] {
            text.sample(&[("of", name), ("x", "")], &Value::Number(odd));
        }
        text.finish()
    }

    #[test]
    fn the_text_is_that_of_the_format() {
        let expected = r#"# HELP kv_up Whether it is up:\n"yes" or \\ no.
# TYPE kv_up gauge
kv_up 1
# HELP kv_wait_seconds Waits.
# TYPE kv_wait_seconds histogram
kv_wait_seconds_bucket{of="a \"b\"\\\nc",le="0.001"} 1
kv_wait_seconds_bucket{of="a \"b\"\\\nc",le="2.5"} 3
kv_wait_seconds_bucket{of="a \"b\"\\\nc",le="+Inf"} 4
kv_wait_seconds_sum{of="a \"b\"\\\nc"} 4.5
kv_wait_seconds_count{of="a \"b\"\\\nc"} 4
# HELP kv_odd Odd ones.
# TYPE kv_odd gauge
kv_odd{of="none",x=""} NaN
kv_odd{of="most",x=""} +Inf
kv_odd{of="least",x=""} -Inf
"#;
        assert_eq!(small(), expected);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let samples = checker::check(&small()).expect("it is what the format says");
        assert_eq!(samples.len(), 9);
        assert_eq!(samples[1].labels[0], ("of".to_owned(), "a \"b\"\\\nc".to_owned()));
    }
}
