//! A second database with the same content, made beside the one that is open (rule E8).
//!
//! 1. Pin one position: the tables, the segments of the log, and how far the last of these counts.
//! 2. Sync the log up to there, so that a checkpoint never knows more than the database would after a power cut, and so that
//!    what is copied is what was written.
//! 3. In a directory of its own, `NAME.unfinished`: copy the log up to the position, give every immutable file a second
//!    name (or a copy, where the file system cannot), and write a new manifest. Sync all of it.
//! 4. Rename the directory. Before that there is no checkpoint, after it there is a whole one.
//!
//! The checkpoint is a database of its own, with an identity of its own: tables that it writes later do not pass for
//! tables that the other one writes under the same numbers. Those that both share keep the identity that they carry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::hash::seeded;

use crate::disk::{Disk, File, LockGuard, OpenMode, read_exact_at};
use crate::engine::Engine;
use crate::error::Error;
use crate::files;
use crate::manifest::log::{EditError, Manifest};
use crate::pin::Pin;
use crate::wal::format::marker_at;

/// Files are copied in runs of this size.
const RUN_BYTES: usize = 1 << 20;

/// Makes a checkpoint of `engine` in the directory `target`, which must not exist. Returns the number of the last operation in
/// it.
///
/// # Errors
/// See [`Database::checkpoint`](crate::Database::checkpoint).
pub(crate) fn checkpoint(engine: &Engine, target: &Path) -> Result<u64, Error> {
    engine.writable()?;
    let disk = engine.disk.as_ref();
    if exists(disk, target)? {
        return Err(Error::AlreadyExists { path: target.to_path_buf() });
    }
    let unfinished = unfinished(target)?;
    let io = |operation, path: &Path| {
        let path = path.to_path_buf();
        move |error| Error::io(operation, &path, error)
    };
    disk.create_dir(&unfinished).map_err(io("create", &unfinished))?;
    // Two checkpoints with one target would build in one directory.
    let guard = take_lock(disk, &unfinished.join(files::LOCK))?;
    clear(disk, &unfinished)?;
    let sequence = match build(engine, target, &unfinished) {
        Ok(sequence) => sequence,
        Err(error) => {
            let _ = clear(disk, &unfinished);
            return Err(error);
        }
    };
    disk.rename_dir(&unfinished, target).map_err(io("rename", &unfinished))?;
    drop(guard);
    Ok(sequence)
}

fn build(engine: &Engine, target: &Path, directory: &Path) -> Result<u64, Error> {
    let pin = Pin::take(engine)?;
    engine.syncer.sync_through(pin.last_sequence)?;
    for &number in &pin.segments {
        let (from, to) = (files::log(&engine.directory, number), files::log(directory, number));
        // A segment whose records were flushed meanwhile was not synced for it, and if it cannot be written back, what is read of
        // it may be what was there before. Nothing that was acknowledged hangs on it any more, so this poisons nothing.
        let source = engine.disk.open(&from, OpenMode::ReadWrite).map_err(|error| Error::io("open", &from, error))?;
        source.sync().map_err(|error| Error::io("sync", &from, error))?;
        if Some(&number) == pin.segments.last() {
            // Rule E4: what the copy ends with is stated durable, as an idle log states it.
            let marker = marker_at(number, pin.tail_bytes, pin.position);
            copy(engine.disk.as_ref(), &from, &to, Some(pin.tail_bytes), &marker)?;
        } else {
            copy(engine.disk.as_ref(), &from, &to, None, &[])?;
        }
    }
    for table in pin.version.trees.values().flat_map(|tree| tree.tables()) {
        let number = table.meta().number;
        let (from, to) = (files::table(&engine.directory, number), files::table(directory, number));
        link(engine.disk.as_ref(), &from, &to)?;
    }
    for &number in pin.catalog.blobs.keys() {
        let (from, to) = (files::blob(&engine.directory, number), files::blob(directory, number));
        link(engine.disk.as_ref(), &from, &to)?;
    }
    let mut catalog = pin.catalog.clone();
    let number = engine.new_file_number();
    catalog.next_file = number + 1;
    let now = (engine.config.clock)();
    let database = seeded(target.to_string_lossy().as_bytes(), engine.database ^ now.0 ^ number.rotate_left(32));
    match Manifest::create(Arc::clone(&engine.disk), directory, number, database, catalog) {
        Ok(_) => Ok(pin.last_sequence),
        Err(EditError::RolledBack(error) | EditError::Unknown(error)) => Err(error),
    }
}

/// Where a checkpoint is built: beside its target, so that it can be renamed.
fn unfinished(target: &Path) -> Result<PathBuf, Error> {
    let Some(name) = target.file_name() else {
        return Err(Error::InvalidOptions { what: format!("{} does not name a directory", target.display()) });
    };
    let mut name = name.to_os_string();
    name.push(".unfinished");
    Ok(target.with_file_name(name))
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, Error> {
    match disk.list(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(Error::io("list", path, error)),
    }
}

fn take_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn LockGuard>, Error> {
    disk.lock(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: path.to_path_buf() },
        _ => Error::io("lock", path, error),
    })
}

/// Removes what a checkpoint that was not finished left behind.
fn clear(disk: &dyn Disk, directory: &Path) -> Result<(), Error> {
    for name in disk.list(directory).map_err(|error| Error::io("list", directory, error))? {
        if name != files::LOCK {
            let path = directory.join(name);
            disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Gives a file that never changes a second name. Where there can be none (another file system, one without links, too many
/// of them) it is copied.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Error> {
    match disk.link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => copy(disk, from, to, None, &[]),
    }
}

/// Copies the first `length` bytes of a file, or all of it, with `more` behind them, and syncs the copy.
pub(crate) fn copy(disk: &dyn Disk, from: &Path, to: &Path, length: Option<u64>, more: &[u8]) -> Result<(), Error> {
    let source = disk.open(from, OpenMode::Read).map_err(|error| Error::io("open", from, error))?;
    let length = match length {
        Some(length) => length,
        None => source.len().map_err(|error| Error::io("read", from, error))?,
    };
    let copy = disk.open(to, OpenMode::CreateNew).map_err(|error| Error::io("create", to, error))?;
    let mut buffer = vec![0; RUN_BYTES.min(usize::try_from(length).unwrap_or(RUN_BYTES))];
    let mut at = 0;
    while at < length {
        let count = buffer.len().min(usize::try_from(length - at).unwrap_or(RUN_BYTES));
        read_exact_at(source.as_ref(), &mut buffer[..count], at).map_err(|error| Error::io("read", from, error))?;
        write(copy.as_ref(), to, &buffer[..count], at)?;
        at += count as u64;
    }
    if !more.is_empty() {
        write(copy.as_ref(), to, more, at)?;
    }
    if sabotaged!(LeaveCheckpointUnsynced) {
        return Ok(());
    }
    copy.sync().map_err(|error| Error::io("sync", to, error))
}

fn write(file: &dyn File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), Error> {
    file.write_at(bytes, offset).map_err(|error| Error::io("write", path, error))
}
