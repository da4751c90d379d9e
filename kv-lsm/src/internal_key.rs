//! How versions of a key are told apart and ordered.

use std::cmp::Ordering;

/// The largest sequence number: a trailer gives it 56 bits.
pub(crate) const SEQUENCE_MAX: u64 = (1 << 56) - 1;

/// What a version does to its key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    Delete,
    Put,
    Merge,
}

/// Sequence number and kind of a version, as one number: `sequence << 8 | kind`, with delete = 1, put = 2, merge = 3.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Trailer(u64);

impl Trailer {
    /// Stands before every version of a key.
    pub(crate) const NEWEST: Self = Self(u64::MAX);
    /// Stands after every version of a key: sequence numbers begin at one.
    pub(crate) const OLDEST: Self = Self(0);

    pub(crate) fn new(sequence: u64, kind: Kind) -> Self {
        assert!(sequence > 0 && sequence <= SEQUENCE_MAX, "sequence numbers begin at one and have 56 bits");
        Self(sequence << 8 | kind_byte(kind))
    }

    /// Stands before the versions that a read at `sequence` may see.
    pub(crate) const fn at(sequence: u64) -> Self {
        Self(sequence << 8 | 0xff)
    }

    /// Reads back [`Trailer::to_u64`]; `None` when no writer could have written it.
    pub(crate) const fn from_u64(raw: u64) -> Option<Self> {
        if raw >> 8 != 0 && matches!(raw & 0xff, 1..=3) { Some(Self(raw)) } else { None }
    }

    pub(crate) const fn to_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn sequence(self) -> u64 {
        self.0 >> 8
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & 0xff {
            1 => Kind::Delete,
            2 => Kind::Put,
            3 => Kind::Merge,
            other => unreachable!("a trailer of a version has a kind, not {other}"),
        }
    }

    /// The place right behind this one among the versions of a key.
    pub(crate) const fn just_older(self) -> Self {
        Self(self.0 - 1)
    }

    pub(crate) fn with_kind(self, kind: Kind) -> Self {
        Self(self.0 & !0xff | kind_byte(kind))
    }
}

const fn kind_byte(kind: Kind) -> u64 {
    match kind {
        Kind::Delete => 1,
        Kind::Put => 2,
        Kind::Merge => 3,
    }
}

/// The order of everything sorted in this crate: keys ascending, then newest first.
pub(crate) fn compare(a: (&[u8], Trailer), b: (&[u8], Trailer)) -> Ordering {
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}
