//! A checkpoint is there whole, at exactly one position, or not at all.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kv_lsm::battery::content::Content;
use kv_lsm::battery::drive::{OnError, run};
use kv_lsm::battery::inspect::survivals;
use kv_lsm::battery::settings::Settings;
use kv_lsm::battery::subject::{DIRECTORY, Subject, checkpoint};
use kv_lsm::battery::trace::{self, Step, Trace, batch};
use kv_lsm::disk::{CallKind, Disk, Effect, Fault, OpenMode, SimDisk, Survival, read_exact_at};
use kv_lsm::{Durability, Error};

/// What each checkpoint of a trace must hold, by where it lies.
fn expected(trace: &Trace) -> BTreeMap<PathBuf, Content> {
    let mut expected = BTreeMap::new();
    for (at, step) in trace.steps.iter().enumerate() {
        if matches!(step, Step::Checkpoint) {
            let disk = SimDisk::new(1);
            let before = Trace { steps: trace.steps[..at].to_vec(), ..trace.clone() };
            run(&disk, &before, OnError::Stop);
            let engine = Subject::open(&disk, trace.settings).unwrap();
            expected.insert(checkpoint(engine.database.snapshot().sequence()), engine.content().unwrap());
        }
    }
    expected
}

fn exists(disk: &SimDisk, directory: &Path) -> bool {
    disk.list(directory).is_ok()
}

#[test]
fn engine_rule_08_a_checkpoint_is_whole_or_absent_after_every_power_cut() {
    let trace = trace::checkpoints();
    let expected = expected(&trace);
    assert!(expected.len() > 2);
    let whole = SimDisk::new(1);
    run(&whole, &trace, OnError::Stop);
    let (mut there, mut absent) = (0, 0);
    for call in 0..=whole.mutating_calls() {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        run(&disk, &trace, OnError::Stop);
        for survival in survivals(&disk, call, 2) {
            let after = disk.reboot(survival);
            for (directory, content) in &expected {
                if !exists(&after, directory) {
                    absent += 1;
                    continue;
                }
                there += 1;
                let context =
                    format!("{} after call {call} {:?}, {survival:?}", directory.display(), disk.power_cut_at());
                let engine = Subject::open_in(directory, &after, trace.settings)
                    .unwrap_or_else(|error| panic!("{context}: cannot be opened: {error}"));
                assert_eq!(engine.content().unwrap(), *content, "{context}");
            }
        }
    }
    assert!(there > 100 && absent > 100, "{there} there, {absent} absent");
}

/// The database and its checkpoint share files, and neither sees what the other does.
#[test]
fn engine_rule_08_a_checkpoint_lives_apart_from_its_database() {
    let trace = trace::checkpoints();
    let disk = SimDisk::new(1);
    run(&disk, &trace, OnError::Stop);
    let expected = expected(&trace);
    let (directory, content) = expected.iter().next_back().unwrap();
    let engine = Subject::open(&disk, trace.settings).unwrap();
    let copy = Subject::open_in(directory, &disk, trace.settings).unwrap();
    let before = engine.content().unwrap();
    for number in 300..310 {
        copy.write(&batch(number, 50), Durability::Sync).unwrap();
        assert_eq!(engine.content().unwrap(), before);
    }
    for keyspace in &engine.keyspaces {
        keyspace.delete_range("".."~").unwrap();
        keyspace.compact_range(..).unwrap();
    }
    while engine.database.step().unwrap() {}
    assert!(engine.content().unwrap().is_empty());
    let changed = copy.content().unwrap();
    assert_ne!(changed, *content);
    drop(copy);
    let copy = Subject::open_in(directory, &disk, trace.settings).unwrap();
    assert_eq!(copy.content().unwrap(), changed, "what the checkpoint shares is not removed with the database's");
}

/// Rule E14: a table of one database is not taken for the table that the other wrote under the same number.
#[test]
fn engine_rule_14_a_table_of_a_checkpoint_does_not_pass_for_one_of_its_database() {
    let disk = SimDisk::new(1);
    let engine = Subject::open(&disk, Settings::LARGE).unwrap();
    engine.write(&batch(1, 50), Durability::Sync).unwrap();
    engine.database.checkpoint("/copy").unwrap();
    drop(engine);
    // The same calls, one after the other, give both the same numbers; only the values differ.
    let bytes = |directory: &Path| {
        let engine = Subject::open_in(directory, &disk, Settings::LARGE).unwrap();
        let value = if directory == Path::new("/copy") { "copy" } else { "base" };
        engine.keyspaces[0].put("key", value).unwrap();
        engine.database.flush().unwrap();
        drop(engine);
        let files = disk.files().into_iter().map(|(path, _)| path);
        let tables =
            files.filter(|path| path.parent() == Some(directory) && path.extension() == Some("table".as_ref()));
        tables
            .map(|path| {
                let file = disk.open(&path, OpenMode::Read).unwrap();
                let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
                read_exact_at(&*file, &mut bytes, 0).unwrap();
                (path.file_name().unwrap().to_owned(), bytes)
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (ours, theirs) = (bytes(Path::new(DIRECTORY)), bytes(Path::new("/copy")));
    let mut swapped = 0;
    for (name, other) in &theirs {
        let Some(own) = ours.get(name).filter(|own| own.len() == other.len() && *own != other) else { continue };
        let damaged = disk.reboot(Survival::All);
        let path = Path::new(DIRECTORY).join(name);
        damaged.damage(&path, 0, other).unwrap();
        assert_ne!(own, other);
        let engine = Subject::open(&damaged, Settings::LARGE);
        let found = engine.and_then(|engine| engine.content());
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{}: {found:?}", path.display());
        swapped += 1;
    }
    assert!(swapped > 0, "no table was written under the same number: {:?} {:?}", ours.keys(), theirs.keys());
}

#[test]
fn a_checkpoint_on_another_file_system_copies() {
    for kind in [ErrorKind::CrossesDevices, ErrorKind::Unsupported, ErrorKind::PermissionDenied] {
        let disk = SimDisk::new(1);
        let engine = Subject::open(&disk, Settings::LARGE).unwrap();
        for number in 0..6 {
            engine.write(&batch(number, 50), Durability::Buffered).unwrap();
            engine.database.flush().unwrap();
        }
        disk.inject(Fault::new(Effect::Fail(kind)).on(CallKind::Link).for_ever());
        engine.database.checkpoint("/else/where/copy").unwrap();
        let after = disk.reboot(Survival::None);
        let copy = Subject::open_in(Path::new("/else/where/copy"), &after, Settings::LARGE).unwrap();
        assert_eq!(copy.content().unwrap(), engine.content().unwrap(), "{kind:?}");
    }
}

#[test]
fn a_target_that_cannot_be_is_refused_and_left_alone() {
    let disk = SimDisk::new(1);
    let engine = Subject::open(&disk, Settings::LARGE).unwrap();
    engine.write(&batch(1, 50), Durability::Sync).unwrap();
    disk.create_dir(Path::new("/there")).unwrap();
    disk.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
    let files = disk.files();
    for target in ["/there", "/file", DIRECTORY] {
        let refused = engine.database.checkpoint(target);
        assert!(matches!(&refused, Err(Error::AlreadyExists { path }) if path == Path::new(target)), "{refused:?}");
    }
    assert!(matches!(engine.database.checkpoint("/"), Err(Error::AlreadyExists { .. } | Error::InvalidOptions { .. })));
    assert_eq!(disk.files(), files);
}

/// A full disk refuses the checkpoint, and the next one does not trip over what it left.
#[test]
fn a_checkpoint_that_failed_is_made_again() {
    let trace = trace::checkpoints();
    let disk = SimDisk::new(1);
    run(&disk, &trace, OnError::Stop);
    let engine = Subject::open(&disk, trace.settings).unwrap();
    engine.write(&batch(400, 500), Durability::Sync).unwrap();
    let content = engine.content().unwrap();
    let calls = {
        let before = disk.mutating_calls();
        engine.database.checkpoint("/first").unwrap();
        disk.mutating_calls() - before
    };
    for call in 0..calls - 1 {
        disk.inject(Fault::new(Effect::Fail(ErrorKind::StorageFull)).after(call).for_ever());
        let refused = engine.database.checkpoint("/second");
        disk.clear_faults();
        if refused.is_ok() {
            // The call that failed was a link, which a copy stood in for, or the removal of a file.
            break;
        }
        assert!(!matches!(refused, Err(Error::Poisoned { .. })), "call {call}: the log needs no sync");
        assert!(!exists(&disk, Path::new("/second")), "call {call}: {refused:?}");
        assert_eq!(engine.content().unwrap(), content);
    }
    if !exists(&disk, Path::new("/second")) {
        engine.database.checkpoint("/second").unwrap();
    }
    let copy = Subject::open_in(Path::new("/second"), &disk.reboot(Survival::None), trace.settings).unwrap();
    assert_eq!(copy.content().unwrap(), content);
    assert_eq!(disk.list(Path::new("/")).unwrap().iter().filter(|name| name.ends_with(".unfinished")).count(), 0);
}

/// Rule E4: the last record of a copied log is stated durable, so damage to it is not taken for a torn tail.
#[test]
fn engine_rule_04_damage_to_the_log_of_a_checkpoint_is_corruption() {
    let disk = SimDisk::new(1);
    let engine = Subject::open(&disk, Settings::LARGE).unwrap();
    engine.write(&batch(1, 50), Durability::Buffered).unwrap();
    engine.database.checkpoint("/copy").unwrap();
    let log = disk
        .files()
        .into_iter()
        .find(|(path, _)| path.starts_with("/copy") && path.extension() == Some("log".as_ref()));
    let (path, length) = log.expect("a log");
    for offset in 64..length - 15 {
        let damaged = disk.reboot(Survival::All);
        damaged.flip_bit(&path, offset, 3).unwrap();
        let opened = Subject::open_in(Path::new("/copy"), &damaged, Settings::LARGE).map(drop);
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "byte {offset}: {opened:?}");
    }
}
