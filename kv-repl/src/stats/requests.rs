//! What clients ask of a node, and what they get.

use std::time::Duration;

use kv_core::record::Payload;

use super::Histogram;
use crate::description::DescribeError;
use crate::machine::{Outcome, Request};
use crate::repair_request::RepairError;
use crate::request::{ClusterError, ReadError, Write, WriteError};
use crate::scan::ScanError;

/// What was asked for.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum RequestKind {
    /// A read of a key.
    Get,
    /// A write of a value.
    Put,
    /// A write of a tombstone.
    Delete,
    /// A change of a data type.
    Update,
    /// A page of a scan.
    Scan,
    /// Where a key is.
    Describe,
    /// To make replicas equal.
    Repair,
    /// A new table.
    CreateTable,
    /// To found a cluster, or to take this node's storage for its own.
    Found,
}

/// What came of it.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum OutcomeKind {
    /// It was done.
    Ok,
    /// Too few replicas could be reached, or those that could have yet to get what a lost disk held. Nothing was written.
    Unavailable,
    /// It may have been written or not.
    Ambiguous,
    /// The node, or those that it asked, had too much to do. Nothing was written.
    Overloaded,
    /// The deadline passed, and nothing was written, or it was no write.
    Deadline,
    /// The node does not serve.
    NotServing,
    /// It cannot be done, now or ever, because of what it asks for.
    Refused,
    /// A store failed, or what it holds is damaged.
    Failed,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Update,
        Self::Scan,
        Self::Describe,
        Self::Repair,
        Self::CreateTable,
        Self::Found,
    ];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::Scan => "scan",
            Self::Describe => "describe",
            Self::Repair => "repair",
            Self::CreateTable => "create_table",
            Self::Found => "found",
        }
    }

    pub(crate) const fn of(request: &Request) -> Self {
        match request {
            Request::Get(_) => Self::Get,
            Request::Write(Write::Put(put)) => match put.payload {
                Payload::Value(_) => Self::Put,
                Payload::Tombstone => Self::Delete,
            },
            Request::Write(Write::Modify(_)) => Self::Update,
            Request::Scan(_) => Self::Scan,
            Request::Describe(_) => Self::Describe,
            Request::Repair(_) => Self::Repair,
            Request::CreateTable { .. } => Self::CreateTable,
            Request::Bootstrap { .. } | Request::Replace => Self::Found,
        }
    }
}

impl OutcomeKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Unavailable,
        Self::Ambiguous,
        Self::Overloaded,
        Self::Deadline,
        Self::NotServing,
        Self::Refused,
        Self::Failed,
    ];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::Overloaded => "overloaded",
            Self::Deadline => "deadline",
            Self::NotServing => "not_serving",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    pub(crate) const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Put(Err(error)) => Self::of_write(error),
            Outcome::Get(Err(error)) => Self::of_read(error),
            Outcome::Bootstrap(Err(error)) | Outcome::CreateTable(Err(error)) => Self::of_cluster(error),
            Outcome::Repair(Err(error)) => match error {
                RepairError::Overloaded { .. } => Self::Overloaded,
                RepairError::DeadlinePassed(_) => Self::Deadline,
                RepairError::NotServing(_) | RepairError::Stopped => Self::NotServing,
                RepairError::Incomplete(_) => Self::Unavailable,
                RepairError::UnknownTable | RepairError::CacheTable | RepairError::NotReplica => Self::Refused,
            },
            Outcome::Describe(Err(error)) => match error {
                DescribeError::Overloaded { .. } => Self::Overloaded,
                DescribeError::NotServing(_) | DescribeError::Stopped => Self::NotServing,
                DescribeError::InvalidKey(_) | DescribeError::UnknownTable | DescribeError::CacheTable => Self::Refused,
            },
            Outcome::Scan(Err(error)) => Self::of_scan(error),
            Outcome::Put(Ok(_))
            | Outcome::Get(Ok(_))
            | Outcome::Bootstrap(Ok(()))
            | Outcome::CreateTable(Ok(_))
            | Outcome::Repair(Ok(_))
            | Outcome::Describe(Ok(_))
            | Outcome::Scan(Ok(_)) => Self::Ok,
        }
    }

    const fn of_write(error: &WriteError) -> Self {
        match error {
            WriteError::Unavailable { .. } | WriteError::Importing => Self::Unavailable,
            WriteError::Ambiguous { .. } => Self::Ambiguous,
            WriteError::Overloaded { .. } => Self::Overloaded,
            WriteError::DeadlinePassed => Self::Deadline,
            WriteError::NotServing(_) | WriteError::Stopped => Self::NotServing,
            WriteError::Store(_) => Self::Failed,
            WriteError::InvalidKey(_)
            | WriteError::ValueTooLarge { .. }
            | WriteError::RecordTooLarge { .. }
            | WriteError::InvalidContext(_)
            | WriteError::WrongTable { .. }
            | WriteError::Update(_)
            | WriteError::TtlOnDataType
            | WriteError::TtlOverMaximum { .. }
            | WriteError::CacheFull
            | WriteError::InvalidTtl(_)
            | WriteError::TooManySiblings { .. }
            | WriteError::UnknownTable
            | WriteError::TooFewReplicas(_)
            | WriteError::ClockDrift(_) => Self::Refused,
        }
    }

    const fn of_read(error: &ReadError) -> Self {
        match error {
            ReadError::Unavailable { .. } => Self::Unavailable,
            ReadError::Overloaded { .. } => Self::Overloaded,
            ReadError::Timeout { .. } | ReadError::BehindSession { .. } => Self::Deadline,
            ReadError::NotServing(_) | ReadError::Stopped => Self::NotServing,
            ReadError::Corrupt(_) => Self::Failed,
            ReadError::InvalidKey(_) | ReadError::UnknownTable | ReadError::TooFewReplicas(_) => Self::Refused,
        }
    }

    const fn of_scan(error: &ScanError) -> Self {
        match error {
            ScanError::Unavailable { .. } => Self::Unavailable,
            ScanError::Overloaded { .. } => Self::Overloaded,
            ScanError::Timeout { .. } => Self::Deadline,
            ScanError::NotServing(_) | ScanError::Stopped => Self::NotServing,
            ScanError::Read(error) => Self::of_read(error),
            ScanError::InvalidKey(_)
            | ScanError::InvalidCursor(_)
            | ScanError::UnknownTable
            | ScanError::CacheTable
            | ScanError::TooFewReplicas(_) => Self::Refused,
        }
    }

    const fn of_cluster(error: &ClusterError) -> Self {
        match error {
            ClusterError::Overloaded { .. } => Self::Overloaded,
            ClusterError::Incomplete { .. } => Self::Deadline,
            ClusterError::NotServing(_) | ClusterError::Stopped => Self::NotServing,
            ClusterError::AlreadyFounded
            | ClusterError::MemberTaken(_)
            | ClusterError::InvalidMembers(_)
            | ClusterError::InvalidTable(_)
            | ClusterError::InvalidOptions(_)
            | ClusterError::TableExists
            | ClusterError::UnknownTable => Self::Refused,
        }
    }
}

/// Requests of one kind, in this life of a node. Times are in microseconds, from when the client asked until the answer was handed to
/// it, the wait for the node's turn included.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct KindStats {
    outcomes: [u64; OutcomeKind::ALL.len()],
    /// How long those took that were done.
    pub done: Histogram,
    /// How long those took that were not, but for those that were turned away because the node had too much to do.
    pub undone: Histogram,
}

impl KindStats {
    /// How many came to this.
    #[must_use]
    pub const fn outcomes(&self, outcome: OutcomeKind) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// How many were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

/// Requests of the clients of a node, in this life. What a client's own checks turn away never reaches the node, and does not count.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct RequestStats {
    kinds: [KindStats; RequestKind::ALL.len()],
    /// How many requests each batch held. They are counted by themselves as well.
    pub batches: Histogram,
}

impl RequestStats {
    /// Those of one kind.
    #[must_use]
    pub const fn kind(&self, kind: RequestKind) -> &KindStats {
        &self.kinds[kind as usize]
    }

    pub(crate) fn answered(&mut self, kind: RequestKind, outcome: OutcomeKind, took: Duration) {
        let stats = &mut self.kinds[kind as usize];
        stats.outcomes[outcome as usize] += 1;
        match outcome {
            OutcomeKind::Ok => stats.done.record_time(took),
            OutcomeKind::Overloaded => {}
            _ => stats.undone.record_time(took),
        }
    }

    /// Some were turned away before a turn saw them.
    pub(crate) fn turned_away(&mut self, turned_away: &TurnedAway) {
        for (stats, more) in self.kinds.iter_mut().zip(turned_away.kinds) {
            stats.outcomes[OutcomeKind::Overloaded as usize] += more;
        }
    }
}

/// Requests that found no room to wait for a turn.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct TurnedAway {
    kinds: [u64; RequestKind::ALL.len()],
}

impl TurnedAway {
    pub(crate) const fn new() -> Self {
        Self { kinds: [0; RequestKind::ALL.len()] }
    }

    pub(crate) const fn count(&mut self, request: &Request) {
        self.kinds[RequestKind::of(request) as usize] += 1;
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.kinds.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_turned_away_counts_and_does_not_make_answers_look_quick() {
        let mut stats = RequestStats::default();
        for (outcome, took) in [(OutcomeKind::Ok, 5), (OutcomeKind::Deadline, 3_000), (OutcomeKind::Overloaded, 0)] {
            stats.answered(RequestKind::Put, outcome, Duration::from_millis(took));
        }
        let mut turned_away = TurnedAway::new();
        turned_away.count(&Request::Replace);
        stats.turned_away(&turned_away);
        let puts = stats.kind(RequestKind::Put);
        assert_eq!((puts.answered(), puts.outcomes(OutcomeKind::Overloaded), puts.done.count()), (3, 1, 1));
        assert_eq!((puts.done.min(), puts.undone.min(), puts.undone.count()), (5_000, 3_000_000, 1));
        assert_eq!(stats.kind(RequestKind::Found).outcomes(OutcomeKind::Overloaded), turned_away.total());
    }

    #[test]
    fn kinds_stand_where_their_numbers_say() {
        assert!(RequestKind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
        assert!(OutcomeKind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
    }
}
