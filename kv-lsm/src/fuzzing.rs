//! What fuzzers call: any bytes go in, and a broken rule panics.
//!
//! Each function reads its bytes as one kind of the formats on disk. The rule is the same for all: bytes that were not
//! written by the engine give an error or a value, never a panic, and a value reads the same when it is written again.
//! Where a checksum guards a format, the bytes are tried twice: as they are, and with their checksums made right, because
//! no fuzzer guesses a checksum.

use std::path::Path;

use kv_core::checksum::crc32;
use kv_core::hash::seeded;
use kv_core::store::{Batch, Operation};

use crate::blob::format::{self as blob, Pointer, Record, store_record};
use crate::blob::reader::inspect as inspect_blob;
use crate::disk::{Disk, MemDisk, OpenMode};
use crate::error::Error;
use crate::identity::place_seed;
use crate::inspect::{Files, Version};
use crate::internal_key::Trailer;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::Edit;
use crate::manifest::log as manifest;
use crate::options::Compression;
use crate::table::block::Block;
use crate::table::filter::{LINE_BYTES, hash, may_contain};
use crate::table::format::{FOOTER_BYTES, Footer, load_block, store_block};
use crate::wal::format::{CHUNK_HEADER_BYTES, Chunk, ChunkKind, HEADER_BYTES, SegmentEnd, SegmentHeader, next_chunk};
use crate::wal::reader::{LogStart, replay};
use crate::{files, wal};

/// A batch of writes, as in a record of the log.
pub fn batch(bytes: &[u8]) {
    let Ok(batch) = Batch::from_bytes(bytes.to_vec()) else { return };
    let mut again = Batch::new();
    for operation in &batch {
        match operation {
            Operation::Put { space, key, value } => again.put(space, key, value),
            Operation::PutExpiring { space, key, expire_at, value } => again.put_expiring(space, key, expire_at, value),
            Operation::Merge { space, key, operand } => again.merge(space, key, operand),
            Operation::Delete { space, key } => again.delete(space, key),
            Operation::DeleteRange { space, start, end } => again.delete_range(space, start, end),
        }
    }
    assert_eq!(again.as_bytes(), bytes, "one batch, one encoding");
}

/// A segment of the log, behind its header.
pub fn log_segment(bytes: &[u8]) {
    for chunks in [bytes.to_vec(), mended_chunks(bytes)] {
        let disk = MemDisk::new();
        let directory = Path::new("/");
        let mut segment = Vec::new();
        SegmentHeader { number: 1, start: 0, previous: SegmentEnd::default(), synced: 0 }.encode(&mut segment);
        segment.extend_from_slice(&chunks);
        let file = disk.open(&files::log(directory, 1), OpenMode::CreateNew).expect("the disk is empty");
        file.write_at(&segment, 0).expect("there is room");
        let begin = LogStart { segment: 1, position: 0, sequence: 1 };
        let mut next = 1;
        let replayed = replay(&disk, directory, &[1], begin, &mut |first, batch| {
            assert_eq!(first, next, "records follow one another");
            next += batch.len() as u64;
            Ok(())
        });
        if let Ok(replayed) = replayed {
            assert_eq!(replayed.last_sequence, next - 1, "every operation was handed out");
        }
    }
}

/// Makes the checksums right of the chunks that the bytes claim to be, from the first on.
fn mended_chunks(bytes: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; HEADER_BYTES];
    segment.extend_from_slice(bytes);
    let mut at = next_chunk(HEADER_BYTES);
    while let Some(header) = segment.get(at..at + CHUNK_HEADER_BYTES) {
        let length = usize::from(u16::from_le_bytes([header[12], header[13]]));
        let Some(covered) = segment.get(at + 4..at + CHUNK_HEADER_BYTES + length) else { break };
        let crc = crc32(&[&1_u64.to_le_bytes(), &(at as u64).to_le_bytes(), covered]);
        segment[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at = next_chunk(at + CHUNK_HEADER_BYTES + length);
    }
    if let Ok(chunk) = Chunk::read(&segment, 1, HEADER_BYTES) {
        let header = wal::format::chunk_header(1, HEADER_BYTES as u64, chunk.synced, chunk.kind, chunk.payload);
        assert_eq!(header, segment[HEADER_BYTES..HEADER_BYTES + CHUNK_HEADER_BYTES], "one chunk, one encoding");
        assert!(chunk.kind != ChunkKind::Marker || chunk.bytes() >= CHUNK_HEADER_BYTES);
    }
    segment.split_off(HEADER_BYTES)
}

/// An edit of the manifest.
pub fn manifest(bytes: &[u8]) {
    let Ok(edit) = Edit::decode(bytes) else { return };
    assert_eq!(edit.encode(), bytes, "one edit, one encoding");
    let mut catalog = Catalog::default();
    if catalog.apply(&edit).is_ok() {
        let mut again = Catalog::default();
        assert_eq!(again.apply(&catalog.as_edit()), Ok(()), "a manifest can be written anew");
        assert_eq!(again, catalog, "a manifest that is written anew says the same");
    }
}

/// A block of a table, as it lies in the file and decoded.
pub fn data_block(bytes: &[u8]) {
    drop(load_block(bytes, 1, 0));
    let kinds = [Compression::None, Compression::Lz4, Compression::Zstd(1)];
    for compression in kinds.into_iter().filter(|compression| compression.is_supported()) {
        let mut stored = Vec::new();
        store_block(&mut stored, bytes, compression, 1, 0);
        assert_eq!(load_block(&stored, 1, 0).as_deref(), Ok(bytes), "a stored block comes back");
    }
    let Ok(block) = Block::new(bytes.to_vec()) else { return };
    assert_eq!(block.bytes(), bytes.len());
    let mut key = Vec::new();
    for index in 0..block.count() {
        let entry = block.entry(index);
        key.clear();
        key.extend_from_slice(block.common_prefix());
        key.extend_from_slice(entry.key);
        assert!(block.lower_bound(&key, entry.trailer) <= block.count());
    }
    assert!(block.lower_bound(b"", Trailer::at(1)) <= block.count());
}

/// The index of a table: a block whose values are places in the file.
pub fn index_block(bytes: &[u8]) {
    data_block(bytes);
    for kind in [0, 1, 2] {
        let claimed = bytes.first_chunk::<4>().unwrap_or(&[0xff; 4]);
        compressed_block(&[&[kind], claimed.as_slice(), bytes].concat());
    }
}

/// A compressed block: the first byte says how, four more how long it claims to be, the rest is what was compressed.
pub fn compressed_block(bytes: &[u8]) {
    let Some((trailer, payload)) = bytes.split_first_chunk::<5>() else { return };
    let mut stored = [payload, trailer].concat();
    let checksum = seeded(&stored, place_seed(1, 0));
    stored.extend_from_slice(&checksum.to_le_bytes());
    let Ok(decoded) = load_block(&stored, 1, 0) else { return };
    let [kind, claimed @ ..] = *trailer;
    assert_eq!(decoded.len(), u32::from_le_bytes(claimed) as usize, "a block is as long as it claims");
    // Its length may be claimed, never believed.
    assert!(kind > 1 || decoded.len() <= payload.len().saturating_mul(256), "more than LZ4 can make of it");
    let mut again = Vec::new();
    store_block(&mut again, &decoded, Compression::Lz4, 1, 0);
    assert_eq!(load_block(&again, 1, 0).as_ref(), Ok(&decoded), "what was decoded can be stored");
}

/// A whole file, as [`crate::inspect`] reads it: the first byte says of which kind, the rest is the file.
pub fn inspect(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let directory = Path::new("/db");
    let (path, mended) = match kind % 4 {
        0 => (files::manifest(directory, 1), mended_edits(file)),
        1 => (files::table(directory, 1), mended_footer(file)),
        2 => {
            let (header, chunks) = file.split_at(file.len().min(HEADER_BYTES));
            (files::log(directory, 1), [mended_header(header, HEADER_BYTES), mended_chunks(chunks)].concat())
        }
        _ => {
            let (header, records) = file.split_at(file.len().min(blob::HEADER_BYTES));
            (files::blob(directory, 1), [header, &mended_records(records)].concat())
        }
    };
    for content in [file, &mended] {
        let disk = MemDisk::new();
        disk.create_dir(directory).expect("the disk is empty");
        let written = disk.open(&path, OpenMode::CreateNew).and_then(|file| file.write_at(content, 0));
        written.expect("the disk is empty");
        let files = Files::on(disk);
        let outcome = match kind % 4 {
            0 => files.manifest(directory).map(drop),
            1 => {
                let mut before = Vec::new();
                let in_order = |version: &Version<'_>| {
                    assert!(before.as_slice() <= version.key, "versions come in order");
                    before = version.key.to_vec();
                };
                files.table_versions(&path, in_order).map(drop)
            }
            2 => files.log(&path, |record| assert!(record.offset < content.len() as u64)).map(drop),
            _ => files.blob(&path, |record| assert!(record.offset < content.len() as u64)).map(drop),
        };
        let typed = matches!(outcome, Ok(()) | Err(Error::Corrupt { .. } | Error::Unsupported { .. }));
        assert!(typed, "{outcome:?} does not say that the bytes are wrong");
    }
}

/// Makes the checksums right of a manifest's header and of the edits that the bytes claim to be.
fn mended_edits(bytes: &[u8]) -> Vec<u8> {
    let mut manifest = mended_header(bytes, manifest::HEADER_BYTES);
    let mut at = manifest::HEADER_BYTES;
    while let Some(length) = manifest.get(at + 4..).and_then(|rest| rest.first_chunk()) {
        let end = usize::try_from(u32::from_le_bytes(*length)).ok().and_then(|length| (at + 8).checked_add(length));
        let Some(edit) = end.and_then(|end| manifest.get_mut(at..end)) else { break };
        let crc = crc32(&[&1_u64.to_le_bytes(), &(at as u64).to_le_bytes(), &edit[4..]]);
        edit[..4].copy_from_slice(&crc.to_le_bytes());
        at += edit.len();
    }
    manifest
}

/// Makes number and checksum right of the header of a manifest or log segment.
fn mended_header(bytes: &[u8], header_bytes: usize) -> Vec<u8> {
    let mut mended = bytes.to_vec();
    if let Some(header) = mended.get_mut(..header_bytes) {
        header[16..24].copy_from_slice(&1_u64.to_le_bytes());
        let crc = crc32(&[&header[..header_bytes - 4]]);
        header[header_bytes - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    mended
}

/// Makes the checksum right of the footer at the end of a table.
fn mended_footer(bytes: &[u8]) -> Vec<u8> {
    let mut table = bytes.to_vec();
    let footer_at = table.len().saturating_sub(FOOTER_BYTES);
    mend_footer(&mut table[footer_at..]);
    table
}

fn mend_footer(footer: &mut [u8]) {
    let head = footer.get_mut(..FOOTER_BYTES - 8);
    if let Some((covered, checksum)) = head.map(|head| head.split_at_mut(FOOTER_BYTES - 16)) {
        let identity = covered[64..].first_chunk().expect("the identity follows four handles");
        checksum.copy_from_slice(&seeded(covered, u64::from_le_bytes(*identity)).to_le_bytes());
    }
}

/// The filter of a table: the first byte is the key that is asked for, whole lines follow.
pub fn filter(bytes: &[u8]) {
    let Some((key, lines)) = bytes.split_first() else { return };
    let lines = &lines[..lines.len() / LINE_BYTES * LINE_BYTES];
    let answer = may_contain(lines, hash(&[*key]));
    assert!(!answer || lines.iter().any(|&byte| byte != 0), "an empty filter holds nothing");
    assert_eq!(answer, may_contain(lines, hash(&[*key])), "the same question, the same answer");
}

/// The footer of a table.
pub fn footer(bytes: &[u8]) {
    let mut mended = bytes.to_vec();
    mend_footer(&mut mended);
    for bytes in [bytes, &mended] {
        if let Ok(footer) = Footer::decode(bytes) {
            let mut again = Vec::new();
            footer.encode(&mut again);
            assert_eq!(again, bytes[..FOOTER_BYTES], "one footer, one encoding");
        }
    }
}

/// A blob file behind its header, and the pointers into one.
pub fn blob(bytes: &[u8]) {
    if let Ok(pointer) = Pointer::decode(bytes) {
        let mut again = Vec::new();
        pointer.encode(&mut again);
        assert_eq!(again, bytes, "one pointer, one encoding");
    }
    for lz4 in [false, true] {
        let mut stored = Vec::new();
        store_record(&mut stored, b"key", 1, bytes, lz4, 1, 36);
        let record = Record::load(&stored, 1, 36).expect("a stored record comes back");
        assert_eq!(record.value().as_deref(), Ok(bytes));
    }
    for behind in [bytes.to_vec(), mended_records(bytes)] {
        let (disk, path) = (MemDisk::new(), files::blob(Path::new("/"), 1));
        let mut content = Vec::new();
        blob::Header { format: blob::KNOWN, identity: 1, keyspace: 256 }.encode(&mut content);
        content.extend_from_slice(&behind);
        let file = disk.open(&path, OpenMode::CreateNew).expect("the disk is empty");
        file.write_at(&content, 0).expect("there is room");
        let mut next = blob::HEADER_BYTES as u64;
        let inspected = inspect_blob(&disk, &path, &mut |offset, record| {
            assert_eq!(offset, next, "records follow one another");
            next += (blob::RECORD_HEADER_BYTES + record.key.len() + record.stored_bytes()) as u64;
            Ok(())
        });
        if let Ok(inspected) = inspected {
            assert_eq!(next + blob::FOOTER_BYTES as u64, inspected.bytes, "every byte was looked at");
        }
    }
}

/// Makes the checksums right of the records that the bytes claim to be, and puts the footer behind them that fits.
fn mended_records(bytes: &[u8]) -> Vec<u8> {
    let mut records = bytes.to_vec();
    let (mut at, mut count) = (0, 0);
    while let Some(head) = records.get(at..).and_then(|rest| rest.first_chunk()) {
        let length = usize::try_from(blob::claimed_record_bytes(head)).expect("two lengths of 32 bits");
        let Some(record) = records.get_mut(at..).and_then(|rest| rest.get_mut(..length)) else { break };
        let seed = place_seed(1, (blob::HEADER_BYTES + at) as u64);
        let checksum = seeded(&record[8..], seed);
        record[..8].copy_from_slice(&checksum.to_le_bytes());
        count += 1;
        at += length;
    }
    records.truncate(at);
    blob::Footer { records: count, record_bytes: at as u64, identity: 1 }.encode(&mut records);
    records
}
