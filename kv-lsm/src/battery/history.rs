//! The oracle of power cuts: the states after each batch, and how much of that history is durable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::time::Millis;

use super::content::{Content, Operation};

/// The states that a database went through, and which of them a power cut may lead back to. A clone is cheap.
#[derive(Clone, Debug)]
pub struct History {
    /// The state after each batch; the first is what there was when it was opened.
    states: Vec<Arc<Content>>,
    /// The engine's number of the last operation in each state that was acknowledged.
    sequences: Vec<u64>,
    /// The last state that was acknowledged as synced.
    durable: usize,
    /// Nothing may be acknowledged any more.
    poisoned: bool,
    /// The checkpoints that were begun: what each must hold when it is there, and whether it must be there.
    checkpoints: BTreeMap<PathBuf, (Arc<Content>, bool)>,
}

impl History {
    /// Of a database that was just opened: all that was found is durable.
    #[must_use]
    pub fn starting_with(content: Content) -> Self {
        Self {
            states: vec![Arc::new(content)],
            sequences: vec![0],
            durable: 0,
            poisoned: false,
            checkpoints: BTreeMap::new(),
        }
    }

    /// The database was closed, or its process died, and this was found when it was opened. Checkpoints stay what they are.
    pub fn begin_again(&mut self, found: Content) {
        let checkpoints = std::mem::take(&mut self.checkpoints);
        *self = Self { checkpoints, ..Self::starting_with(found) };
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Millis) {
        let checkpoints = self.checkpoints.values_mut().map(|(content, _)| content);
        self.states[self.durable..]
            .iter_mut()
            .chain(checkpoints)
            .for_each(|content| Arc::make_mut(content).advance(now));
    }

    /// A checkpoint of the last state may be there from now on.
    pub fn attempt_checkpoint(&mut self, path: PathBuf) {
        let content = Arc::clone(self.states.last().expect("there is always a first state"));
        self.checkpoints.entry(path).or_insert((content, false));
    }

    /// The checkpoint was acknowledged, which makes it durable, and what it holds.
    ///
    /// # Panics
    /// When it was not attempted before.
    pub fn acknowledge_checkpoint(&mut self, path: &Path) {
        self.checkpoints.get_mut(path).expect("it was attempted").1 = true;
        self.acknowledge_sync();
    }

    /// The checkpoints that were begun: where each lies, what it holds when it is there, and whether it must be there.
    pub fn checkpoints(&self) -> impl Iterator<Item = (&Path, &Content, bool)> {
        self.checkpoints.iter().map(|(path, (content, made))| (path.as_path(), &**content, *made))
    }

    /// The last state.
    #[must_use]
    pub fn current(&self) -> &Content {
        self.states.last().expect("there is always a first state")
    }

    /// The states that a power cut now may leave.
    #[must_use]
    pub fn allowed(&self) -> &[Arc<Content>] {
        &self.states[self.durable..]
    }

    /// Tells this history from others of the same trace: index of the durable state, number of states.
    #[must_use]
    pub const fn extent(&self) -> (usize, usize) {
        (self.durable, self.states.len())
    }

    /// A batch that was acknowledged.
    ///
    /// # Panics
    /// After [`History::poison`].
    pub fn acknowledge(&mut self, batch: &[Operation], synced: bool) {
        assert!(!self.poisoned, "a write was acknowledged after a failed sync");
        self.attempt(batch);
        if synced {
            self.acknowledge_sync();
        }
    }

    /// The engine says that the last batch ends with this number.
    pub fn numbered(&mut self, sequence: u64) {
        self.sequences.resize(self.states.len(), sequence);
    }

    /// The engine says that everything up to this number is durable. Rule E17: kv-repl answers clients by it.
    ///
    /// # Panics
    /// When not even the first state is.
    pub fn observe_durable(&mut self, sequence: u64) {
        let covered = self.sequences.iter().rposition(|&last| last <= sequence);
        self.durable = self.durable.max(covered.expect("the first state is durable"));
    }

    /// A sync of everything that was acknowledged.
    ///
    /// # Panics
    /// After [`History::poison`].
    pub fn acknowledge_sync(&mut self) {
        assert!(!self.poisoned, "a sync was acknowledged after a failed one");
        self.durable = self.states.len() - 1;
    }

    /// A batch that may be there or not.
    pub fn attempt(&mut self, batch: &[Operation]) {
        let mut next = self.current().clone();
        for operation in batch {
            next.apply(operation);
        }
        self.states.push(Arc::new(next));
    }

    /// A keyspace was dropped: that is durable at once, whatever becomes of the batches before.
    ///
    /// # Panics
    /// After [`History::poison`].
    pub fn drop_keyspace(&mut self, keyspace: usize) {
        assert!(!self.poisoned, "a keyspace was dropped after a failed sync");
        self.states[self.durable..].iter_mut().for_each(|state| Arc::make_mut(state).clear(keyspace));
    }

    /// A keyspace may be dropped or not, in any of the states.
    pub fn attempt_drop(&mut self, keyspace: usize) {
        let mut dropped = self.states[self.durable..].to_vec();
        dropped.iter_mut().for_each(|state| Arc::make_mut(state).clear(keyspace));
        self.states.extend(dropped);
    }

    /// A sync failed.
    pub const fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Whether a sync failed.
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Checks what was found after a power cut, and says which of the allowed states it is.
    ///
    /// # Panics
    /// When it is none of the allowed ones.
    pub fn check_recovered(&self, found: &Content, context: &dyn fmt::Display) -> usize {
        let at = self.allowed().iter().rposition(|state| **state == *found);
        at.unwrap_or_else(|| {
            let elsewhere = self.states.iter().rposition(|state| **state == *found);
            let nearest = self.allowed().iter().min_by_key(|state| state.difference(found).len());
            panic!(
                "{context}: recovered state is none of {}..{} (it is {elsewhere:?}); against the nearest: {:#?}",
                self.durable,
                self.states.len(),
                nearest.expect("never empty").difference(found)
            );
        })
    }
}
