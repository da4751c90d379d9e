//! What a run of the mini cluster can be told.

use std::path::PathBuf;

use clap::Parser;
use thiserror::Error;

/// A whole cluster in one process: it is loaded, one node loses its power in the middle and comes back, and everything that
/// was acknowledged is read back.
#[derive(Clone, Debug, Parser)]
#[command(name = "mini_cluster", max_term_width = 100)]
pub struct Options {
    /// How many nodes, each with a port on loopback and a directory of its own
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub nodes: u64,

    /// How many keys to load; some are written more than once
    #[arg(long, default_value_t = 350_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,

    /// Length of each value
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = value_bytes)]
    pub value_bytes: usize,

    /// How many nodes hold each key; a quorum is more than half of them
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=32))]
    pub replicas: u64,

    /// Where the nodes keep their files: a directory that is empty or does not exist. It stays. Without this, a temporary
    /// directory is used and removed
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,

    /// Decides the values, which keys are written twice, and which node is killed
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,

    /// Instead of one kill: kills, pauses, partitions and lost disks one after the other, under clients that write, delete and read
    #[arg(long, conflicts_with_all = ["keys", "value_bytes", "replicas", "no_kill", "input"])]
    pub chaos: bool,

    /// For how long there is chaos
    #[arg(long, default_value_t = 60, value_name = "N", requires = "chaos", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,

    /// Leave all nodes alone
    #[arg(long)]
    pub no_kill: bool,

    /// Load the lines of this file, each a key, a tab and a value, instead of generated keys. Of lines with one key the
    /// last wins
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "value_bytes"])]
    pub input: Option<PathBuf>,
}

/// Options that contradict each other.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
pub enum InvalidOptions {
    /// A replica needs a node of its own.
    #[error("--replicas {replicas} needs as many nodes, and --nodes is {nodes}")]
    TooFewNodes {
        /// As asked for.
        replicas: u64,
        /// As asked for.
        nodes: u64,
    },
    /// With one replica of a key down, the others are no quorum.
    #[error(
        "with --replicas {replicas} a quorum is {quorum}, so no key of a node that is down can be written; \
         use --replicas 3 or more, or --no-kill"
    )]
    NoQuorumWithoutOne {
        /// As asked for.
        replicas: u64,
        /// More than half of them.
        quorum: u64,
    },
}

impl Options {
    /// Refuses what cannot work together.
    ///
    /// # Errors
    /// [`InvalidOptions`].
    pub fn check(&self) -> Result<(), InvalidOptions> {
        let Self { nodes, replicas, .. } = *self;
        if replicas > nodes {
            return Err(InvalidOptions::TooFewNodes { replicas, nodes });
        }
        let quorum = replicas / 2 + 1;
        if !self.no_kill && replicas - 1 < quorum {
            return Err(InvalidOptions::NoQuorumWithoutOne { replicas, quorum });
        }
        Ok(())
    }
}

/// A value carries its key's number, which takes room; at the other end is what the cluster takes.
fn value_bytes(text: &str) -> Result<usize, String> {
    let (min, max) = (crate::workload::VALUE_BYTES_MIN, crate::input_file::VALUE_BYTES_MAX);
    match text.parse() {
        Ok(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
        Ok(_) => Err(format!("between {min} and {max} bytes are possible")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["mini_cluster"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_defaults_fit_together() {
        let options = parse(&[]);
        assert_eq!(options.check(), Ok(()));
        assert_eq!((options.nodes, options.replicas, options.value_bytes), (5, 3, 100));
    }

    #[test]
    fn contradictions_are_refused() {
        let few = parse(&["--nodes", "2"]).check();
        assert_eq!(few, Err(InvalidOptions::TooFewNodes { replicas: 3, nodes: 2 }));
        let two = parse(&["--replicas", "2"]).check();
        assert_eq!(two, Err(InvalidOptions::NoQuorumWithoutOne { replicas: 2, quorum: 2 }));
        assert_eq!(parse(&["--replicas", "2", "--no-kill"]).check(), Ok(()));
        assert_eq!(parse(&["--replicas", "1", "--nodes", "1", "--no-kill"]).check(), Ok(()));
    }

    #[test]
    fn values_too_short_for_their_number_are_refused() {
        assert!(Options::try_parse_from(["mini_cluster", "--value-bytes", "3"]).is_err());
        assert!(Options::try_parse_from(["mini_cluster", "--value-bytes", "9000000"]).is_err());
        assert_eq!(parse(&["--value-bytes", "32"]).value_bytes, 32);
        assert!(Options::try_parse_from(["mini_cluster", "--nodes", "0"]).is_err());
        assert!(Options::try_parse_from(["mini_cluster", "--input", "f", "--keys", "3"]).is_err());
    }
}
