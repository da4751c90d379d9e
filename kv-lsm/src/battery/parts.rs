//! The parts of each kind of file that carry a checksum, and how to make it right again: what a disk does by accident, and what a
//! clever adversary, or an engine with a bug, does on purpose.

use std::ops::Range;
use std::path::Path;

use kv_core::checksum::crc32;
use kv_core::hash::seeded;

use crate::blob::format as blob;
use crate::files::FileKind;
use crate::identity::place_seed;
use crate::manifest::log as manifest;
use crate::table::block::Block;
use crate::table::format::{FOOTER_BYTES, Footer, load_block};
use crate::wal::format as wal;

/// The kinds of files that hold data.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    Log,
    Table,
    Manifest,
    Blob,
}

impl Kind {
    /// What a file is, by its name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match FileKind::of(path.file_name()?.to_str()?) {
            FileKind::Log(_) => Some(Self::Log),
            FileKind::Table(_) => Some(Self::Table),
            FileKind::Manifest(_) => Some(Self::Manifest),
            FileKind::Blob(_) => Some(Self::Blob),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Table => "table",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }
}

/// A run of bytes with a checksum over the rest of it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Range<usize>,
    seal: Seal,
}

#[derive(Copy, Clone, Debug)]
enum Seal {
    /// CRC-32 of everything before it, at the end.
    Header,
    /// CRC-32 at the start, of a number, the part's offset, and the rest.
    Placed { number: u64 },
    /// XXH3 at the end, of everything before it.
    Trailer { seed: u64 },
    /// XXH3 before a magic number at the end.
    Footer { seed: u64 },
    /// XXH3 at the start, of the rest.
    Front { seed: u64 },
}

impl Part {
    /// Whether two parts are of one kind, so that one could be taken for the other.
    pub(crate) fn is_sibling(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.seal) == std::mem::discriminant(&other.seal) && self.bytes != other.bytes
    }

    /// Makes the checksum right.
    pub(crate) fn seal(&self, file: &mut [u8]) {
        let offset = self.bytes.start as u64;
        let part = &mut file[self.bytes.clone()];
        let length = part.len();
        match self.seal {
            Seal::Header => {
                let crc = crc32(&[&part[..length - 4]]);
                part[length - 4..].copy_from_slice(&crc.to_le_bytes());
            }
            Seal::Placed { number } => {
                let crc = crc32(&[&number.to_le_bytes(), &offset.to_le_bytes(), &part[4..]]);
                part[..4].copy_from_slice(&crc.to_le_bytes());
            }
            Seal::Trailer { seed } => {
                let checksum = seeded(&part[..length - 8], seed);
                part[length - 8..].copy_from_slice(&checksum.to_le_bytes());
            }
            Seal::Footer { seed } => {
                let checksum = seeded(&part[..length - 16], seed);
                part[length - 16..length - 8].copy_from_slice(&checksum.to_le_bytes());
            }
            Seal::Front { seed } => {
                let checksum = seeded(&part[8..], seed);
                part[..8].copy_from_slice(&checksum.to_le_bytes());
            }
        }
    }
}

/// The parts of a whole file, in order.
///
/// # Panics
/// When it is not whole.
pub(crate) fn parts(path: &Path, file: &[u8]) -> Vec<Part> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match FileKind::of(name) {
        FileKind::Log(number) => of_log(file, number),
        FileKind::Manifest(number) => of_manifest(file, number),
        FileKind::Table(_) => of_table(file),
        FileKind::Blob(_) => of_blob(file),
        _ => Vec::new(),
    }
}

fn of_log(file: &[u8], number: u64) -> Vec<Part> {
    let mut parts = vec![Part { bytes: 0..wal::HEADER_BYTES, seal: Seal::Header }];
    let mut at = wal::next_chunk(wal::HEADER_BYTES);
    while let Ok(chunk) = wal::Chunk::read(file, number, at) {
        parts.push(Part { bytes: at..at + chunk.bytes(), seal: Seal::Placed { number } });
        at = wal::next_chunk(at + chunk.bytes());
    }
    parts
}

fn of_manifest(file: &[u8], number: u64) -> Vec<Part> {
    let mut parts = vec![Part { bytes: 0..manifest::HEADER_BYTES, seal: Seal::Header }];
    let mut at = manifest::HEADER_BYTES;
    while let Some(length) = file.get(at + 4..at + 8) {
        let length: [u8; 4] = length.try_into().expect("four bytes");
        let end = at + 8 + usize::try_from(u32::from_le_bytes(length)).expect("below 4 GiB");
        if end > file.len() {
            break;
        }
        parts.push(Part { bytes: at..end, seal: Seal::Placed { number } });
        at = end;
    }
    parts
}

fn of_table(file: &[u8]) -> Vec<Part> {
    let footer_at = file.len() - FOOTER_BYTES;
    let footer = Footer::decode(&file[footer_at..]).expect("a whole table");
    let range = |offset: u64, length: u64| {
        let start = usize::try_from(offset).expect("inside a file in memory");
        start..start + usize::try_from(length).expect("inside a file in memory")
    };
    let block = |bytes: Range<usize>| {
        let seed = place_seed(footer.identity, bytes.start as u64);
        Part { bytes, seal: Seal::Trailer { seed } }
    };
    let index = range(footer.index.offset, footer.index.length);
    let decoded = load_block(&file[index.clone()], footer.identity, index.start as u64).expect("a whole table");
    let entries = Block::new(decoded).expect("a whole table");
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let mut parts: Vec<Part> = (0..entries.count())
        .map(|at| entries.entry(at).value)
        .map(|handle| block(range(number(&handle[..8]), number(&handle[8..16]))))
        .collect();
    for handle in [footer.filter, footer.range_deletes, footer.properties] {
        if !handle.is_none() {
            parts.push(block(range(handle.offset, handle.length)));
        }
    }
    parts.push(block(index));
    parts.push(Part { bytes: footer_at..file.len(), seal: Seal::Footer { seed: footer.identity } });
    parts
}

fn of_blob(file: &[u8]) -> Vec<Part> {
    let header = blob::Header::decode(file).expect("a whole blob file");
    let mut parts = vec![Part { bytes: 0..blob::HEADER_BYTES, seal: Seal::Trailer { seed: header.identity } }];
    let footer_at = file.len() - blob::FOOTER_BYTES;
    let mut at = blob::HEADER_BYTES;
    while at < footer_at {
        let length = |from: usize| {
            let bytes: [u8; 4] = file[at + from..at + from + 4].try_into().expect("four bytes");
            usize::try_from(u32::from_le_bytes(bytes)).expect("below 4 GiB")
        };
        let end = at + blob::RECORD_HEADER_BYTES + length(16) + length(20);
        parts.push(Part { bytes: at..end, seal: Seal::Front { seed: place_seed(header.identity, at as u64) } });
        at = end;
    }
    parts.push(Part { bytes: footer_at..file.len(), seal: Seal::Footer { seed: header.identity } });
    parts
}
