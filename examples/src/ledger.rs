//! What the cluster has acknowledged, kept outside of it, so that its answers can be judged.

use std::collections::HashMap;

use bytes::Bytes;
use kv_core::context::CausalContext;
use kv_core::hash::seeded;
use kv_repl::request::{Read, Written};

/// Of a value only this is kept: chance makes two alike once in 2^64.
const VALUE_SEED: u64 = 0x6c65_6467_6572;

/// Keys by number, with what was acknowledged last.
///
/// A key has one request under way at most, so the last acknowledged value is the one to be read.
#[derive(Default)]
pub struct Ledger {
    numbers: HashMap<Bytes, usize>,
    entries: Vec<Entry>,
    /// Values that may be read beside the last one, see [`Ledger::acknowledge`].
    companions: HashMap<usize, Vec<u64>>,
}

struct Entry {
    key: Bytes,
    is_busy: bool,
    acknowledged: Option<Acknowledged>,
}

struct Acknowledged {
    value: u64,
    context: CausalContext,
    had_doubtful_attempt: bool,
}

/// What to think of an answer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Verdict {
    /// The value that was acknowledged, alone.
    Right,
    /// The value that was acknowledged, and a sibling from an attempt whose outcome its writer never learned.
    RightWithCompanion,
    /// No value.
    Lost,
    /// A value that was not acknowledged, or was replaced.
    Wrong,
}

impl Ledger {
    /// The number of a key, new or not.
    pub fn number_of(&mut self, key: &Bytes) -> usize {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        let number = self.entries.len();
        self.entries.push(Entry { key: key.clone(), is_busy: false, acknowledged: None });
        self.numbers.insert(key.clone(), number);
        number
    }

    /// How many keys there are; their numbers are below.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A key.
    #[must_use]
    pub fn key(&self, number: usize) -> &Bytes {
        &self.entries[number].key
    }

    /// Whether a request of the key is under way.
    #[must_use]
    pub fn is_busy(&self, number: usize) -> bool {
        self.entries[number].is_busy
    }

    /// A request of the key begins, or has ended.
    pub fn set_busy(&mut self, number: usize, is_busy: bool) {
        self.entries[number].is_busy = is_busy;
    }

    /// What the last writer of the key had seen: for the next one. `None` before a write was acknowledged.
    #[must_use]
    pub fn context(&self, number: usize) -> Option<&CausalContext> {
        self.entries[number].acknowledged.as_ref().map(|acknowledged| &acknowledged.context)
    }

    /// Notes an acknowledged value.
    ///
    /// `had_doubtful_attempt`: an attempt before ended in "it may have happened". The cluster then may hold two copies of the
    /// write, which are read as one; but the context of the acknowledged one does not cover the other. So when the key is
    /// written again, the copy may stay beside the new value, as a concurrent write does: a true answer, and no loss.
    pub fn acknowledge(&mut self, number: usize, value: &[u8], written: Written, had_doubtful_attempt: bool) {
        let acknowledged =
            Acknowledged { value: seeded(value, VALUE_SEED), context: written.context, had_doubtful_attempt };
        let earlier = self.entries[number].acknowledged.replace(acknowledged);
        if let Some(earlier) = earlier.filter(|earlier| earlier.had_doubtful_attempt) {
            self.companions.entry(number).or_default().push(earlier.value);
        }
    }

    /// Judges the answer of a read that began after the last write was acknowledged.
    ///
    /// # Panics
    /// When nothing was acknowledged.
    #[must_use]
    pub fn judge(&self, number: usize, read: &Read) -> Verdict {
        let values: Vec<u64> = read.values().into_iter().map(|value| seeded(value, VALUE_SEED)).collect();
        self.judge_values(number, &values)
    }

    fn judge_values(&self, number: usize, values: &[u64]) -> Verdict {
        let acknowledged = self.entries[number].acknowledged.as_ref().expect("only what was acknowledged is judged");
        let companions = self.companions.get(&number).map_or(&[][..], Vec::as_slice);
        let is_known = |value: &u64| *value == acknowledged.value || companions.contains(value);
        match values {
            [] => Verdict::Lost,
            [value] if *value == acknowledged.value => Verdict::Right,
            _ if values.contains(&acknowledged.value) && values.iter().all(is_known) => Verdict::RightWithCompanion,
            _ => Verdict::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::NodeId;
    use kv_core::hlc::Stamp;
    use kv_core::key::{Key, RecordKey, TableId};
    use kv_core::version::{Actor, Dot, Incarnation, VersionVector};

    use super::*;

    fn written(counter: u64) -> Written {
        let dot = Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 }, counter };
        let key = RecordKey::new(TableId(1), &Key::from("key")).unwrap();
        let context = CausalContext::seal(&key, &VersionVector::of(dot));
        Written { dot, birth: Stamp::ZERO, context, acknowledged: 2, fallbacks: 0 }
    }

    fn judge(ledger: &Ledger, values: &[&str]) -> Verdict {
        let values: Vec<u64> = values.iter().map(|value| seeded(value.as_bytes(), VALUE_SEED)).collect();
        ledger.judge_values(0, &values)
    }

    #[test]
    fn answers_are_judged_by_the_last_acknowledged_value() {
        let mut ledger = Ledger::default();
        let number = ledger.number_of(&Bytes::from_static(b"key"));
        assert_eq!(ledger.number_of(&Bytes::from_static(b"key")), number);
        assert_eq!(ledger.context(number), None);
        ledger.acknowledge(number, b"one", written(1), false);
        assert_eq!(judge(&ledger, &["one"]), Verdict::Right);
        assert_eq!(judge(&ledger, &[]), Verdict::Lost);
        assert_eq!(judge(&ledger, &["two"]), Verdict::Wrong);
        ledger.acknowledge(number, b"two", written(2), false);
        assert_eq!(ledger.context(number), Some(&written(2).context));
        assert_eq!(judge(&ledger, &["two"]), Verdict::Right);
        assert_eq!(judge(&ledger, &["one"]), Verdict::Wrong);
        assert_eq!(judge(&ledger, &["one", "two"]), Verdict::Wrong, "what was replaced must not come back");
    }

    #[test]
    fn only_a_copy_of_a_doubtful_write_may_stand_beside_the_last_value() {
        let mut ledger = Ledger::default();
        let number = ledger.number_of(&Bytes::from_static(b"key"));
        ledger.acknowledge(number, b"one", written(1), true);
        ledger.acknowledge(number, b"two", written(2), false);
        assert_eq!(judge(&ledger, &["two"]), Verdict::Right);
        assert_eq!(judge(&ledger, &["one", "two"]), Verdict::RightWithCompanion);
        assert_eq!(judge(&ledger, &["one"]), Verdict::Wrong);
        assert_eq!(judge(&ledger, &["two", "three"]), Verdict::Wrong);
    }
}
