use std::sync::Mutex;

use super::*;
use crate::blob::writer::{BlobSettings, BlobWriter};
use crate::disk::MemDisk;
use crate::files;
use crate::table::residents::TableMemory;

const DATABASE: u64 = 5;

struct Written {
    disk: Arc<dyn Disk>,
    environment: TableEnvironment,
    path: PathBuf,
    meta: BlobMeta,
    values: Vec<(Vec<u8>, Vec<u8>, Pointer<'static>)>,
}

fn written(number: u64, lz4: bool) -> Written {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let directory = Path::new("/");
    let settings = BlobSettings { keyspace: 256, lz4, database: DATABASE };
    let mut writer = BlobWriter::create(disk.as_ref(), directory, number, settings).unwrap();
    let values = (0..5_u64)
        .map(|at| {
            let (key, value) = (format!("key {at}").into_bytes(), format!("value {at} ").repeat(30).into_bytes());
            let pointer = writer.push(&key, at + 1, &value).unwrap();
            (key, value, pointer)
        })
        .collect();
    let meta = writer.finish().unwrap();
    let environment = TableEnvironment {
        disk: Arc::clone(&disk),
        memory: Arc::new(TableMemory::new(0, 100)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    Written { disk, environment, path: files::blob(directory, number), meta, values }
}

impl Written {
    fn file(&self) -> BlobFile {
        BlobFile::new(self.meta, self.path.clone(), self.environment.clone())
    }

    fn damage(&self, at: u64, mask: u8) {
        let file = self.disk.open(&self.path, OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        read_exact_at(file.as_ref(), &mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ mask], at).unwrap();
    }
}

#[test]
fn values_come_back_one_by_one_and_in_order() {
    for lz4 in [false, true] {
        let written = written(7, lz4);
        let file = written.file();
        for (key, value, pointer) in written.values.iter().rev() {
            assert_eq!(&file.read(key, pointer).unwrap(), value);
            assert!(matches!(file.read(b"another", pointer), Err(Error::Corrupt { .. })), "a record knows its key");
        }
        let mut seen = Vec::new();
        let inspected = inspect(written.disk.as_ref(), &written.path, &mut |offset, record| {
            seen.push((record.key.to_vec(), record.value().unwrap().into_owned(), offset));
            Ok(())
        });
        let Inspected { keyspace, identity, bytes, records, .. } = inspected.unwrap();
        assert_eq!((keyspace, identity, bytes, records), (256, written.meta.identity, written.meta.bytes, 5));
        let expected = written.values.iter().map(|(key, value, pointer)| (key.clone(), value.clone(), pointer.offset));
        assert_eq!(seen, expected.collect::<Vec<_>>());
        let record_bytes: u64 = written.values.iter().map(|(.., pointer)| u64::from(pointer.record_bytes)).sum();
        assert_eq!(record_bytes, written.meta.record_bytes());
    }
}

#[test]
fn every_damaged_byte_is_found_and_spares_the_other_records() {
    let written = written(7, false);
    for at in 0..written.meta.bytes {
        written.damage(at, 0x10);
        let inspected = inspect(written.disk.as_ref(), &written.path, &mut |_, _| Ok(()));
        assert!(matches!(inspected, Err(Error::Corrupt { .. })), "byte {at}: {inspected:?}");
        let file = written.file();
        for (key, value, pointer) in &written.values {
            let hit = at < HEADER_BYTES as u64 || (pointer.offset..pointer.end().unwrap()).contains(&at);
            match file.read(key, pointer) {
                Ok(read) => assert!(!hit && read == *value, "byte {at}"),
                Err(Error::Corrupt { file, offset, .. }) => {
                    assert!(hit && file == written.path, "byte {at}");
                    assert!(offset == pointer.offset || at < HEADER_BYTES as u64, "byte {at}: offset {offset}");
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        written.damage(at, 0x10);
    }
}

#[test]
fn a_file_that_was_cut_or_belongs_elsewhere_is_refused() {
    let (written, other) = (written(7, false), written(8, false));
    let (key, _, pointer) = &written.values[0];
    let swapped = BlobFile::new(written.meta, other.path.clone(), other.environment.clone());
    assert!(matches!(swapped.read(key, pointer), Err(Error::Corrupt { offset: 0, .. })), "another file of that length");
    for beyond in [Pointer { offset: u64::MAX, ..*pointer }, Pointer { record_bytes: u32::MAX, ..*pointer }] {
        assert!(matches!(written.file().read(key, &beyond), Err(Error::Corrupt { .. })), "{beyond:?}");
    }
    let file = written.disk.open(&written.path, OpenMode::ReadWrite).unwrap();
    for length in (0..written.meta.bytes).rev() {
        file.truncate(length).unwrap();
        assert!(matches!(written.file().read(key, pointer), Err(Error::Corrupt { .. })), "cut to {length}");
        let inspected = inspect(written.disk.as_ref(), &written.path, &mut |_, _| Ok(()));
        assert!(matches!(inspected, Err(Error::Corrupt { .. })), "cut to {length}");
    }
}

#[test]
fn a_newer_file_is_refused_as_such() {
    let written = written(7, false);
    let file = written.disk.open(&written.path, OpenMode::ReadWrite).unwrap();
    for (version, features) in [(KNOWN.version + 1, 0), (KNOWN.version, 1)] {
        let format = FileFormat { version, features };
        let mut header = Vec::new();
        Header { format, identity: written.meta.identity, keyspace: 256 }.encode(&mut header);
        file.write_at(&header, 0).unwrap();
        let (key, _, pointer) = &written.values[0];
        assert!(matches!(written.file().read(key, pointer), Err(Error::Unsupported { .. })));
    }
}
