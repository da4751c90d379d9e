//! An embedded, ordered key-value engine: a log-structured merge-tree.

pub mod disk;
