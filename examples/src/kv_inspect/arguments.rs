//! What the tool can be told.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Looks into the files of a database, without changing them
#[derive(Clone, Debug, Parser)]
#[command(name = "kv_inspect", max_term_width = 100)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// A command.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// How much there is of what, by keyspace
    Stats {
        /// Directory of the database
        directory: PathBuf,
    },
    /// What the manifest says: keyspaces with their options, blob files, where the log begins
    Manifest {
        /// Directory of the database
        directory: PathBuf,
    },
    /// The tables of every level
    Levels {
        /// Directory of the database
        directory: PathBuf,
    },
    /// One table: footer, properties, blocks
    Table {
        /// A file `….table`
        file: PathBuf,
        /// Print every version of every key as well
        #[arg(long)]
        entries: bool,
    },
    /// The records of one segment of the log
    Log {
        /// A file `….log`
        file: PathBuf,
    },
    /// One file of separated values
    Blob {
        /// A file `….blob`
        file: PathBuf,
        /// Print every record as well
        #[arg(long)]
        entries: bool,
    },
    /// Read everything and check what must hold; exits with 1 when something is wrong
    Verify {
        /// Directory of the database
        directory: PathBuf,
    },
    /// Write what is in the keyspaces to a file or to standard output
    Export {
        /// Directory of the database
        directory: PathBuf,
        /// A file that does not exist yet; without this, standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only this keyspace; may be given several times
        #[arg(long = "keyspace", value_name = "NAME")]
        keyspaces: Vec<String>,
    },
    /// Write an export into a database, which is created when there is none
    Import {
        /// Directory of the database
        directory: PathBuf,
        /// An export; without this, standard input
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
}
