//! What one write may carry. Over a limit it is refused with [`Error::TooLarge`](crate::Error::TooLarge) and nothing changes.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = kv_core::limits::STORE_KEY_BYTES_MAX;

/// Longest value or merge operand, in bytes.
pub const VALUE_BYTES_MAX: usize = kv_core::limits::STORE_VALUE_BYTES_MAX;

/// Largest batch, in bytes of its encoding.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Longest name of a keyspace, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

// Offsets inside a batch are kept in 32 bits, and the largest value must fit a batch with its key.
const _: () = assert!(BATCH_BYTES_MAX < u32::MAX as usize && VALUE_BYTES_MAX + KEY_BYTES_MAX + 32 <= BATCH_BYTES_MAX);
