//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::assignment::Limits;
use crate::engine::Name;
use crate::workload::{WORKLOADS, Workload, named};

/// The engine beside its rivals: the same keys and values, the same memory, the same promises, one process for each engine and
/// data set, engines in turn. See README.md beside this program.
#[derive(Parser, Debug)]
#[command(name = "rivals")]
pub(crate) struct Settings {
    /// Engines, separated by commas. Default: all of this build.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<Name>,

    /// Workloads, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,

    /// Rounds; in each every engine runs once.
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// A smoke test: kv-lsm, RocksDB, fjall and LMDB, ten workloads, 500,000 keys.
    #[arg(long)]
    quick: bool,

    /// Keys of the usual size, 20 + 100 bytes. A quarter as many of 1 KiB, a fortieth of 16 KiB. Default: 4,000,000.
    #[arg(long)]
    keys: Option<u32>,

    /// The longest that a run of `overwrite-long` takes, in seconds; it ends earlier when it is steady. Default: 180.
    #[arg(long)]
    long_seconds: Option<u64>,

    /// Seed of all randomness.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Where the databases lie while they are measured: on the disk that is to be measured.
    #[arg(long, default_value = "target/rivals/data")]
    pub(crate) dir: PathBuf,

    /// Where results.jsonl, the tables and the charts are written.
    #[arg(long, default_value = "target/rivals")]
    pub(crate) out: PathBuf,

    /// Runs nothing: names the workloads.
    #[arg(long)]
    pub(crate) list: bool,

    /// Prints the tables as markdown.
    #[arg(long)]
    pub(crate) markdown: bool,

    /// Runs nothing: reads the results of an earlier run from this file, and prints and draws them.
    #[arg(long)]
    pub(crate) from: Option<PathBuf>,
}

/// What `--quick` compares.
const QUICK_ENGINES: [Name; 4] = [Name::KvLsm, Name::RocksDb, Name::Fjall, Name::Lmdb];
const QUICK_KEYS: u32 = 500_000;
const KEYS: u32 = 4_000_000;

impl Settings {
    pub(crate) fn engines(&self) -> Vec<Name> {
        if !self.engines.is_empty() {
            return self.engines.clone();
        }
        let wanted = |name: &Name| name.is_built() && (!self.quick || QUICK_ENGINES.contains(name));
        Name::ALL.into_iter().filter(wanted).collect()
    }

    /// In the order of the catalogue, whatever the order on the command line.
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn workloads(&self) -> Result<Vec<&'static Workload>, String> {
        if let Some(unknown) = self.workloads.iter().find(|name| named(name).is_none()) {
            let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
            return Err(format!("there is no workload {unknown}; there are {}", names.join(", ")));
        }
        let wanted = |workload: &&Workload| {
            if self.workloads.is_empty() {
                !self.quick || workload.quick
            } else {
                self.workloads.iter().any(|name| name == workload.name)
            }
        };
        Ok(WORKLOADS.iter().filter(wanted).collect())
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.max(1)
    }

    pub(crate) fn limits(&self) -> Limits {
        let seconds = |full, quick| Duration::from_secs(if self.quick { quick } else { full });
        Limits {
            keys: self.keys.unwrap_or(if self.quick { QUICK_KEYS } else { KEYS }),
            read_time: seconds(10, 5),
            write_time: seconds(40, 20),
            synced_time: seconds(10, 5),
            long_time: self.long_seconds.map_or(seconds(180, 30), Duration::from_secs),
            settle_time: seconds(120, 45),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Settings {
        Settings::parse_from([&["rivals"], arguments].concat())
    }

    #[test]
    fn quick_is_ten_workloads_of_half_a_million_keys() {
        let quick = parse(&["--quick"]);
        assert_eq!(quick.workloads().map(|workloads| workloads.len()), Ok(10));
        assert_eq!((quick.rounds(), quick.limits().keys), (3, 500_000));
        assert!(quick.engines().iter().all(|engine| QUICK_ENGINES.contains(engine)));
    }

    #[test]
    fn what_is_named_is_taken_and_what_is_unknown_refused() {
        let some = parse(&["--engines", "kv-lsm", "--workloads", "reopen,fillseq", "--rounds", "5", "--keys", "1000"]);
        assert_eq!(some.engines(), [Name::KvLsm]);
        let names = |settings: &Settings| Ok(settings.workloads()?.iter().map(|workload| workload.name).collect());
        assert_eq!(names(&some), Ok::<Vec<_>, String>(vec!["fillseq", "reopen"]));
        assert_eq!((some.rounds(), some.limits().keys), (5, 1000));
        assert!(parse(&["--workloads", "fillseq,fillsqe"]).workloads().is_err());
        assert!(Settings::try_parse_from(["rivals", "--engines", "leveldb"]).is_err());
    }
}
