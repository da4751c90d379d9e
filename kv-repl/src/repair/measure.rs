//! Computes the hashes that a question is about, in as many steps as it takes.

use std::ops::RangeInclusive;

use kv_core::hash::Token;
use kv_core::store::StoreError;

use super::span::Span;
use super::tree::{Reading, Summary, Tree};
use crate::comparison::Branch;

/// The summaries of some branches, each as of some moment after the question came.
#[derive(Debug)]
pub(super) struct Measure {
    spans: Vec<Span>,
    question: u64,
    /// Where reading goes on within the first span that has no summary yet.
    resume: Option<u64>,
    done: Vec<Summary>,
}

impl Measure {
    /// Begins; `None` when a branch lies below a single token.
    pub(super) fn begin(
        tree: &mut Tree,
        partition: &RangeInclusive<Token>,
        branches: impl Iterator<Item = Branch>,
    ) -> Option<Self> {
        let table = tree.span().table;
        let spans: Option<Vec<Span>> =
            branches.map(|branch| Some(Span::new(table, &branch.tokens(partition)?))).collect();
        Some(Self { spans: spans?, question: tree.ask(), resume: None, done: Vec::new() })
    }

    /// Goes on, and says whether everything is computed.
    pub(super) fn step(&mut self, tree: &mut Tree, reading: &mut Reading<'_>) -> Result<bool, StoreError> {
        while let Some(span) = self.spans.get(self.done.len()) {
            let resume = self.resume.get_or_insert(span.first);
            let Some(summary) = tree.summary(*span, self.question, resume, reading)? else { return Ok(false) };
            self.resume = None;
            self.done.push(summary);
        }
        Ok(true)
    }

    /// What was computed, in the order of the branches.
    pub(super) fn summaries(&self) -> &[Summary] {
        &self.done
    }
}
