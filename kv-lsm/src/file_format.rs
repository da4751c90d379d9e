//! The two words in every file that say who can read it.
//!
//! ```text
//! format := version:u32  features:u32           the lower sixteen features are required, the upper sixteen optional
//! ```
//!
//! A version says what the file looks like, a feature what it may hold besides. A reader must know the version and each
//! *required* feature; an *optional* one it may pass over: what it says goes for this file alone, and is gone when the
//! content is written to another one. So a newer engine that needs a reader to know more says so in one place, and an older
//! one refuses in words instead of misreading (as the features of file systems such as ext4 do).
//!
//! Manifest and log are read when a database is opened. Tables and blob files are read later, so the manifest repeats their
//! format: a database that holds one that this engine cannot read is not opened (`docs/decisions/0007`).

use std::fmt;
use std::path::PathBuf;

use kv_core::codec::{DecodeError, Reader};

use crate::error::Error;

/// Features of which a reader must know every one that is set.
const REQUIRED: u32 = 0xffff;

/// What a file states, or what a reader knows.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct FileFormat {
    pub(crate) version: u32,
    pub(crate) features: u32,
}

impl FileFormat {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
    }

    /// # Errors
    /// When the bytes end.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { version: reader.u32()?, features: reader.u32()? })
    }

    /// Whether who knows `known` can read a file of this format.
    ///
    /// # Errors
    /// [`Error::Unsupported`], which names the file.
    pub(crate) fn check(self, known: Self, file: impl FnOnce() -> PathBuf) -> Result<(), Error> {
        if self.version == known.version && self.features & REQUIRED & !known.features == 0 {
            return Ok(());
        }
        Err(Error::Unsupported { file: file(), found: self.to_string(), known: known.to_string() })
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format version {} with features {:#x}", self.version, self.features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_features_are_refused_and_optional_ones_are_not() {
        let known = FileFormat { version: 2, features: 0x1_0001 };
        let check = |version, features| FileFormat { version, features }.check(known, || PathBuf::from("f"));
        for features in [0, 1, 0x1_0001, 0xffff_0000, 0xffff_0001] {
            assert!(check(2, features).is_ok(), "{features:#x}");
        }
        for (version, features) in [(2, 2), (2, 0x8000), (2, 0x1_8000), (1, 0), (3, 0), (0, 0), (u32::MAX, 0)] {
            let refused = check(version, features).expect_err("not known").to_string();
            let found = format!("f has format version {version} with features {features:#x}");
            assert_eq!(refused, format!("{found}, and this engine knows format version 2 with features 0x10001"));
        }
    }
}
