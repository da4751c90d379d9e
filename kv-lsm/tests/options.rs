//! The options of keyspaces: stored, checked when a keyspace is opened again, refused when they make no sense.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_lsm::disk::{Disk, MemDisk};
use kv_lsm::{Background, CompactionStrategy, Compression, Database, Error, KeyspaceOptions};

fn open(disk: &MemDisk) -> Database {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Database::builder(Path::new("/db")).disk(disk).background(Background::Manual).open().unwrap()
}

struct Last;

impl MergeOperator for Last {
    fn fold(
        &self,
        _key: &[u8],
        _base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        out.extend_from_slice(oldest_first.last().copied().unwrap_or_default());
        Ok(Folded::Value)
    }
}

fn default() -> KeyspaceOptions {
    KeyspaceOptions::default()
}

const FIFO: CompactionStrategy = CompactionStrategy::Fifo { bytes_max: None };

#[test]
fn an_option_that_must_not_change_is_named_when_it_does() {
    let disk = MemDisk::new();
    let created = [
        ("plain", default()),
        ("merged", default().merge(Arc::new(Last))),
        ("queue", default().compaction(FIFO)),
        ("prefixed", default().separate_values_from(100).inline_prefix_bytes(16)),
    ];
    let db = open(&disk);
    for (name, options) in &created {
        db.keyspace(name, options.clone()).unwrap();
    }
    drop(db);
    for _ in 0..2 {
        let db = open(&disk);
        for (name, options, expected) in [
            ("plain", default().merge(Arc::new(Last)), "merge operator"),
            ("plain", default().compaction(FIFO), "compaction"),
            ("plain", default().inline_prefix_bytes(1), "inline prefix"),
            ("merged", default(), "merge operator"),
            ("queue", default(), "compaction"),
            ("prefixed", default(), "inline prefix"),
        ] {
            match db.keyspace(name, options) {
                Err(Error::OptionsMismatch { name: refused, option, created, wanted }) => {
                    assert_eq!((refused.as_str(), option), (name, expected));
                    assert_ne!(created, wanted);
                }
                other => panic!("{name}, {expected}: {other:?}"),
            }
        }
        for (name, options) in &created {
            db.keyspace(name, options.clone()).unwrap();
        }
    }
}

#[test]
fn what_may_change_does() {
    let disk = MemDisk::new();
    let queue = |bytes_max: u64| default().compaction(CompactionStrategy::Fifo { bytes_max: Some(bytes_max) });
    for round in 1..4 {
        let db = open(&disk);
        let bytes = 256 << round;
        let bits = u8::try_from(round * 5).unwrap();
        let levels = vec![Compression::Lz4; round];
        let options = default().block_bytes(bytes).filter_bits_per_key(bits).compression(levels);
        let plain = db.keyspace("plain", options.default_ttl(Duration::from_secs(60))).unwrap();
        db.keyspace("queue", queue(1 << 20 << round)).unwrap();
        for number in 0..200_u32 {
            plain.put(number.to_be_bytes(), vec![7; 100]).unwrap();
        }
        db.flush().unwrap();
        plain.compact_range(..).unwrap();
        for number in 0..200_u32 {
            assert!(plain.get(number.to_be_bytes()).unwrap().is_some());
        }
        assert!(plain.get([9; 4]).unwrap().is_none());
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let merge = || default().merge(Arc::new(Last));
    for options in [
        default().default_ttl(Duration::ZERO),
        default().default_ttl(Duration::MAX),
        merge().default_ttl(Duration::from_secs(1)),
        merge().compaction(FIFO),
        default().compaction(CompactionStrategy::Fifo { bytes_max: Some(0) }),
        default().compression([]),
        default().compression([Compression::None; 8]),
        default().compression([Compression::Zstd(0)]),
        default().block_bytes(0),
        default().filter_bits_per_key(0),
        default().separate_values_from(0),
        default().inline_prefix_bytes(0),
    ] {
        let refused = db.keyspace("k", options.clone());
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{options:?}: {refused:?}");
        assert!(db.keyspaces().is_empty(), "nothing was created");
    }
}

#[test]
fn zstd_needs_its_feature() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let builder = || Database::builder(Path::new("/db")).disk(Arc::clone(&disk)).background(Background::Manual);
    let options = default().compression([Compression::Zstd(3)]);
    if !cfg!(feature = "zstd") {
        assert!(matches!(builder().compression(Compression::Zstd(3)).open(), Err(Error::InvalidOptions { .. })));
        let refused = builder().open().unwrap().keyspace("k", options);
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
        return;
    }
    for _ in 0..2 {
        let db = builder().compression(Compression::Zstd(19)).open().unwrap();
        let keyspaces = [db.keyspace("own", options.clone()).unwrap(), db.keyspace("database's", default()).unwrap()];
        for keyspace in &keyspaces {
            for number in 0..1000_u32 {
                keyspace.put(number.to_be_bytes(), format!("a value that is much like the others {number}")).unwrap();
            }
            keyspace.compact_range(..).unwrap();
            let value = keyspace.get(7_u32.to_be_bytes()).unwrap().unwrap();
            assert_eq!(&*value, b"a value that is much like the others 7");
        }
        for keyspace in db.metrics().keyspaces {
            let bytes: u64 = keyspace.levels.iter().map(|level| level.bytes).sum();
            assert!(bytes < 25_000, "{}: {bytes} bytes for 1000 entries of 40", keyspace.name);
        }
    }
}
