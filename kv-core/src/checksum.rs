//! CRC-32 (the IEEE polynomial, as in gzip) for small things: log records, frames, contexts.

/// CRC-32 of `parts`, as if they were one run of bytes.
#[must_use]
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}
