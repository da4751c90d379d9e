//! The names under which [`Metrics`] are exported, and what each of them means. `docs/operations.md` lists them.

use kv_core::export::{Distribution, Exporter, Family, Kind, Label, Prometheus, Value};

use super::{LevelMetrics, Metrics};
use crate::counters::Histogram;

impl Metrics {
    /// Shows all of it to an exporter. Every sample has `labels`, which tell one database of a program from another.
    pub fn export(&self, labels: &[Label<'_>], exporter: &mut dyn Exporter) {
        let mut families = Families { exporter, labels };
        families.sizes(self);
        families.reads(self);
        families.writes(self);
        families.background(self);
        families.keyspaces(self);
    }

    /// The text that a Prometheus server reads, to be served as `text/plain; version=0.0.4`.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = Prometheus::default();
        self.export(&[], &mut text);
        text.finish()
    }
}

struct Families<'a> {
    exporter: &'a mut dyn Exporter,
    labels: &'a [Label<'a>],
}

impl Families<'_> {
    fn sample(&mut self, labels: &[Label<'_>], value: &Value) {
        let all: Vec<Label<'_>> = self.labels.iter().chain(labels).copied().collect();
        self.exporter.sample(&all, value);
    }

    fn counters(&mut self, name: &'static str, help: &'static str, counts: &[(&[Label<'_>], u64)]) {
        self.exporter.family(Family { name, kind: Kind::Counter, help });
        counts.iter().for_each(|(labels, count)| self.sample(labels, &Value::Count(*count)));
    }

    fn counter(&mut self, name: &'static str, help: &'static str, count: u64) {
        self.counters(name, help, &[(&[], count)]);
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, count: u64) {
        self.exporter.family(Family { name, kind: Kind::Gauge, help });
        self.sample(&[], &Value::Count(count));
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, distribution: Distribution) {
        self.exporter.family(Family { name, kind: Kind::Histogram, help });
        self.sample(&[], &Value::Distribution(distribution));
    }

    fn sizes(&mut self, metrics: &Metrics) {
        self.gauge(
            "kv_lsm_poisoned",
            "Whether a sync has failed: nothing is written any more.",
            metrics.poisoned.into(),
        );
        self.gauge("kv_lsm_visible_sequence", "Number of the last operation that reads see.", metrics.visible_sequence);
        self.gauge(
            "kv_lsm_durable_sequence",
            "Number of the last operation that is durable.",
            metrics.durable_sequence,
        );
        self.gauge("kv_lsm_snapshots", "Live snapshots.", metrics.snapshots as u64);
        self.exporter.family(Family {
            name: "kv_lsm_oldest_snapshot_age_seconds",
            kind: Kind::Gauge,
            help: "How long ago the oldest snapshot was taken.",
        });
        self.sample(&[], &Value::Number(metrics.oldest_snapshot_age_ms as f64 / 1e3));
        self.exporter.family(Family {
            name: "kv_lsm_memory_bytes",
            kind: Kind::Gauge,
            help: "Memory, by what it is for.",
        });
        for (of, bytes) in [
            ("memtable", metrics.memtable_bytes),
            ("sealed_memtables", metrics.sealed_memtable_bytes),
            ("blocks", metrics.cache_bytes),
            ("tables", metrics.table_bytes),
        ] {
            self.sample(&[("of", of)], &Value::Count(bytes));
        }
        self.gauge("kv_lsm_sealed_memtables", "Memtables that wait for their flush.", metrics.sealed_memtables as u64);
        self.gauge("kv_lsm_open_tables", "Tables whose files are open.", metrics.open_tables as u64);
        self.gauge("kv_lsm_open_blob_files", "Files of values that are open.", metrics.open_blob_files as u64);
        self.gauge("kv_lsm_log_segments", "Segments of the log.", metrics.log_segments as u64);
        self.gauge("kv_lsm_log_bytes", "Bytes of the log that are not in tables yet.", metrics.log_bytes);
    }

    fn reads(&mut self, metrics: &Metrics) {
        self.counters(
            "kv_lsm_reads_total",
            "Point reads, by what answered them.",
            &[
                (&[("at", "memtable")], metrics.memtable_reads),
                (&[("at", "level0")], metrics.level0_reads),
                (&[("at", "deeper")], metrics.deeper_reads),
                (&[("at", "nowhere")], metrics.exhausted_reads),
            ],
        );
        self.counter("kv_lsm_filter_checks_total", "Filters that point reads asked.", metrics.filter_checks);
        self.counter("kv_lsm_filter_negatives_total", "Filters that said no.", metrics.filter_negatives);
        self.counter("kv_lsm_cache_hits_total", "Blocks that point reads found in memory.", metrics.cache_hits);
        self.counter("kv_lsm_cache_misses_total", "Blocks that they had to read.", metrics.cache_misses);
    }

    fn writes(&mut self, metrics: &Metrics) {
        self.counter("kv_lsm_batches_total", "Batches committed.", metrics.batches);
        self.counter("kv_lsm_batch_bytes_total", "Bytes of batches.", metrics.batch_bytes);
        self.counter(
            "kv_lsm_recycled_segments_total",
            "Segments of the log that took an older one's file.",
            metrics.recycled_segments,
        );
        self.histogram("kv_lsm_sync_seconds", "How long syncs of the log took.", seconds(&metrics.sync_us));
        self.histogram("kv_lsm_sync_batches", "How many batches each sync made durable.", sizes(&metrics.sync_batches));
        self.counter("kv_lsm_stalls_total", "Writes that had to wait for a flush or compaction.", metrics.stalls);
        self.exporter.family(Family {
            name: "kv_lsm_stall_seconds_total",
            kind: Kind::Counter,
            help: "How long they waited.",
        });
        self.sample(&[], &Value::Number(metrics.stall_us as f64 / MICROSECONDS));
        self.counter("kv_lsm_transactions_total", "Transactions that committed.", metrics.transactions);
        self.counter("kv_lsm_conflicts_total", "Transactions that were refused.", metrics.conflicts);
    }

    fn background(&mut self, metrics: &Metrics) {
        self.histogram("kv_lsm_flush_seconds", "How long flushes of memtables took.", seconds(&metrics.flush_us));
        self.histogram("kv_lsm_compaction_seconds", "How long compactions took.", seconds(&metrics.compaction_us));
        self.counters(
            "kv_lsm_compacted_tables_total",
            "Tables that compactions did not have to rewrite.",
            &[(&[("how", "moved")], metrics.moved_tables), (&[("how", "dropped")], metrics.dropped_tables)],
        );
        self.counter(
            "kv_lsm_compaction_read_bytes_total",
            "Bytes of tables that compactions took in.",
            metrics.compaction_read_bytes,
        );
        self.counters(
            "kv_lsm_written_bytes_total",
            "Bytes of files written in the background, by what wrote them.",
            &[
                (&[("by", "flush")], metrics.flush_bytes),
                (&[("by", "compaction")], metrics.compaction_written_bytes),
                (&[("by", "blobs")], metrics.blob_written_bytes),
            ],
        );
        self.gauge(
            "kv_lsm_pending_compaction_bytes",
            "About how many bytes compactions have to rewrite.",
            metrics.pending_compaction_bytes,
        );
    }

    fn keyspaces(&mut self, metrics: &Metrics) {
        type Of = fn(&LevelMetrics) -> u64;
        let families: [(&str, &str, Of); 4] = [
            ("kv_lsm_level_tables", "Tables of a level.", |level| level.tables as u64),
            ("kv_lsm_level_bytes", "Their bytes.", |level| level.bytes),
            ("kv_lsm_level_entries", "Versions of keys in them.", |level| level.entries),
            ("kv_lsm_level_deletes", "Of these, deletes.", |level| level.deletes),
        ];
        for (name, help, of) in families {
            self.exporter.family(Family { name, kind: Kind::Gauge, help });
            for keyspace in &metrics.keyspaces {
                for (number, level) in keyspace.levels.iter().enumerate() {
                    let labels = [("keyspace", keyspace.name.as_str()), ("level", &*number.to_string())];
                    self.sample(&labels, &Value::Count(of(level)));
                }
            }
        }
        self.exporter.family(Family {
            name: "kv_lsm_blob_bytes",
            kind: Kind::Gauge,
            help: "Bytes of values that are kept apart from tables, by whether anything points to them.",
        });
        for keyspace in &metrics.keyspaces {
            let live = keyspace.blob_bytes.saturating_sub(keyspace.blob_garbage_bytes);
            for (of, bytes) in [("live", live), ("garbage", keyspace.blob_garbage_bytes)] {
                self.sample(&[("keyspace", &keyspace.name), ("of", of)], &Value::Count(bytes));
            }
        }
    }
}

const MICROSECONDS: f64 = 1e6;

/// Times were cut to whole microseconds, so they were below the power of two that ends their bucket.
fn seconds(times: &Histogram) -> Distribution {
    distribution(times, |end| end as f64 / MICROSECONDS, MICROSECONDS)
}

fn sizes(sizes: &Histogram) -> Distribution {
    distribution(sizes, |end| (end - 1) as f64, 1.0)
}

fn distribution(histogram: &Histogram, bound: impl Fn(u64) -> f64, unit: f64) -> Distribution {
    let mut count = 0;
    let mut buckets = Vec::new();
    for (at, more) in histogram.counts[..Histogram::BUCKETS - 1].iter().enumerate() {
        count += more;
        buckets.push((bound(1 << at), count));
    }
    let quantiles =
        [50_u8, 90, 99].map(|percent| (f64::from(percent) / 100.0, histogram.percentile(percent.into()) as f64 / unit));
    Distribution { buckets, quantiles: quantiles.to_vec(), sum: histogram.sum as f64 / unit, count: histogram.count() }
}

#[cfg(test)]
mod tests {
    use kv_core::export::checker::check;

    use super::*;
    use crate::metrics::KeyspaceMetrics;

    #[test]
    fn what_is_exported_is_what_was_counted() {
        let mut sync_us = Histogram::default();
        (sync_us.counts[0], sync_us.counts[10], sync_us.counts[Histogram::BUCKETS - 1], sync_us.sum) =
            (1, 2, 1, 100_002_000);
        let level = LevelMetrics { tables: 3, bytes: 4096, entries: 70, deletes: 7, expiring: 0 };
        let keyspaces = vec![KeyspaceMetrics {
            name: "of \"carts\"".to_owned(),
            blob_bytes: 100,
            blob_garbage_bytes: 30,
            levels: vec![LevelMetrics::default(), level],
            ..KeyspaceMetrics::default()
        }];
        let metrics = Metrics { keyspaces, sync_us, stall_us: 1_500_000, poisoned: true, ..Metrics::default() };
        let samples = check(&metrics.to_prometheus()).expect("it is what the format says");
        let value = |name: &str, wanted: &[(&str, &str)]| {
            let has = |labels: &[(String, String)]| {
                wanted.iter().all(|(name, text)| labels.iter().any(|label| label.0 == *name && label.1 == *text))
            };
            samples.iter().find(|sample| sample.name == name && has(&sample.labels)).map(|sample| sample.value)
        };
        assert_eq!(value("kv_lsm_poisoned", &[]), Some(1.0));
        assert_eq!(value("kv_lsm_stall_seconds_total", &[]), Some(1.5));
        assert_eq!(value("kv_lsm_level_bytes", &[("keyspace", "of \"carts\""), ("level", "1")]), Some(4096.0));
        assert_eq!(value("kv_lsm_blob_bytes", &[("of", "live")]), Some(70.0));
        assert_eq!(value("kv_lsm_sync_seconds_bucket", &[("le", "0.000512")]), Some(1.0));
        assert_eq!(value("kv_lsm_sync_seconds_bucket", &[("le", "0.001024")]), Some(3.0));
        assert_eq!(value("kv_lsm_sync_seconds_count", &[]), Some(4.0));
        assert_eq!(value("kv_lsm_sync_seconds_sum", &[]), Some(100.002));
    }

    #[test]
    fn each_family_stands_in_the_documentation() {
        let documented = include_str!("../../../docs/operations.md");
        let text = Metrics {
            keyspaces: vec![KeyspaceMetrics { levels: vec![LevelMetrics::default()], ..Default::default() }],
            ..Metrics::default()
        }
        .to_prometheus();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(documented.contains(&format!("`{name}`")), "docs/operations.md does not say what {name} means");
        }
    }
}
