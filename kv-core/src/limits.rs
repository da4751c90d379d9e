//! Limits that every crate of the family keeps. A value over a limit is refused at the edge with a typed error.

/// Longest partition key, in bytes. Its length is stored in two bytes of the record key.
pub const PARTITION_KEY_BYTES_MAX: usize = 16 * 1024;

/// Longest sort key, in bytes.
pub const SORT_KEY_BYTES_MAX: usize = 16 * 1024;

/// Longest key that a [`Store`](crate::Store) accepts, in bytes.
pub const STORE_KEY_BYTES_MAX: usize = 65_535;

/// Longest value or merge operand that a [`Store`](crate::Store) accepts, in bytes.
pub const STORE_VALUE_BYTES_MAX: usize = 256 << 20;

/// Longest value that one put may carry through the cluster, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Most versions (siblings and tombstones) that one record may hold before a put without a context is refused.
pub const SIBLINGS_MAX: usize = 100;

/// How deep maps of replicated data types may nest.
pub const CRDT_DEPTH_MAX: usize = 8;

// The longest record key is table (4) + token (8) + length (2) + both parts, and it must fit a store key.
const _: () = assert!(4 + 8 + 2 + PARTITION_KEY_BYTES_MAX + SORT_KEY_BYTES_MAX <= STORE_KEY_BYTES_MAX);
