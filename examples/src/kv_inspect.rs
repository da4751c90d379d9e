//! Looks into the files of a database, checks them, and copies what is in them out and back in.
//!
//! Nothing but `import` changes a byte on the disk. A database that somebody has open to be written is refused as locked: take a
//! checkpoint and look at that. Files named one by one (`table`, `log`, `blob`) are read whoever has them open.
//!
//! Text goes to standard output, or one JSON document with `--json`; a progress bar goes to standard error when that is a
//! terminal. Keys are shown with everything but printable ASCII escaped as in Rust (`\n`, `\xff`, `\\`), in both.

pub mod arguments;
mod blob;
mod columns;
mod error;
mod export;
mod import;
mod levels;
mod log;
mod manifest;
mod progress;
mod report;
mod stats;
pub mod stream;
mod table;
mod verify;

pub use error::ToolError;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::Path;

use kv_lsm::inspect::Files;

use arguments::{Arguments, Command};
use progress::Bar;
use report::Report;

/// Does what the arguments ask for, writes the report to `out`, and returns whether everything is in order: `false` when a
/// verification found something wrong.
///
/// # Errors
/// [`ToolError`]. What an export wrote to a file is removed then; what an import applied stays.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<bool, ToolError> {
    let files = Files::default();
    let mut is_sound = true;
    let report = match &arguments.command {
        Command::Stats { directory } => stats::report(&files.manifest(directory)?),
        Command::Manifest { directory } => manifest::report(&files.manifest(directory)?),
        Command::Levels { directory } => levels::report(&files.manifest(directory)?),
        Command::Table { file, entries } => table::report(&files, file, *entries)?,
        Command::Log { file } => log::report(&files, file)?,
        Command::Blob { file, entries } => blob::report(&files, file, *entries)?,
        Command::Verify { directory } => {
            let report = verify::verify(directory, &Bar::bytes())?;
            is_sound = report.is_sound();
            verify::report(&report)
        }
        Command::Export { directory, output: Some(file), keyspaces } => export_to_file(directory, file, keyspaces)?,
        Command::Export { directory, output: None, keyspaces } => {
            if io::stdout().is_terminal() {
                return Err(ToolError::Terminal);
            }
            let summary = export::export(directory, keyspaces, out, &Bar::entries())?;
            out.flush().map_err(ToolError::Output)?;
            // Standard output is the stream's.
            return export::report(&summary).write(arguments.json, &mut io::stderr()).map(|()| true);
        }
        Command::Import { directory, input } => import_from(directory, input.as_deref())?,
    };
    report.write(arguments.json, out)?;
    Ok(is_sound)
}

fn export_to_file(directory: &Path, path: &Path, keyspaces: &[String]) -> Result<Report, ToolError> {
    let write = || {
        let mut file = BufWriter::new(File::create_new(path).map_err(ToolError::Output)?);
        let exported = export::export(directory, keyspaces, &mut file, &Bar::entries()).and_then(|summary| {
            let file = file.into_inner().map_err(|error| ToolError::Output(error.into_error()))?;
            file.sync_all().map_err(ToolError::Output)?;
            Ok(summary)
        });
        if exported.is_err() {
            // It was made here, and holds half of what it should.
            let _ = fs::remove_file(path);
        }
        exported
    };
    Ok(export::report(&write()?))
}

fn import_from(directory: &Path, input: Option<&Path>) -> Result<Report, ToolError> {
    let Some(path) = input else {
        return Ok(import::report(&import::import(directory, io::stdin().lock(), &Bar::bytes())?));
    };
    let open = || File::open(path).map(BufReader::new).map_err(ToolError::Input);
    let bytes = fs::metadata(path).map_err(ToolError::Input)?.len();
    // What can be read twice is read through before anything is changed.
    let bar = Bar::bytes();
    bar.begin(2 * bytes);
    stream::check(open()?, &mut |offset| bar.reach(offset))?;
    bar.skip(bytes);
    Ok(import::report(&import::import(directory, open()?, &bar)?))
}
