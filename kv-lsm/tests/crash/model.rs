//! What the engine should hold: the states after each batch, and how much of that history is durable.

use std::collections::BTreeMap;

/// The keyspaces of every test: two plain ones, and one whose merges append.
pub(crate) const KEYSPACES: [&str; 3] = ["plain", "other", "merged"];
pub(crate) const MERGED: usize = 2;

/// Everything in a database, by keyspace and key.
pub(crate) type Content = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    /// In [`MERGED`] only: appends to the value.
    Merge(Vec<u8>, Vec<u8>),
}

impl Operation {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Put(keyspace, key, value) => {
                content.insert((*keyspace, key.clone()), value.clone());
            }
            Self::Delete(keyspace, key) => {
                content.remove(&(*keyspace, key.clone()));
            }
            Self::DeleteRange(keyspace, start, end) => {
                content.retain(|(of, key), _| of != keyspace || key < start || key >= end);
            }
            Self::Merge(key, operand) => {
                content.entry((MERGED, key.clone())).or_default().extend_from_slice(operand);
            }
        }
    }
}

/// The states that a database went through, and which of them a power cut may lead back to.
#[derive(Clone)]
pub(crate) struct History {
    /// The state after each batch; the first is what there was when it was opened.
    states: Vec<Content>,
    /// The engine's number of the last operation in each state that was acknowledged.
    sequences: Vec<u64>,
    /// The last state that was acknowledged as synced.
    durable: usize,
    /// Nothing may be acknowledged any more.
    poisoned: bool,
}

impl History {
    pub(crate) fn starting_with(content: Content) -> Self {
        Self { states: vec![content], sequences: vec![0], durable: 0, poisoned: false }
    }

    pub(crate) fn current(&self) -> &Content {
        self.states.last().expect("there is always a first state")
    }

    /// The states that a power cut now may leave.
    pub(crate) fn allowed(&self) -> &[Content] {
        &self.states[self.durable..]
    }

    /// Tells this history from others of the same trace.
    pub(crate) fn extent(&self) -> (usize, usize) {
        (self.durable, self.states.len())
    }

    /// A batch that was acknowledged.
    pub(crate) fn acknowledge(&mut self, batch: &[Operation], synced: bool) {
        assert!(!self.poisoned, "a write was acknowledged after a failed sync");
        self.attempt(batch);
        if synced {
            self.acknowledge_sync();
        }
    }

    /// The engine says that the last batch ends with this number.
    pub(crate) fn numbered(&mut self, sequence: u64) {
        self.sequences.resize(self.states.len(), sequence);
    }

    /// The engine says that everything up to this number is durable. Rule E17: kv-repl answers clients by it.
    pub(crate) fn observe_durable(&mut self, sequence: u64) {
        let covered = self.sequences.iter().rposition(|&last| last <= sequence);
        self.durable = self.durable.max(covered.expect("the first state is durable"));
    }

    /// A sync of everything that was acknowledged.
    pub(crate) fn acknowledge_sync(&mut self) {
        assert!(!self.poisoned, "a sync was acknowledged after a failed one");
        self.durable = self.states.len() - 1;
    }

    /// A batch that may be there or not.
    pub(crate) fn attempt(&mut self, batch: &[Operation]) {
        let mut next = self.current().clone();
        for operation in batch {
            operation.apply(&mut next);
        }
        self.states.push(next);
    }

    pub(crate) const fn poison(&mut self) {
        self.poisoned = true;
    }

    pub(crate) const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Checks what was found after a power cut, and says which state it is.
    pub(crate) fn check_recovered(&self, found: &Content, context: &dyn std::fmt::Display) -> usize {
        let at = self.allowed().iter().rposition(|state| state == found);
        at.unwrap_or_else(|| {
            let elsewhere = self.states.iter().rposition(|state| state == found);
            let nearest = self.allowed().iter().min_by_key(|state| difference(state, found).len());
            panic!(
                "{context}: recovered state is none of {}..{} (it is {elsewhere:?}); against the nearest: {:#?}",
                self.durable,
                self.states.len(),
                difference(nearest.expect("never empty"), found)
            );
        })
    }
}

/// The keys on which two contents differ, for a message.
pub(crate) fn difference(wanted: &Content, found: &Content) -> Vec<String> {
    let show = |value: Option<&Vec<u8>>| value.map(|value| String::from_utf8_lossy(value).into_owned());
    let mut keys: Vec<_> = wanted.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| wanted.get(*key) != found.get(*key))
        .map(|key| {
            let (name, bytes) = (KEYSPACES[key.0], String::from_utf8_lossy(&key.1));
            format!("{name}/{bytes}: wanted {:?}, found {:?}", show(wanted.get(key)), show(found.get(key)))
        })
        .collect()
}
