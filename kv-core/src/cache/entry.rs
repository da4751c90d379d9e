use bytes::Bytes;

use crate::expiry::Expiry;

/// What each entry costs beside its key and its value: its place in the slab, the hash table and the policy's arrays.
pub const ENTRY_BYTES: u64 = 96;

/// What an entry is charged with.
pub(super) fn cost(key: &[u8], value: &[u8]) -> u64 {
    ENTRY_BYTES + key.len() as u64 + value.len() as u64
}

/// Key, value and expiry, in one cache line of its own if the key is short.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Bytes,
    pub(super) expiry: PackedExpiry,
}

// A longer entry would make each read touch a second line.
const _: () = assert!(size_of::<Option<Entry>>() == 64);

impl Entry {
    pub(super) fn bytes(&self) -> u32 {
        u32::try_from(cost(self.key.as_bytes(), &self.value)).expect("an entry's cost was checked when it came in")
    }
}

const INLINE_BYTES: usize = 22;

/// A key; a short one without an allocation.
#[derive(Debug)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= INLINE_BYTES => {
                let mut bytes = [0; INLINE_BYTES];
                bytes[..key.len()].copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(key.into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }
}

/// An [`Expiry`] in eight bytes: the last millisecond of time stands for never.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct PackedExpiry(u64);

impl PackedExpiry {
    pub(super) const NEVER: Self = Self(u64::MAX);

    pub(super) fn new(expiry: Expiry) -> Self {
        expiry.time().map_or(Self::NEVER, |at| Self(at.0))
    }

    pub(super) fn get(self) -> Expiry {
        if self == Self::NEVER { Expiry::NEVER } else { Expiry::at(crate::time::Millis(self.0)) }
    }
}
