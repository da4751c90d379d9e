//! How many replicas an operation needs. Arithmetic only.

/// How many replicas must answer before a request is answered.
///
/// With N replicas, a read of R and a write of W see each other when R + W > N; `Quorum` with `Quorum` always does.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Consistency {
    /// Any one replica. Fastest; a read may miss writes that were acknowledged.
    One,
    /// More than half.
    Quorum,
    /// Every replica. A single one that is away fails the request.
    All,
}

impl Consistency {
    /// How many of `replicas` must answer.
    #[must_use]
    pub const fn required(self, replicas: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Quorum => majority(replicas),
            Self::All => replicas,
        }
    }
}

/// The smallest number that any other such number of the same `members` meets in at least one.
#[must_use]
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_of_reads_and_writes_always_meet() {
        for replicas in 1..20 {
            let quorum = Consistency::Quorum.required(replicas);
            assert!(quorum + quorum > replicas && quorum <= replicas);
            assert_eq!(Consistency::One.required(replicas), 1);
            assert_eq!(Consistency::All.required(replicas), replicas);
        }
    }
}
