//! Every disk behaves the same through the trait.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::disk::{Disk, File, MemDisk, OpenMode, OsDisk, SimDisk, VolatileDisk, read_exact_at};

/// A disk, and a directory on it that exists.
struct Place {
    name: &'static str,
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    _keep: Option<tempfile::TempDir>,
}

impl Place {
    fn on(name: &'static str, disk: impl Disk) -> Self {
        let directory = PathBuf::from("/data/here");
        disk.create_dir(&directory).unwrap();
        Self { name, disk: Arc::new(disk), directory, _keep: None }
    }

    fn on_real(name: &'static str, disk: impl Disk) -> Self {
        let keep = tempfile::tempdir().unwrap();
        Self { name, disk: Arc::new(disk), directory: keep.path().to_path_buf(), _keep: Some(keep) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.path(name), mode)
    }

    fn content(&self, name: &str) -> Vec<u8> {
        let file = self.open(name, OpenMode::Read).unwrap();
        content(&*file)
    }

    fn list(&self) -> Vec<String> {
        self.disk.list(&self.directory).unwrap()
    }
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0xaa; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

fn places() -> Vec<Place> {
    vec![
        Place::on("memory", MemDisk::new()),
        Place::on("simulated", SimDisk::new(1)),
        Place::on("volatile on memory", VolatileDisk::new(MemDisk::new())),
        Place::on("volatile on simulated", VolatileDisk::new(SimDisk::new(1))),
        Place::on_real("real", OsDisk::new()),
        Place::on_real("volatile on real", VolatileDisk::new(OsDisk::new())),
    ]
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("must fail").kind()
}

#[test]
fn a_file_is_opened_as_the_mode_says() {
    for place in places() {
        let name = place.name;
        assert_eq!(kind(place.open("a", OpenMode::Read)), ErrorKind::NotFound, "{name}");
        assert_eq!(kind(place.open("a", OpenMode::ReadWrite)), ErrorKind::NotFound, "{name}");
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(b"content", 0).unwrap();
        assert_eq!(kind(place.open("a", OpenMode::CreateNew)), ErrorKind::AlreadyExists, "{name}");
        assert_eq!(kind(place.open("none/a", OpenMode::CreateNew)), ErrorKind::NotFound, "{name}");
        let reader = place.open("a", OpenMode::Read).unwrap();
        assert_eq!(content(&*reader), b"content", "{name}");
        assert!(reader.write_at(b"x", 0).is_err(), "{name}: a file opened for reading was written");
        assert!(reader.truncate(0).is_err(), "{name}: a file opened for reading was cut");
        // Both openings are of one file, and a reader opened first does not keep a later writer from writing.
        let writer = place.open("a", OpenMode::ReadWrite).unwrap();
        writer.write_at(b"C", 0).unwrap();
        assert_eq!(content(&*reader), b"Content", "{name}");
        writer.sync().unwrap();
        assert_eq!(content(&*file), b"Content", "{name}");
    }
}

#[test]
fn reads_and_writes_go_where_they_are_told() {
    for place in places() {
        let name = place.name;
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        assert!(file.is_empty().unwrap());
        let mut buffer = [7; 10];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 0, "{name}");
        file.write_at(b"tail", 6000).unwrap();
        file.write_at(b"", 9000).unwrap();
        assert_eq!(file.len().unwrap(), 6004, "{name}: writing nothing changes nothing");
        assert_eq!(file.read_at(&mut buffer, 5998).unwrap(), 6, "{name}");
        assert_eq!(&buffer, b"\0\0tail\x07\x07\x07\x07", "{name}");
        assert_eq!(kind(read_exact_at(&*file, &mut buffer, 5998)), ErrorKind::UnexpectedEof, "{name}");
        assert_eq!(file.read_at(&mut buffer, u64::from(u32::MAX)).unwrap(), 0, "{name}");
        file.sync().unwrap();
        file.write_at(&[1; 8192], 100).unwrap();
        let mut expected = vec![0; 100];
        expected.extend_from_slice(&[1; 8192]);
        assert_eq!(content(&*file), expected, "{name}");
    }
}

#[test]
fn what_a_truncate_adds_reads_as_zeros() {
    for place in places() {
        let name = place.name;
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(&[9; 5000], 0).unwrap();
        file.sync().unwrap();
        file.truncate(1000).unwrap();
        file.truncate(6000).unwrap();
        let mut expected = vec![9; 1000];
        expected.resize(6000, 0);
        assert_eq!(content(&*file), expected, "{name}");
        file.sync().unwrap();
        assert_eq!(content(&*file), expected, "{name}");
        file.truncate(10).unwrap();
        file.write_at(&[8], 20).unwrap();
        let mut expected = vec![9; 10];
        expected.resize(20, 0);
        expected.push(8);
        assert_eq!(content(&*file), expected, "{name}");
        file.sync().unwrap();
        drop(file);
        assert_eq!(place.content("a"), expected, "{name}");
    }
}

#[test]
fn allocating_grows_and_never_shrinks_or_overwrites() {
    for place in places() {
        let name = place.name;
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.allocate(0).unwrap();
        file.allocate(2).unwrap();
        assert_eq!(content(&*file), b"abc", "{name}");
        file.allocate(5).unwrap();
        assert_eq!(content(&*file), b"abc\0\0", "{name}");
        file.truncate(1).unwrap();
        file.allocate(3).unwrap();
        file.sync().unwrap();
        assert_eq!(content(&*file), b"a\0\0", "{name}");
    }
}

#[test]
fn names_follow_rename_link_and_remove() {
    for place in places() {
        let name = place.name;
        for (file, bytes) in [("a", b"A"), ("b", b"B")] {
            place.open(file, OpenMode::CreateNew).unwrap().write_at(bytes, 0).unwrap();
        }
        assert_eq!(kind(place.disk.rename(&place.path("x"), &place.path("y"))), ErrorKind::NotFound, "{name}");
        assert_eq!(kind(place.disk.link(&place.path("x"), &place.path("y"))), ErrorKind::NotFound, "{name}");
        assert_eq!(kind(place.disk.link(&place.path("a"), &place.path("b"))), ErrorKind::AlreadyExists, "{name}");
        assert_eq!(kind(place.disk.remove(&place.path("x"))), ErrorKind::NotFound, "{name}");
        let replaced = place.open("b", OpenMode::ReadWrite).unwrap();
        place.disk.rename(&place.path("a"), &place.path("b")).unwrap();
        assert_eq!(place.list(), ["b"], "{name}");
        assert_eq!(place.content("b"), b"A", "{name}");
        assert_eq!(content(&*replaced), b"B", "{name}: open handles go on working");
        place.disk.link(&place.path("b"), &place.path("c")).unwrap();
        place.open("c", OpenMode::ReadWrite).unwrap().write_at(b"AA", 0).unwrap();
        assert_eq!(place.content("b"), b"AA", "{name}: two names of one file");
        place.disk.sync_dir(&place.directory).unwrap();
        place.disk.remove(&place.path("b")).unwrap();
        assert_eq!(kind(place.open("b", OpenMode::Read)), ErrorKind::NotFound, "{name}");
        // The name is free at once, for a new file and for a renamed one.
        place.open("b", OpenMode::CreateNew).unwrap().write_at(b"new", 0).unwrap();
        place.disk.rename(&place.path("b"), &place.path("d")).unwrap();
        place.open("b", OpenMode::CreateNew).unwrap();
        place.disk.sync_dir(&place.directory).unwrap();
        assert_eq!(place.list(), ["b", "c", "d"], "{name}");
        assert_eq!(place.content("b"), b"", "{name}");
        assert_eq!(place.content("c"), b"AA", "{name}");
        assert_eq!(place.content("d"), b"new", "{name}");
    }
}

#[test]
fn a_removed_file_lives_on_in_its_handles() {
    for place in places() {
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(b"still", 0).unwrap();
        place.disk.remove(&place.path("a")).unwrap();
        place.disk.sync_dir(&place.directory).unwrap();
        file.write_at(b" here", 5).unwrap();
        file.sync().unwrap();
        assert_eq!(content(&*file), b"still here", "{}", place.name);
        assert!(place.list().is_empty(), "{}", place.name);
    }
}

#[test]
fn directories_are_made_with_their_parents_and_listed() {
    for place in places() {
        let name = place.name;
        let deep = place.path("one/two/three");
        place.disk.create_dir(&deep).unwrap();
        place.disk.create_dir(&deep).unwrap();
        place.disk.open(&deep.join("file"), OpenMode::CreateNew).unwrap();
        place.open("z", OpenMode::CreateNew).unwrap();
        place.open("one-more", OpenMode::CreateNew).unwrap();
        assert_eq!(place.list(), ["one", "one-more", "z"], "{name}");
        assert_eq!(place.disk.list(&place.path("one")).unwrap(), ["two"], "{name}");
        assert_eq!(place.disk.list(&deep).unwrap(), ["file"], "{name}");
        assert_eq!(kind(place.disk.list(&place.path("none"))), ErrorKind::NotFound, "{name}");
        assert_eq!(kind(place.disk.sync_dir(&place.path("none"))), ErrorKind::NotFound, "{name}");
        assert!(place.disk.create_dir(&place.path("z")).is_err(), "{name}: a file is no directory");
        assert!(place.disk.create_dir(&place.path("z/below")).is_err(), "{name}: a file is no parent");
        assert!(place.disk.remove(&place.path("one")).is_err(), "{name}: a directory is not removed as a file");
        assert!(place.disk.rename(&place.path("z"), &place.path("one")).is_err(), "{name}: a directory was replaced");
    }
}

#[test]
fn a_lock_is_held_once_and_freed_by_its_guard() {
    for place in places() {
        let name = place.name;
        let path = place.path("LOCK");
        let guard = place.disk.lock(&path).unwrap();
        let refused = place.disk.lock(&path).err().expect("held already");
        assert_eq!(refused.kind(), ErrorKind::WouldBlock, "{name}");
        assert!(refused.to_string().contains("LOCK"), "{name}: {refused}");
        drop(guard);
        let _guard = place.disk.lock(&path).unwrap();
        assert_eq!(place.list(), ["LOCK"], "{name}");
    }
}

#[test]
fn readers_share_a_lock_and_keep_a_writer_out() {
    for place in places() {
        let name = place.name;
        let path = place.path("LOCK");
        assert_eq!(kind(place.disk.lock_shared(&path)), ErrorKind::NotFound, "{name}: it is not created");
        assert_eq!(place.list(), Vec::<String>::new(), "{name}");
        drop(place.disk.lock(&path).unwrap());
        let one = place.disk.lock_shared(&path).unwrap();
        let other = place.disk.lock_shared(&path).unwrap();
        assert_eq!(kind(place.disk.lock(&path)), ErrorKind::WouldBlock, "{name}");
        drop(one);
        assert_eq!(kind(place.disk.lock(&path)), ErrorKind::WouldBlock, "{name}: one reader is left");
        drop(other);
        let guard = place.disk.lock(&path).unwrap();
        assert_eq!(kind(place.disk.lock_shared(&path)), ErrorKind::WouldBlock, "{name}");
        drop(guard);
        drop(place.disk.lock_shared(&path).unwrap());
    }
}

#[test]
fn a_directory_is_renamed_with_all_that_is_in_it() {
    for place in places() {
        let name = place.name;
        let (from, to) = (place.path("from"), place.path("to"));
        assert_eq!(kind(place.disk.rename_dir(&from, &to)), ErrorKind::NotFound, "{name}");
        place.disk.create_dir(&from.join("deep")).unwrap();
        for file in ["a", "deep/b"] {
            let written = place.disk.open(&from.join(file), OpenMode::CreateNew).unwrap();
            written.write_at(file.as_bytes(), 0).unwrap();
            written.sync().unwrap();
        }
        place.disk.sync_dir(&from).unwrap();
        place.disk.sync_dir(&from.join("deep")).unwrap();
        place.disk.create_dir(&to).unwrap();
        assert_eq!(kind(place.disk.rename_dir(&from, &to)), ErrorKind::AlreadyExists, "{name}");
        let to = place.path("other");
        place.disk.rename_dir(&from, &to).unwrap();
        assert_eq!(place.list(), ["other", "to"], "{name}");
        assert_eq!(place.disk.list(&to).unwrap(), ["a", "deep"], "{name}");
        assert_eq!(place.content("other/a"), b"a", "{name}");
        assert_eq!(place.content("other/deep/b"), b"deep/b", "{name}");
        assert_eq!(kind(place.disk.list(&from)), ErrorKind::NotFound, "{name}");
    }
}

/// The same random calls on every disk give the same results.
#[test]
fn all_disks_agree_on_random_calls() {
    for seed in 0..25_u64 {
        let mut expected: Option<Vec<String>> = None;
        for place in places() {
            let seen = random_calls(&place, seed);
            match &expected {
                None => expected = Some(seen),
                Some(expected) => {
                    for (step, (wanted, got)) in expected.iter().zip(&seen).enumerate() {
                        assert_eq!(got, wanted, "{}, seed {seed}, step {step}", place.name);
                    }
                }
            }
        }
    }
}

fn random_calls(place: &Place, seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let outcome = |result: io::Result<String>| result.unwrap_or_else(|error| format!("{:?}", error.kind()));
    let mut handles: Vec<Arc<dyn File>> = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..300 {
        // Links get names of their own: renaming one name of a file onto another is the one thing left open.
        let from = format!("f{}", random(4));
        let to = format!("f{}", random(4));
        let linked = format!("l{}", random(2));
        let offset = random(9000);
        let length = usize::try_from(random(6000)).unwrap();
        let byte = u8::try_from(random(255) + 1).unwrap();
        let which = usize::try_from(random(64)).unwrap();
        let handle = handles.get(which % handles.len().max(1)).cloned();
        let choice = random(22);
        let result = match (choice, handle) {
            (0..=3, _) => {
                let mode = [OpenMode::CreateNew, OpenMode::CreateNew, OpenMode::ReadWrite, OpenMode::Read][which % 4];
                place.open(&from, mode).map(|file| {
                    if mode != OpenMode::Read {
                        handles.push(file);
                    }
                    "open".to_owned()
                })
            }
            (4, _) if from != to => place.disk.rename(&place.path(&from), &place.path(&to)).map(|()| "renamed".into()),
            (5, _) => place.disk.link(&place.path(&from), &place.path(&linked)).map(|()| "linked".into()),
            (6, _) => place.disk.remove(&place.path(&from)).map(|()| "removed".into()),
            (7, _) => place.disk.remove(&place.path(&linked)).map(|()| "removed".into()),
            (8, _) => place.disk.sync_dir(&place.directory).map(|()| "synced".into()),
            (9, _) => Ok(place.list().join(",")),
            (10, Some(_)) => {
                handles.swap_remove(which % handles.len());
                Ok("closed".into())
            }
            (11..=14, Some(file)) => file.write_at(&vec![byte; length], offset).map(|()| "written".into()),
            (15, Some(file)) => file.truncate(offset).map(|()| "cut".into()),
            (16, Some(file)) => file.allocate(offset).map(|()| "allocated".into()),
            (17, Some(file)) => file.sync().map(|()| "synced".into()),
            (18, Some(file)) => file.len().map(|length| length.to_string()),
            (_, Some(file)) => {
                let mut buffer = vec![0; length];
                read_at_most(&*file, &mut buffer, offset).map(|count| format!("{:?}", &buffer[..count]))
            }
            _ => Ok("nothing".into()),
        };
        seen.push(outcome(result));
    }
    for name in place.list() {
        seen.push(format!("{name} {:?}", place.content(&name)));
    }
    seen
}

fn read_at_most(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let length = file.len()?.saturating_sub(offset);
    let count = buffer.len().min(usize::try_from(length).unwrap());
    read_exact_at(file, &mut buffer[..count], offset)?;
    Ok(count)
}

#[test]
fn threads_share_a_file() {
    for place in places() {
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let file = &file;
                scope.spawn(move || {
                    for round in 0..50_u64 {
                        let offset = (round * 4 + u64::from(thread)) * 100;
                        file.write_at(&[thread + 1; 100], offset).unwrap();
                        file.sync().unwrap();
                        let mut back = [0; 100];
                        read_exact_at(&**file, &mut back, offset).unwrap();
                        assert_eq!(back, [thread + 1; 100]);
                    }
                });
            }
        });
        let bytes = place.content("a");
        assert_eq!(bytes.len(), 20_000, "{}", place.name);
        for (index, chunk) in bytes.chunks(100).enumerate() {
            assert!(chunk.iter().all(|&byte| usize::from(byte) == index % 4 + 1), "{}", place.name);
        }
    }
}

#[test]
fn the_working_directory_is_the_empty_path() {
    let disk = OsDisk::new();
    disk.sync_dir(Path::new("")).unwrap();
    assert!(disk.list(Path::new("")).unwrap().contains(&"Cargo.toml".to_owned()));
}

#[test]
fn what_is_stored_is_what_is_written() {
    for place in places() {
        let name = place.name;
        let file = place.open("a", OpenMode::CreateNew).unwrap();
        let reader = place.open("a", OpenMode::Read).unwrap();
        assert!(reader.store_at(b"x", 0).is_err(), "{name}: a file opened for reading was changed");
        let mut expected = Vec::new();
        let put = |expected: &mut Vec<u8>, bytes: &[u8], at: usize| {
            expected.resize(expected.len().max(at + bytes.len()), 0);
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        };
        file.store_at(b"beyond the end", 0).unwrap();
        put(&mut expected, b"beyond the end", 0);
        file.allocate(300_000).unwrap();
        expected.resize(300_000, 0);
        // Small and large ones, in order and not, over writes and under them, synced now and then.
        for round in 0..2_000_usize {
            let bytes =
                vec![u8::try_from(round % 251).unwrap() + 1; if round % 100 == 7 { 20_000 } else { round % 300 }];
            let at = if round % 50 == 3 { round * 977 % 270_000 } else { (round * 140).min(299_000 - bytes.len()) };
            match round % 9 {
                4 => file.write_at(&bytes, at as u64).unwrap(),
                _ => file.store_at(&bytes, at as u64).unwrap(),
            }
            put(&mut expected, &bytes, at);
            if round % 400 == 0 {
                file.sync().unwrap();
            }
        }
        assert_eq!(content(&*reader), expected, "{name}");
        // A file that is cut is not stored to where it was mapped.
        file.truncate(5_000).unwrap();
        expected.truncate(5_000);
        file.store_at(&[9; 100], 280_000).unwrap();
        put(&mut expected, &[9; 100], 280_000);
        file.store_at(&[8; 100], 4_950).unwrap();
        put(&mut expected, &[8; 100], 4_950);
        assert_eq!(content(&*reader), expected, "{name}");
        assert_eq!(kind(file.store_at(b"x", u64::MAX)), kind(file.write_at(b"x", u64::MAX)), "{name}");
    }
}
