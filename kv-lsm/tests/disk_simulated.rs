//! The simulated disk loses what may be lost, keeps what must be kept, and fails as told.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use kv_lsm::disk::{CallKind, Disk, Effect, Fault, File, OpenMode, SimDisk, Survival, read_exact_at};

const SECTOR: usize = 512;

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

/// A file whose name is durable.
fn create_durably(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    let file = create(disk, path);
    disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = match disk.open(Path::new(path), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    Some(bytes)
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("/")).unwrap()
}

fn failed<T>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().expect("must fail").kind(), kind);
}

#[test]
fn every_subset_of_unsynced_sectors_can_survive() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.truncate(4 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    file.write_at(&[1; 4 * SECTOR], 0).unwrap();
    assert_eq!(disk.unsynced_units(), 4);
    let mut subsets = BTreeSet::new();
    for seed in 0..2000 {
        let bytes = content(&disk.reboot(Survival::Random(seed)), "/f").unwrap();
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|&byte| byte == sector[0])), "a torn sector");
        subsets.insert(sectors);
    }
    assert_eq!(subsets.len(), 16);
    let sectors = |survival| -> Vec<u8> {
        content(&disk.reboot(survival), "/f").unwrap().chunks(SECTOR).map(|sector| sector[0]).collect()
    };
    assert_eq!(sectors(Survival::None), [0, 0, 0, 0]);
    assert_eq!(sectors(Survival::All), [1, 1, 1, 1]);
    assert_eq!(sectors(Survival::AllBut(2)), [1, 1, 0, 1]);
    assert_eq!(sectors(Survival::Only(2)), [0, 0, 1, 0]);
    assert_eq!(sectors(Survival::Prefix(3)), [1, 1, 1, 0]);
}

#[test]
fn a_length_survives_apart_from_the_bytes_below_it() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(&[1; SECTOR], 0).unwrap();
    assert_eq!(disk.unsynced_units(), 2);
    let bytes = Survival::Only(0);
    let length = Survival::Only(1);
    assert_eq!(content(&disk.reboot(bytes), "/f").unwrap(), b"");
    assert_eq!(content(&disk.reboot(length), "/f").unwrap(), [0; SECTOR]);
    // Bytes beyond a length that was lost do not come back when the file grows again.
    let after = disk.reboot(bytes);
    after.open(Path::new("/f"), OpenMode::ReadWrite).unwrap().truncate(SECTOR as u64).unwrap();
    assert_eq!(content(&after, "/f").unwrap(), [0; SECTOR]);
    // A cut that is not synced may be undone.
    file.sync().unwrap();
    file.truncate(0).unwrap();
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), [1; SECTOR]);
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), b"");
}

#[test]
fn a_sector_can_survive_as_any_write_left_it() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(b"one", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"two", 0).unwrap();
    file.write_at(b"six", 0).unwrap();
    let seen: BTreeSet<_> = (0..3).map(|kept| content(&disk.reboot(Survival::Prefix(kept)), "/f").unwrap()).collect();
    assert_eq!(seen, [b"one".to_vec(), b"two".to_vec(), b"six".to_vec()].into());
}

/// Each sector after a power cut is one of those written since it was last synced.
#[test]
fn what_survives_was_synced_or_written_later() {
    for seed in 0..60_u64 {
        let disk = SimDisk::new(seed);
        let file = create_durably(&disk, "/f");
        let mut allowed = vec![BTreeSet::from([0_u8]); 24];
        let mut state = seed + 1;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        file.truncate(24 * SECTOR as u64).unwrap();
        file.sync().unwrap();
        for step in 1..=60_u8 {
            let first = usize::try_from(random(24)).unwrap();
            let count = usize::try_from(random(24 - first as u64) + 1).unwrap();
            file.write_at(&vec![step; count * SECTOR], (first * SECTOR) as u64).unwrap();
            for sector in &mut allowed[first..first + count] {
                sector.insert(step);
            }
            if random(4) == 0 {
                file.sync().unwrap();
                for sector in &mut allowed {
                    *sector = BTreeSet::from([*sector.last().unwrap()]);
                }
            }
            let survival = match random(6) {
                0 => Survival::None,
                1 => Survival::All,
                2 => Survival::AllBut(random(disk.unsynced_units() + 1)),
                3 => Survival::Prefix(random(disk.unsynced_units() + 1)),
                _ => Survival::Random(random(u64::from(u32::MAX))),
            };
            let bytes = content(&disk.reboot(survival), "/f").unwrap();
            for (sector, allowed) in bytes.chunks(SECTOR).zip(&allowed) {
                assert!(allowed.contains(&sector[0]), "seed {seed}, step {step}, {survival:?}");
            }
        }
    }
}

#[test]
fn a_name_survives_only_with_its_directory() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f");
    file.write_at(b"bytes", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk.reboot(Survival::None), "/f"), None, "a synced file has no synced name");
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), b"bytes");
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), b"bytes");
    disk.remove(Path::new("/f")).unwrap();
    disk.link(Path::new("/f"), Path::new("/g")).expect_err("the name is gone");
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), b"bytes", "an unsynced removal is undone");
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(names(&disk.reboot(Survival::None)).is_empty());
}

#[test]
fn a_rename_survives_whole_or_not_at_all() {
    let disk = SimDisk::new(1);
    for directory in ["/a", "/b"] {
        disk.create_dir(Path::new(directory)).unwrap();
    }
    create_durably(&disk, "/a/old").write_at(b"unsynced", 0).unwrap();
    create_durably(&disk, "/b/new");
    disk.rename(Path::new("/a/old"), Path::new("/b/new")).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let after = disk.reboot(Survival::Random(seed));
        outcomes.insert((after.list(Path::new("/a")).unwrap(), after.list(Path::new("/b")).unwrap()));
    }
    let (old, new) = (vec!["old".to_owned()], vec!["new".to_owned()]);
    assert_eq!(outcomes, [(old, new.clone()), (vec![], new)].into());
    // Either directory makes both effects durable.
    for directory in ["/a", "/b"] {
        let disk = disk.restart();
        disk.sync_dir(Path::new(directory)).unwrap();
        assert!(disk.reboot(Survival::None).list(Path::new("/a")).unwrap().is_empty());
    }
}

#[test]
fn a_renamed_file_can_come_back_under_either_name() {
    let disk = SimDisk::new(1);
    create(&disk, "/f.tmp");
    disk.rename(Path::new("/f.tmp"), Path::new("/f")).unwrap();
    let seen: BTreeSet<_> = (0..200).map(|seed| names(&disk.reboot(Survival::Random(seed)))).collect();
    assert_eq!(seen, [vec![], vec!["f".to_owned()], vec!["f.tmp".to_owned()]].into());
}

#[test]
fn a_directory_is_durable_at_once_but_for_a_power_cut_in_its_making() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/a/b")).unwrap();
    assert_eq!(disk.reboot(Survival::None).list(Path::new("/a")).unwrap(), ["b"]);
    disk.cut_power_after(0);
    disk.create_dir(Path::new("/c")).unwrap_err();
    assert_eq!(names(&disk.reboot(Survival::None)), ["a"]);
    assert_eq!(names(&disk.reboot(Survival::All)), ["a", "c"]);
}

#[test]
fn a_failed_sync_leaves_its_bytes_readable_and_never_durable() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(b"kept", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"lost", 0).unwrap();
    file.write_at(b"lost too", 2 * SECTOR as u64).unwrap();
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Sync));
    failed(file.sync(), ErrorKind::Other);
    let mut seen = [0; 4];
    read_exact_at(&*file, &mut seen, 0).unwrap();
    assert_eq!(&seen, b"lost");
    file.sync().expect("the pages count as clean");
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), b"kept");
    // A new process in the same boot is fooled as well.
    let restarted = disk.restart();
    assert_eq!(content(&restarted, "/f").unwrap().len(), 2 * SECTOR + 8);
    restarted.open(Path::new("/f"), OpenMode::ReadWrite).unwrap().sync().unwrap();
    assert_eq!(content(&restarted.reboot(Survival::All), "/f").unwrap(), b"kept");
    // Written again it becomes durable, and takes the rest of its sector along.
    file.write_at(b"L", 0).unwrap();
    file.write_at(b"too", 2 * SECTOR as u64 + 5).unwrap();
    file.sync().unwrap();
    let after = content(&disk.reboot(Survival::None), "/f").unwrap();
    assert_eq!(&after[..4], b"Lost");
    assert_eq!(&after[2 * SECTOR..], b"lost too");
}

#[test]
fn a_sync_that_fails_halfway_leaves_a_subset() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let file = create_durably(&disk, "/f");
        file.truncate(3 * SECTOR as u64).unwrap();
        file.sync().unwrap();
        file.write_at(&[1; 3 * SECTOR], 0).unwrap();
        disk.inject(Fault::new(Effect::FailHalfway(ErrorKind::Other)).on(CallKind::Sync));
        file.sync().unwrap_err();
        let after = content(&disk.reboot(Survival::All), "/f").unwrap();
        outcomes.insert(after.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>());
    }
    assert_eq!(outcomes.len(), 8);
}

#[test]
fn a_failed_directory_sync_is_not_made_good_by_the_next() {
    let disk = SimDisk::new(1);
    create(&disk, "/f");
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::SyncDirectory));
    disk.sync_dir(Path::new("/")).unwrap_err();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(names(&disk), ["f"]);
    assert!(names(&disk.reboot(Survival::All)).is_empty());
}

#[test]
fn a_full_disk_refuses_writes_and_room_comes_back() {
    let disk = SimDisk::new(1);
    disk.set_capacity_bytes(Some(4 * 4096));
    let file = create(&disk, "/f");
    file.allocate(2 * 4096).unwrap();
    let other = create(&disk, "/other");
    failed(other.write_at(&[1; 3 * 4096], 0), ErrorKind::StorageFull);
    assert_eq!(other.len().unwrap(), 2 * 4096, "what fits is written");
    file.write_at(&[1; 2 * 4096], 0).expect("its room was reserved");
    failed(file.write_at(&[1], 2 * 4096), ErrorKind::StorageFull);
    failed(file.allocate(3 * 4096), ErrorKind::StorageFull);
    other.write_at(&[2; 4096], 0).expect("overwriting takes no room");
    disk.remove(Path::new("/other")).unwrap();
    failed(file.allocate(3 * 4096), ErrorKind::StorageFull);
    drop(other);
    file.allocate(3 * 4096).expect("the last handle gave its room back");
    disk.set_capacity_bytes(None);
    file.allocate(30 * 4096).unwrap();
    disk.inject(Fault::new(Effect::Fail(ErrorKind::StorageFull)).on(CallKind::Sync));
    failed(file.sync(), ErrorKind::StorageFull);
}

#[test]
fn a_write_that_fails_halfway_leaves_a_part_from_its_start() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "/f");
        disk.inject(Fault::new(Effect::FailHalfway(ErrorKind::Other)).on(CallKind::Write));
        failed(file.write_at(&[1; 1000], 0), ErrorKind::Other);
        let bytes = content(&disk, "/f").unwrap();
        assert!(bytes.iter().all(|&byte| byte == 1));
        lengths.insert(bytes.len());
    }
    assert!(lengths.len() > 10, "{lengths:?}");
}

#[test]
fn reads_can_be_short_interrupted_or_fail() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f");
    file.write_at(&[5; 4000], 0).unwrap();
    disk.inject(Fault::new(Effect::ShortRead).on(CallKind::Read).for_ever());
    let mut buffer = [0; 4000];
    let count = file.read_at(&mut buffer, 0).unwrap();
    assert!((1..4000).contains(&count));
    assert_eq!(buffer[..count], vec![5; count]);
    disk.clear_faults();
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Interrupted)).on(CallKind::Read));
    failed(file.read_at(&mut buffer, 0), ErrorKind::Interrupted);
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Interrupted)).on(CallKind::Read));
    disk.inject(Fault::new(Effect::ShortRead).on(CallKind::Read).after(1));
    read_exact_at(&*file, &mut buffer, 0).expect("both are taken in stride");
    assert_eq!(buffer, [5; 4000]);
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Read));
    failed(read_exact_at(&*file, &mut buffer, 0), ErrorKind::Other);
}

#[test]
fn writes_get_lost_and_go_astray_and_syncs_lie() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(&[1; 3 * SECTOR], 0).unwrap();
    file.sync().unwrap();
    disk.inject(Fault::new(Effect::Ignore).on(CallKind::Write));
    file.write_at(&[2; SECTOR], 0).unwrap();
    assert_eq!(content(&disk, "/f").unwrap(), [1; 3 * SECTOR]);
    disk.inject(Fault::new(Effect::Misdirect(2 * SECTOR as i64)).on(CallKind::Write));
    file.write_at(&[3; SECTOR], 0).unwrap();
    let bytes = content(&disk, "/f").unwrap();
    assert_eq!((bytes[0], bytes[SECTOR], bytes[2 * SECTOR]), (1, 1, 3));
    disk.inject(Fault::new(Effect::Ignore).on(CallKind::Sync));
    file.sync().unwrap();
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), [1; 3 * SECTOR]);
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), bytes, "lied about, but not forgotten");
}

#[test]
fn bits_rot_beneath_the_file_system() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(&[0; 1000], 0).unwrap();
    disk.flip_bit(Path::new("/f"), 700, 3).unwrap();
    disk.damage(Path::new("/f"), 998, &[9; 50]).unwrap();
    let mut expected = [0; 1000];
    expected[700] = 8;
    expected[998..].fill(9);
    assert_eq!(content(&disk, "/f").unwrap(), expected);
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), expected);
    file.sync().unwrap();
    disk.flip_bit(Path::new("/f"), 700, 3).unwrap();
    expected[700] = 0;
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), expected);
    failed(disk.flip_bit(Path::new("/f"), 1000, 0), ErrorKind::UnexpectedEof);
    failed(disk.flip_bit(Path::new("/none"), 0, 0), ErrorKind::NotFound);
}

#[test]
fn faults_wait_for_the_calls_they_were_made_for() {
    let disk = SimDisk::new(1);
    let log = create(&disk, "/1.log");
    let table = create(&disk, "/1.table");
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Write).named(".log").after(1));
    table.write_at(b"a", 0).unwrap();
    log.write_at(b"a", 0).unwrap();
    log.sync().unwrap();
    table.write_at(b"b", 0).unwrap();
    failed(log.write_at(b"b", 0), ErrorKind::Other);
    log.write_at(b"b", 0).expect("once");
    disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).after(2).for_ever());
    let before = disk.mutating_calls();
    log.sync().unwrap();
    disk.list(Path::new("/")).expect("reading is not counted");
    table.sync().unwrap();
    failed(table.sync(), ErrorKind::Other);
    failed(disk.sync_dir(Path::new("/")), ErrorKind::Other);
    failed(disk.remove(Path::new("/1.log")), ErrorKind::Other);
    assert_eq!(disk.mutating_calls(), before + 5);
    disk.clear_faults();
    disk.remove(Path::new("/1.log")).unwrap();
}

/// One call of every kind that mutates.
fn script(disk: &SimDisk) -> io::Result<()> {
    let root = Path::new("/d");
    disk.create_dir(root)?;
    let _lock = disk.lock(&root.join("LOCK"))?;
    let file = disk.open(&root.join("f"), OpenMode::CreateNew)?;
    file.allocate(3000)?;
    file.write_at(&[1; 2000], 100)?;
    file.sync()?;
    file.truncate(1500)?;
    disk.link(&root.join("f"), &root.join("g"))?;
    disk.rename(&root.join("f"), &root.join("h"))?;
    disk.sync_dir(root)?;
    disk.remove(&root.join("g"))?;
    disk.sync_dir(root)
}

#[test]
fn the_power_can_be_cut_at_every_call() {
    let whole = SimDisk::new(1);
    script(&whole).unwrap();
    let calls = whole.mutating_calls();
    assert_eq!(calls, 12);
    let mut states = BTreeSet::new();
    for call in 0..calls {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        script(&disk).unwrap_err();
        assert_eq!(disk.mutating_calls(), call + 1);
        assert!(disk.power_cut_at().is_some());
        disk.list(Path::new("/")).expect_err("nothing works without power");
        disk.lock(Path::new("/LOCK")).err().expect("nothing works without power");
        // The interrupted call is unsynced: it may have happened or not.
        let (before, after) = (disk.reboot(Survival::None), disk.reboot(Survival::All));
        assert!(before.power_cut_at().is_none());
        states.insert(before.durable_hash());
        states.insert(after.durable_hash());
        for seed in 0..20 {
            states.insert(disk.reboot(Survival::Random(seed)).durable_hash());
        }
        let again = after.reboot(Survival::None);
        assert_eq!(again.durable_hash(), after.durable_hash(), "what a reboot found is durable");
    }
    assert!(states.len() > 20, "{} states", states.len());
}

#[test]
fn an_interrupted_sync_leaves_everything_undecided() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(b"x", 0).unwrap();
    disk.cut_power_after(0);
    file.sync().unwrap_err();
    failed(file.sync(), ErrorKind::Other);
    failed(file.len(), ErrorKind::Other);
    assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), b"");
    assert_eq!(content(&disk.reboot(Survival::All), "/f").unwrap(), b"x");
}

#[test]
fn the_same_seed_and_calls_give_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "/f");
        disk.inject(Fault::new(Effect::FailHalfway(ErrorKind::Other)).on(CallKind::Write).for_ever());
        for round in 0..20 {
            file.write_at(&[1; 3000], round * 1000).unwrap_err();
        }
        (0..50).map(|seed| disk.reboot(Survival::Random(seed)).durable_hash()).collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn reboots_are_independent_and_release_locks() {
    let disk = SimDisk::new(1);
    let file = create_durably(&disk, "/f");
    file.write_at(&[1; 5000], 0).unwrap();
    file.sync().unwrap();
    let guard = disk.lock(Path::new("/LOCK")).unwrap();
    let (one, two) = (disk.reboot(Survival::All), disk.reboot(Survival::All));
    one.open(Path::new("/f"), OpenMode::ReadWrite).unwrap().write_at(&[2; 100], 4050).unwrap();
    let _guard = one.lock(Path::new("/LOCK")).expect("its holder lost its power");
    failed(disk.lock(Path::new("/LOCK")).map(drop), ErrorKind::WouldBlock);
    drop(guard);
    assert_eq!(content(&two, "/f").unwrap(), [1; 5000]);
    assert_eq!(content(&disk, "/f").unwrap(), [1; 5000]);
    disk.cut_power();
    failed(file.read_at(&mut [0], 0), ErrorKind::Other);
    assert_eq!(two.files(), [("/LOCK".into(), 0), ("/f".into(), 5000)]);
}

#[test]
fn a_file_is_kept_while_a_power_cut_can_bring_its_name_back() {
    let disk = SimDisk::new(1);
    for round in 0..100_u8 {
        let file = create_durably(&disk, "/f");
        file.write_at(&[round; 10], 0).unwrap();
        file.sync().unwrap();
        drop(file);
        disk.remove(Path::new("/f")).unwrap();
        assert_eq!(content(&disk.reboot(Survival::None), "/f").unwrap(), [round; 10]);
    }
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(disk.reboot(Survival::All).files().is_empty());
}

#[test]
fn moments_hold_what_a_power_cut_at_each_call_would_leave() {
    let program = |disk: &SimDisk| -> io::Result<()> {
        let file = disk.open(Path::new("/f"), OpenMode::CreateNew)?;
        disk.sync_dir(Path::new("/"))?;
        file.write_at(&[1; 600], 0)?;
        file.sync()?;
        file.write_at(&[2; 600], 100)?;
        disk.rename(Path::new("/f"), Path::new("/g"))?;
        disk.create_dir(Path::new("/d"))
    };
    let recorded = SimDisk::new(1);
    recorded.record_moments();
    program(&recorded).unwrap();
    let mut moments = recorded.take_moments();
    moments.push(recorded.clone());
    assert!(recorded.take_moments().is_empty(), "each is handed out once");
    let hashes = |disk: &SimDisk| -> BTreeSet<u64> {
        (0..64).map(|seed| disk.reboot(Survival::Random(seed)).durable_hash()).collect()
    };
    let recorded: BTreeSet<u64> = moments.iter().flat_map(hashes).collect();
    let mut cut = BTreeSet::new();
    for call in 0..=7 {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        assert_eq!(program(&disk).is_ok(), call == 7);
        cut.extend(hashes(&disk));
    }
    // A cut before the first call leaves nothing, which is the one outcome that only a recorded disk shows.
    assert!(recorded.is_superset(&cut), "{} and {}", recorded.len(), cut.len());
    assert!(recorded.len() <= cut.len() + 1);
}

#[test]
fn a_watched_byte_tells_whether_it_was_read() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f");
    file.write_at(&[1; 1000], 0).unwrap();
    disk.watch(Path::new("/f"), 500..501).unwrap();
    let mut buffer = [0; 100];
    file.read_at(&mut buffer, 400).unwrap();
    assert!(!disk.was_looked_at(), "the bytes before it");
    file.read_at(&mut buffer, 401).unwrap();
    assert!(disk.was_looked_at());
    file.truncate(900).unwrap();
    disk.watch(Path::new("/f"), 900..1000).unwrap();
    file.read_at(&mut buffer, 100).unwrap();
    assert!(!disk.was_looked_at());
    assert_eq!(file.len().unwrap(), 900);
    assert!(disk.was_looked_at(), "whoever asks for the length sees that the bytes are gone");
}
