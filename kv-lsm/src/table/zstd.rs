//! Zstandard, when it was asked for with the cargo feature `zstd`.

#[cfg(feature = "zstd")]
mod enabled {
    use std::io::Read;

    /// So much is set aside at once; beyond it memory grows with what is really decoded.
    const TRUSTED_BYTES: usize = 1 << 20;

    /// `None` when it fails: the block is then stored as it is.
    pub(crate) fn compress(payload: &[u8], level: u8) -> Option<Vec<u8>> {
        zstd::bulk::compress(payload, i32::from(level)).ok()
    }

    /// At most one byte more than `decoded_bytes`, which are claimed; `None` when the payload is not whole frames.
    pub(crate) fn decompress(payload: &[u8], decoded_bytes: usize) -> Option<Vec<u8>> {
        let mut decoded = Vec::with_capacity(decoded_bytes.min(TRUSTED_BYTES));
        let decoder = zstd::stream::read::Decoder::with_buffer(payload).ok()?;
        decoder.take(decoded_bytes as u64 + 1).read_to_end(&mut decoded).ok()?;
        Some(decoded)
    }
}

#[cfg(not(feature = "zstd"))]
mod disabled {
    /// Options that ask for it are refused before a block is written.
    pub(crate) fn compress(_payload: &[u8], _level: u8) -> Option<Vec<u8>> {
        unreachable!("options are checked against what the build supports")
    }

    /// The caller says that it is unsupported.
    pub(crate) fn decompress(_payload: &[u8], _decoded_bytes: usize) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(feature = "zstd")]
pub(crate) use enabled::{compress, decompress};

#[cfg(not(feature = "zstd"))]
pub(crate) use disabled::{compress, decompress};
