//! How versions of a key are told apart and ordered.

use std::cmp::Ordering;

use kv_core::time::Millis;

/// The largest sequence number: a trailer gives it 56 bits.
pub(crate) const SEQUENCE_MAX: u64 = (1 << 56) - 1;

/// What a version does to its key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    Delete,
    Put,
    Merge,
}

/// The lower half of a kind byte: delete = 1, put = 2, merge = 3.
const KIND: u64 = 0x0f;
/// The value of a put stands behind its expiry.
const EXPIRING: u64 = 0x10;
/// The value of a put lies in a blob file, and a pointer stands for it.
const SEPARATED: u64 = 0x20;

/// An expiry is wall time in milliseconds, and stands before the value.
pub(crate) const EXPIRY_BYTES: usize = size_of::<u64>();

/// Sequence number and kind of a version, as one number: `sequence << 8 | flags | kind`.
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

    /// A put that expires.
    pub(crate) fn expiring(sequence: u64) -> Self {
        Self(Self::new(sequence, Kind::Put).0 | EXPIRING)
    }

    /// Stands before the versions that a read at `sequence` may see.
    pub(crate) const fn at(sequence: u64) -> Self {
        Self(sequence << 8 | 0xff)
    }

    /// Reads back [`Trailer::to_u64`]; `None` when no writer could have written it.
    pub(crate) const fn from_u64(raw: u64) -> Option<Self> {
        let known = matches!(raw & KIND, 1..=3) && raw & 0xff & !(KIND | EXPIRING | SEPARATED) == 0;
        let flagged = raw & (EXPIRING | SEPARATED) != 0;
        if raw >> 8 != 0 && known && (!flagged || raw & KIND == 2) { Some(Self(raw)) } else { None }
    }

    /// The same for what was checked when it was written, or never left this process.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        debug_assert!(Self::from_u64(raw).is_some(), "the trailer of a version");
        Self(raw)
    }

    pub(crate) const fn to_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn sequence(self) -> u64 {
        self.0 >> 8
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & KIND {
            1 => Kind::Delete,
            2 => Kind::Put,
            3 => Kind::Merge,
            other => unreachable!("a trailer of a version has a kind, not {other}"),
        }
    }

    pub(crate) const fn is_expiring(self) -> bool {
        self.0 & EXPIRING != 0
    }

    pub(crate) const fn is_separated(self) -> bool {
        self.0 & SEPARATED != 0
    }

    /// The same put with its value elsewhere, or in place.
    pub(crate) fn with_separated(self, separated: bool) -> Self {
        debug_assert!(self.kind() == Kind::Put, "only the value of a put is separated");
        Self(if separated { self.0 | SEPARATED } else { self.0 & !SEPARATED })
    }

    /// The place right behind this one among the versions of a key.
    pub(crate) const fn just_older(self) -> Self {
        Self(self.0 - 1)
    }

    /// The same number with another kind and no flags.
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

/// What a stored value says: when it expires, if it does, and the value itself, or the pointer to it. Whoever made the version checked that an
/// expiry is there.
pub(crate) fn split_expiry(trailer: Trailer, stored: &[u8]) -> (Option<Millis>, &[u8]) {
    if !trailer.is_expiring() {
        return (None, stored);
    }
    let (expiry, value) = stored.split_first_chunk::<EXPIRY_BYTES>().expect("an expiry stands before the value");
    (Some(Millis(u64::from_le_bytes(*expiry))), value)
}

/// Whether a value that expires then is there for a read as of `now`.
pub(crate) const fn is_expired(expire_at: Millis, now: Millis) -> bool {
    expire_at.0 <= now.0
}

/// The order of everything sorted in this crate: keys ascending, then newest first.
#[inline]
pub(crate) fn compare(a: (&[u8], Trailer), b: (&[u8], Trailer)) -> Ordering {
    // Most pairs differ early. Where they do not, this was cheap beside the call that compares the rest.
    if let (Some(first), Some(second)) = (a.0.first_chunk::<8>(), b.0.first_chunk::<8>())
        && first != second
    {
        return u64::from_be_bytes(*first).cmp(&u64::from_be_bytes(*second));
    }
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_put_expires_or_is_separated() {
        for kind in 0..=0xff_u64 {
            let known = matches!(kind, 1..=3 | 0x12 | 0x22 | 0x32);
            assert_eq!(Trailer::from_u64(7 << 8 | kind).is_some(), known, "{kind:#x}");
            assert!(Trailer::from_u64(kind).is_none(), "numbers begin at one");
        }
        let trailer = Trailer::expiring(7);
        assert_eq!((trailer.kind(), trailer.is_expiring(), trailer.sequence()), (Kind::Put, true, 7));
        let apart = trailer.with_separated(true);
        assert!(apart.is_separated() && apart.is_expiring() && apart.with_separated(false) == trailer);
        assert_eq!(apart.with_kind(Kind::Delete), Trailer::new(7, Kind::Delete));
        let stored = [&5_u64.to_le_bytes()[..], b"v"].concat();
        assert_eq!(split_expiry(trailer, &stored), (Some(Millis(5)), &b"v"[..]));
        assert!(is_expired(Millis(5), Millis(5)) && !is_expired(Millis(5), Millis(4)));
    }
}
