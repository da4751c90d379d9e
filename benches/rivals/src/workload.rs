//! The workloads by name, and which of them run on the same data one after the other.

use serde::{Deserialize, Serialize};

use crate::engine::{Direction, Name, Opening, Promise};
use crate::stream::{NUMBERS_MAX, Ycsb};

/// What a workload does.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Action {
    /// Puts every key once.
    Fill(Order),
    /// Puts over random keys.
    Overwrite,
    /// Deletes every key once, in random order.
    DeleteRandom,
    /// Gets random keys.
    Read {
        threads: usize,
        span: Span,
    },
    /// Reads so many entries from random keys on.
    Seek(u32),
    PrefixScan,
    FullScan(Direction),
    /// Gets beside a thread that overwrites as fast as it can.
    ReadWhileWriting,
    Ycsb(Ycsb),
    /// Puts new keys from several threads, each synced.
    Synced {
        threads: u32,
    },
    /// The process is killed with a full log; how long until the next one has it open and has read a key.
    Reopen,
    /// Overwrites until throughput and write amplification change no more.
    OverwriteLong,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Order {
    Sequential,
    Random,
    /// Random, in batches of [`BATCH`].
    Batched,
}

/// Entries of a batch.
pub(crate) const BATCH: usize = 100;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Span {
    All,
    Hot,
    Missing,
}

impl Action {
    /// Whether it writes without waiting for a sync, so that it counts only for engines that keep such writes when they are
    /// killed.
    pub(crate) const fn relies_on_buffered_writes(self) -> bool {
        match self {
            Self::Read { .. } | Self::Seek(_) | Self::PrefixScan | Self::FullScan(_) | Self::Synced { .. } => false,
            Self::Ycsb(letter) => !matches!(letter, Ycsb::C),
            Self::Fill(_)
            | Self::Overwrite
            | Self::DeleteRandom
            | Self::ReadWhileWriting
            | Self::Reopen
            | Self::OverwriteLong => true,
        }
    }

    /// Whether it leaves work for the background: then how that ends is part of the result.
    pub(crate) const fn leaves_debt(self) -> bool {
        self.relies_on_buffered_writes() && !matches!(self, Self::Reopen)
    }
}

/// Workloads of one group share a database, made anew for each engine and each round.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Group {
    Sequential,
    Batched,
    Random,
    Ycsb,
    Synced,
    Kib,
    Large,
    LargeSeparated,
    Reopen,
    Long,
}

impl Group {
    pub(crate) const ALL: [Self; 10] = [
        Self::Sequential,
        Self::Batched,
        Self::Random,
        Self::Ycsb,
        Self::Synced,
        Self::Kib,
        Self::Large,
        Self::LargeSeparated,
        Self::Reopen,
        Self::Long,
    ];

    pub(crate) const fn value_bytes(self) -> usize {
        match self {
            Self::Kib => 1024,
            Self::Large | Self::LargeSeparated => 16 << 10,
            _ => 100,
        }
    }

    /// How many keys there are, when there are `keys` of the usual size.
    pub(crate) fn keys(self, keys: u32) -> u32 {
        let keys = match self {
            Self::Kib | Self::Reopen => keys / 4,
            Self::Large | Self::LargeSeparated => keys / 40,
            _ => keys,
        };
        keys.clamp(100, NUMBERS_MAX / 2)
    }

    pub(crate) const fn promise(self) -> Promise {
        if matches!(self, Self::Synced) { Promise::Synced } else { Promise::Buffered }
    }

    pub(crate) const fn suits(self, engine: Name) -> bool {
        !matches!(self, Self::LargeSeparated) || engine.separates_values()
    }

    /// How its databases are opened: with memory in a fixed proportion to the data, so that smaller runs show the same.
    pub(crate) fn opening(self, keys: u32, cache: Cache) -> Opening {
        const MIB: u64 = 1 << 20;
        /// A map is made of whole pages, of any usual size.
        const PAGE_BYTES: u64 = 64 << 10;
        let data = u64::from(self.keys(keys)) * (crate::data::KEY_BYTES + self.value_bytes()) as u64;
        let memtable_bytes = match self {
            // So that all stays in the log.
            Self::Reopen => (data * 4).max(64 * MIB),
            _ => (data / 8).clamp(4 * MIB, 64 * MIB),
        };
        let cache_bytes = match cache {
            Cache::Large => data / 2 * 3,
            Cache::Small => data / 8,
        };
        Opening {
            promise: self.promise(),
            cache_bytes: cache_bytes.max(8 * MIB),
            memtable_bytes,
            map_bytes: (data * 32).max(4 << 30).next_multiple_of(PAGE_BYTES),
            separate_values: matches!(self, Self::LargeSeparated),
        }
    }
}

/// The cache beside the data.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Cache {
    /// Half as large again.
    Large,
    /// An eighth.
    Small,
}

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// Workloads of a group with another stage than the one before run in another process.
    pub(crate) stage: u32,
    pub(crate) cache: Cache,
    pub(crate) action: Action,
    /// Part of `--quick`.
    pub(crate) quick: bool,
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

const fn workload(name: &'static str, group: Group, stage: u32, action: Action) -> Workload {
    Workload { name, group, stage, cache: Cache::Large, action, quick: false }
}

const fn quick(name: &'static str, group: Group, stage: u32, action: Action) -> Workload {
    Workload { quick: true, ..workload(name, group, stage, action) }
}

const fn small(name: &'static str, group: Group, stage: u32, action: Action) -> Workload {
    Workload { cache: Cache::Small, ..workload(name, group, stage, action) }
}

const fn read(threads: usize, span: Span) -> Action {
    Action::Read { threads, span }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    quick("fillseq", Group::Sequential, 0, Action::Fill(Order::Sequential)),
    workload("batchfill", Group::Batched, 0, Action::Fill(Order::Batched)),
    quick("fillrandom", Group::Random, 0, Action::Fill(Order::Random)),
    quick("readrandom", Group::Random, 1, read(1, Span::All)),
    workload("readrandom-2t", Group::Random, 1, read(2, Span::All)),
    workload("readhot", Group::Random, 1, read(1, Span::Hot)),
    quick("readmissing", Group::Random, 1, read(1, Span::Missing)),
    quick("seekrandom", Group::Random, 1, Action::Seek(10)),
    workload("prefixscan", Group::Random, 1, Action::PrefixScan),
    quick("scan-forward", Group::Random, 1, Action::FullScan(Direction::Forward)),
    workload("scan-backward", Group::Random, 1, Action::FullScan(Direction::Backward)),
    small("readrandom-small", Group::Random, 2, read(1, Span::All)),
    small("readrandom-small-2t", Group::Random, 2, read(2, Span::All)),
    quick("readwhilewriting", Group::Random, 3, Action::ReadWhileWriting),
    quick("overwrite", Group::Random, 4, Action::Overwrite),
    workload("deleterandom", Group::Random, 4, Action::DeleteRandom),
    quick("ycsb-a", Group::Ycsb, 0, Action::Ycsb(Ycsb::A)),
    workload("ycsb-b", Group::Ycsb, 0, Action::Ycsb(Ycsb::B)),
    workload("ycsb-c", Group::Ycsb, 0, Action::Ycsb(Ycsb::C)),
    workload("ycsb-f", Group::Ycsb, 0, Action::Ycsb(Ycsb::F)),
    workload("ycsb-d", Group::Ycsb, 0, Action::Ycsb(Ycsb::D)),
    workload("ycsb-e", Group::Ycsb, 0, Action::Ycsb(Ycsb::E)),
    workload("synced-1", Group::Synced, 0, Action::Synced { threads: 1 }),
    quick("synced-8", Group::Synced, 0, Action::Synced { threads: 8 }),
    workload("synced-64", Group::Synced, 0, Action::Synced { threads: 64 }),
    workload("fill-1k", Group::Kib, 0, Action::Fill(Order::Random)),
    workload("readrandom-1k", Group::Kib, 1, read(1, Span::All)),
    workload("seekrandom-1k", Group::Kib, 1, Action::Seek(10)),
    workload("ycsb-a-1k", Group::Kib, 2, Action::Ycsb(Ycsb::A)),
    workload("overwrite-1k", Group::Kib, 2, Action::Overwrite),
    workload("fill-16k", Group::Large, 0, Action::Fill(Order::Random)),
    workload("readrandom-16k", Group::Large, 1, read(1, Span::All)),
    workload("scan-16k", Group::Large, 1, Action::FullScan(Direction::Forward)),
    workload("overwrite-16k", Group::Large, 2, Action::Overwrite),
    workload("fill-16k-separated", Group::LargeSeparated, 0, Action::Fill(Order::Random)),
    workload("readrandom-16k-separated", Group::LargeSeparated, 1, read(1, Span::All)),
    workload("scan-16k-separated", Group::LargeSeparated, 1, Action::FullScan(Direction::Forward)),
    workload("overwrite-16k-separated", Group::LargeSeparated, 2, Action::Overwrite),
    workload("reopen", Group::Reopen, 0, Action::Reopen),
    workload("overwrite-long", Group::Long, 0, Action::OverwriteLong),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_groups_and_stages_lie_together() {
        for (index, workload) in WORKLOADS.iter().enumerate() {
            assert_eq!(WORKLOADS.iter().position(|other| other.name == workload.name), Some(index));
        }
        let of = |group: Group| WORKLOADS.iter().filter(move |workload| workload.group == group);
        let order: Vec<_> = Group::ALL.into_iter().flat_map(of).map(|workload| workload.name).collect();
        assert_eq!(order, WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>());
        for group in Group::ALL {
            assert!(of(group).is_sorted_by_key(|workload| workload.stage));
        }
    }

    #[test]
    fn ten_workloads_are_quick() {
        assert_eq!(WORKLOADS.iter().filter(|workload| workload.quick).count(), 10);
    }

    #[test]
    fn maps_are_whole_pages_whatever_the_size() {
        for group in Group::ALL {
            for keys in [1, 20_000, 500_000, 4_000_001, 145_000_000] {
                assert_eq!(group.opening(keys, Cache::Large).map_bytes % (64 << 10), 0);
            }
        }
    }

    #[test]
    fn memory_is_in_proportion_to_the_data() {
        let large = Group::Random.opening(4_000_000, Cache::Large);
        assert_eq!((large.cache_bytes, large.memtable_bytes), (720_000_000, 60_000_000));
        let small = Group::Random.opening(4_000_000, Cache::Small);
        assert_eq!((small.cache_bytes, small.memtable_bytes), (60_000_000, 60_000_000));
        let reopen = Group::Reopen.opening(4_000_000, Cache::Large);
        assert!(reopen.memtable_bytes > 4 * 110_000_000);
    }
}
