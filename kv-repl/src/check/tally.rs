//! What a checker of histories has counted and found.

/// What a checker has looked at, and what was wrong.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct Tally {
    /// What was wrong.
    pub violations: Vec<String>,
    /// How many changes a quorum has acknowledged.
    pub acknowledged: u64,
    /// How many quorum reads were checked.
    pub reads: u64,
}
