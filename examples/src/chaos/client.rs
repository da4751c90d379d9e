//! A client under chaos: writes, deletes and reads keys of its own, one request at a time, and knows what each may hold.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kv_core::context::CausalContext;
use kv_repl::request::{Read, WriteError};

use crate::coordinators::Coordinators;

/// How long one attempt may take.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a write is tried again, always as the same operation.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// What a client has done and found.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Findings {
    /// Writes and deletes that were acknowledged.
    pub acknowledged: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Requests that were given up.
    pub given_up: u64,
    /// Reads that lacked what was acknowledged.
    pub lost: u64,
    /// Reads of something that was replaced, or never written.
    pub wrong: u64,
    /// Reads of something under a key that was deleted last.
    pub resurrected: u64,
}

impl Findings {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            reads: self.reads + other.reads,
            given_up: self.given_up + other.given_up,
            lost: self.lost + other.lost,
            wrong: self.wrong + other.wrong,
            resurrected: self.resurrected + other.resurrected,
        }
    }
}

/// What a key may hold.
#[derive(Default)]
pub(super) struct Expected {
    /// The last thing that was acknowledged: a value, or that there is none.
    acknowledged: Option<Option<String>>,
    context: Option<CausalContext>,
    /// Values of writes, finished or not, of which an attempt may have happened without being told.
    doubtful: Vec<String>,
    /// Something was begun after the last acknowledgement, and nobody knows what became of it.
    in_doubt: bool,
}

/// What is wrong with an answer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Verdict {
    Right,
    Lost,
    Wrong,
    Resurrected,
}

impl Expected {
    /// Judges what a read has found that began after the last request of the key ended.
    pub(super) fn judge(&self, found: &[String]) -> Verdict {
        let Some(acknowledged) = &self.acknowledged else {
            return if found.iter().all(|value| self.doubtful.contains(value)) {
                Verdict::Right
            } else {
                Verdict::Wrong
            };
        };
        let is_known = |value: &String| acknowledged.as_ref() == Some(value) || self.doubtful.contains(value);
        match acknowledged {
            None if !found.iter().all(is_known) => Verdict::Resurrected,
            Some(value) if !found.contains(value) && !self.in_doubt => Verdict::Lost,
            Some(_) if !found.iter().all(is_known) => Verdict::Wrong,
            _ => Verdict::Right,
        }
    }
}

/// The client.
pub(super) struct Client<'a> {
    coordinators: &'a Coordinators,
    number: u64,
    random: fastrand::Rng,
    keys: HashMap<u64, Expected>,
    keys_max: u64,
    values: u64,
    turn: usize,
    pub(super) findings: Findings,
}

impl<'a> Client<'a> {
    pub(super) fn new(coordinators: &'a Coordinators, number: u64, keys_max: u64, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ number << 32);
        let (keys, findings) = (HashMap::new(), Findings::default());
        Self { coordinators, number, random, keys, keys_max, values: 0, turn: 0, findings }
    }

    /// Does one thing.
    pub(super) fn step(&mut self) {
        let key = self.random.u64(..self.keys_max);
        match self.random.u32(..10) {
            0..=3 => self.write(key, true),
            4 => self.write(key, false),
            _ => drop(self.read(key)),
        }
    }

    fn name(&self, key: u64) -> String {
        format!("client {} key {key}", self.number)
    }

    /// Puts a value, or deletes.
    fn write(&mut self, key: u64, is_put: bool) {
        self.values += 1;
        let value = is_put.then(|| format!("value {} of client {}", self.values, self.number));
        let name = self.name(key);
        let expected = self.keys.entry(key).or_default();
        let (began, mut operation, mut is_doubtful) = (Instant::now(), None, false);
        loop {
            self.turn += 1;
            let (_, table) = self.coordinators.for_write(name.as_bytes(), self.turn);
            let request = match &value {
                Some(value) => table.put(name.as_str(), value.as_bytes()),
                None => table.delete(name.as_str()),
            };
            let mut request = request.deadline(ATTEMPT_PATIENCE);
            if let Some(context) = &expected.context {
                request = request.context(context.clone());
            }
            if let Some(operation) = operation {
                request = request.operation(operation);
            }
            operation = Some(request.operation_id());
            match request.wait() {
                Ok(written) => {
                    if is_doubtful {
                        expected.doubtful.extend(value.clone());
                    }
                    expected.acknowledged = Some(value);
                    expected.context = Some(written.context);
                    expected.in_doubt = false;
                    self.findings.acknowledged += 1;
                    return;
                }
                Err(WriteError::Ambiguous { .. } | WriteError::Stopped) => is_doubtful = true,
                Err(_) => {}
            }
            if began.elapsed() > WRITE_PATIENCE {
                expected.in_doubt |= is_doubtful;
                if is_doubtful {
                    expected.doubtful.extend(value);
                }
                self.findings.given_up += 1;
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads a key once, and says whether it was answered.
    fn read(&mut self, key: u64) -> bool {
        self.turn += 1;
        let (_, table) = self.coordinators.for_read(self.turn);
        match table.get(self.name(key).as_str()).deadline(ATTEMPT_PATIENCE).wait() {
            Ok(read) => self.judge(key, &read),
            Err(_) => {
                self.findings.given_up += 1;
                return false;
            }
        }
        true
    }

    fn judge(&mut self, key: u64, read: &Read) {
        let found: Vec<String> =
            read.values().into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        self.findings.reads += 1;
        let expected = self.keys.entry(key).or_default();
        match expected.judge(&found) {
            Verdict::Right => {}
            Verdict::Lost => self.findings.lost += 1,
            Verdict::Wrong => self.findings.wrong += 1,
            Verdict::Resurrected => self.findings.resurrected += 1,
        }
        // Whoever writes next has seen all of this.
        expected.context = Some(read.context().clone());
    }

    /// Reads every key until it is answered, or for so long.
    pub(super) fn read_everything(&mut self, patience: Duration) {
        let mut keys: Vec<u64> = self.keys.keys().copied().collect();
        keys.sort_unstable();
        let began = Instant::now();
        for key in keys {
            while !self.read(key) {
                if began.elapsed() > patience {
                    // Of what cannot be read nobody can say that it is there.
                    self.findings.lost += 1;
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(acknowledged: Option<Option<&str>>, doubtful: &[&str], in_doubt: bool, found: &[&str]) -> Verdict {
        let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        let acknowledged = acknowledged.map(|value| value.map(str::to_owned));
        Expected { acknowledged, context: None, doubtful: owned(doubtful), in_doubt }.judge(&owned(found))
    }

    #[test]
    fn what_was_acknowledged_must_be_read() {
        assert_eq!(judge(Some(Some("a")), &[], false, &["a"]), Verdict::Right);
        assert_eq!(judge(Some(Some("a")), &[], false, &[]), Verdict::Lost);
        assert_eq!(judge(Some(Some("a")), &["b"], false, &["b"]), Verdict::Lost);
        assert_eq!(judge(Some(Some("a")), &["b"], true, &["b"]), Verdict::Right, "it may have replaced it");
    }

    #[test]
    fn what_was_replaced_or_deleted_must_not() {
        assert_eq!(judge(Some(Some("b")), &[], false, &["a", "b"]), Verdict::Wrong);
        assert_eq!(judge(Some(Some("b")), &["a"], false, &["a", "b"]), Verdict::Right, "a copy of a doubtful write");
        assert_eq!(judge(Some(None), &[], false, &["a"]), Verdict::Resurrected);
        assert_eq!(judge(Some(None), &[], false, &[]), Verdict::Right);
        assert_eq!(judge(None, &[], false, &["a"]), Verdict::Wrong);
        assert_eq!(judge(None, &["a"], false, &["a"]), Verdict::Right);
    }
}
