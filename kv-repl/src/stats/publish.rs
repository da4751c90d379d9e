//! The same figures through the facade of the crate `metrics`, for programs that have a recorder.

use kv_core::export::{Distribution, Exporter, Family, Kind, Label, Value};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Stats;

impl Stats {
    /// Sets counters and gauges of the recorder that is installed, or of the local one, to what was counted, under the names that
    /// [`Stats::to_prometheus`] uses. Call it again whenever the recorder is to be told.
    ///
    /// The facade takes histograms value by value, and what is here has been counted already. So the histogram `x` is published as
    /// the gauges `x` with the label `quantile` and `x_sum`, and the counter `x_count`.
    pub fn publish(&self) {
        self.export(&mut Facade { family: None });
    }
}

struct Facade {
    family: Option<Family>,
}

type Labels = Vec<(&'static str, String)>;

fn owned(labels: &[Label<'_>]) -> Labels {
    labels.iter().map(|(label, text)| (*label, (*text).to_owned())).collect()
}

fn unit(name: &str) -> Unit {
    let base = name.trim_end_matches("_total").trim_end_matches("_max");
    match base.rsplit('_').next() {
        Some("seconds") => Unit::Seconds,
        Some("bytes") => Unit::Bytes,
        _ => Unit::Count,
    }
}

impl Exporter for Facade {
    fn family(&mut self, family: Family) {
        let Family { name, kind, help } = family;
        match kind {
            Kind::Counter => describe_counter!(name, unit(name), help),
            Kind::Gauge | Kind::Histogram => describe_gauge!(name, unit(name), help),
        }
        self.family = Some(family);
    }

    fn sample(&mut self, labels: &[Label<'_>], value: &Value) {
        let Family { name, kind, .. } = self.family.expect("a sample is of a family");
        match (kind, value) {
            (Kind::Counter, Value::Count(count)) => counter!(name, &owned(labels)).absolute(*count),
            (_, Value::Count(count)) => gauge!(name, &owned(labels)).set(*count as f64),
            (_, Value::Number(number)) => gauge!(name, &owned(labels)).set(*number),
            (_, Value::Distribution(Distribution { quantiles, sum, count, .. })) => {
                for (part, value) in quantiles {
                    let mut labels = owned(labels);
                    labels.push(("quantile", part.to_string()));
                    gauge!(name, &labels).set(*value);
                }
                gauge!(format!("{name}_sum"), &owned(labels)).set(*sum);
                counter!(format!("{name}_count"), &owned(labels)).absolute(*count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString};

    use super::*;
    use crate::stats::tests::small;

    /// Remembers everything under its name and labels.
    #[derive(Default)]
    struct Remembers {
        values: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
        described: Mutex<BTreeMap<String, (Option<Unit>, String)>>,
    }

    impl Remembers {
        fn value(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            Arc::clone(self.values.lock().unwrap().entry(name).or_default())
        }

        fn describe(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
            self.described.lock().unwrap().insert(name.as_str().to_owned(), (unit, text.to_string()));
        }

        fn count(&self, name: &str) -> Option<u64> {
            self.values.lock().unwrap().get(name).map(|value| value.load(Ordering::Relaxed))
        }

        fn number(&self, name: &str) -> Option<f64> {
            self.count(name).map(f64::from_bits)
        }
    }

    impl Recorder for Remembers {
        fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.describe(&name, unit, &text);
        }

        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.describe(&name, unit, &text);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            panic!("no histogram is told value by value: {name:?}");
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.value(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.value(key))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            panic!("no histogram is told value by value: {key:?}");
        }
    }

    #[test]
    fn a_recorder_is_told_what_was_counted_however_often() {
        let recorder = Remembers::default();
        let mut stats = small();
        metrics::with_local_recorder(&recorder, || stats.publish());
        assert_eq!(recorder.count("kv_requests_total node=1 kind=put outcome=ok"), Some(2));
        assert_eq!(recorder.number("kv_peers node=1 liveness=suspect"), Some(1.0));
        assert_eq!(recorder.count("kv_request_seconds_count node=1 kind=put done=yes"), Some(2));
        assert_eq!(recorder.number("kv_request_seconds node=1 kind=put done=yes quantile=0.999"), Some(0.04));
        assert_eq!(recorder.number("kv_request_seconds_sum node=1 kind=put done=yes"), Some(0.042));
        let described = recorder.described.lock().unwrap().clone();
        assert_eq!(described["kv_request_seconds"].0, Some(Unit::Seconds));
        assert_eq!(described["kv_commit_bytes_total"].0, Some(Unit::Bytes));
        assert!(described["kv_standing"].1.starts_with("Whether the node serves"));

        stats.status.hints.delivered += 9;
        metrics::with_local_recorder(&recorder, || stats.publish());
        assert_eq!(recorder.count("kv_hints_delivered_total node=1"), Some(9));
        assert_eq!(recorder.count("kv_requests_total node=1 kind=put outcome=ok"), Some(2), "it is set, not added");
    }
}
