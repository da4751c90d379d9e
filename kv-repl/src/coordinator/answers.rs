//! What replicas have answered to one read, and what it comes to.
//!
//! One replica is asked for its record and the others for digests. A digest that equals that of a record stands for the
//! record. For one that equals none, the record itself has to be fetched; until some replica has sent it, such a digest is no
//! answer.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Record;
use smallvec::SmallVec;

use crate::by_replica::{ByReplica, NodeSet, Nodes};
use crate::digest::digest;

/// One replica's answer.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) enum Answer {
    /// What it holds; nothing when the key was never written.
    Record(Option<Bytes>),
    /// The digest of what it holds.
    Digest(u128),
}

/// The answers to one read so far.
#[derive(Default, Debug)]
pub(super) struct Answers {
    records: ByReplica<Option<Bytes>>,
    /// What replicas had answered before they answered something else. A digest of another replica may stand for it, and a
    /// network may deliver an older answer after a newer one.
    former: Vec<Bytes>,
    digests: ByReplica<u128>,
    /// The digests of all records, while there are others to compare with.
    known: SmallVec<[u128; 2]>,
}

/// What replicas hold together, and which of them hold all of it.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) joined: Option<Record>,
    pub(super) bytes: Option<Bytes>,
    pub(super) holders: NodeSet,
}

impl Answers {
    /// Adds an answer. The latest of a replica counts, but a digest never takes the place of a record.
    pub(super) fn add(&mut self, from: NodeId, answer: Answer) {
        match answer {
            Answer::Record(record) => {
                self.digests.remove(from);
                if !self.digests.is_empty() {
                    self.known.push(digest(record.as_deref()));
                }
                let before = self.records.insert(from, record);
                if let Some(Some(before)) = before.filter(|before| Some(before) != self.records.get(from))
                    && !self.former.contains(&before)
                    && !sabotaged!(ForgetFormerAnswers)
                {
                    self.former.push(before);
                }
            }
            Answer::Digest(other) if !self.records.contains(from) => {
                if self.digests.is_empty() {
                    self.known = self.records.iter().map(|(_, record)| digest(record.as_deref())).collect();
                }
                self.digests.insert(from, other);
            }
            Answer::Digest(_) => {}
        }
    }

    /// Whether a replica has answered at all.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.records.contains(node) || self.digests.contains(node)
    }

    /// Whether it is known what a replica holds.
    pub(super) fn is_read(&self, node: NodeId) -> bool {
        let trusted = sabotaged!(TrustDigests) && !self.records.is_empty();
        self.records.contains(node)
            || self.digests.get(node).is_some_and(|digest| trusted || self.known.contains(digest))
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() + self.digests.len()
    }

    /// Who has answered.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.records.nodes().chain(self.digests.nodes())
    }

    /// For each digest that is of no record, one replica that has given it.
    pub(super) fn unread(&self) -> Nodes {
        let mut named: SmallVec<[u128; 2]> = SmallVec::new();
        let mut unread = Nodes::new();
        for (node, digest) in self.digests.iter().filter(|(node, _)| !self.is_read(*node)) {
            if !named.contains(digest) {
                named.push(*digest);
                unread.push(node);
            }
        }
        unread
    }

    /// The join of all records that were ever answered, or why there is none. Whoever was not read holds something else.
    pub(super) fn together(&self) -> Result<Together, String> {
        let (joined, bytes) = self.joined()?;
        let of_joined = match (self.digests.is_empty(), &self.known[..]) {
            // Nobody asks for it, or it is that of the only record.
            (true, _) => 0,
            (false, &[known]) if self.former.is_empty() => known,
            (false, _) => digest(bytes.as_deref()),
        };
        let holders = self.records.iter().filter(|(_, held)| **held == bytes).map(|(node, _)| node);
        let by_digest = self.digests.iter().filter(|(_, digest)| **digest == of_joined || sabotaged!(TrustDigests));
        let holders = holders.chain(by_digest.map(|(node, _)| node)).collect();
        Ok(Together { joined, bytes, holders })
    }

    /// The join, and its bytes.
    fn joined(&self) -> Result<(Option<Record>, Option<Bytes>), String> {
        let mut all = self.records.iter().filter_map(|(_, record)| record.as_ref()).chain(&self.former);
        let Some(first) = all.next() else { return Ok((None, None)) };
        let mut joined = Record::decode(first).map_err(|error| error.to_string())?;
        let (mut last, mut is_first) = (first, true);
        for bytes in all {
            if bytes != last {
                let record = Record::decode(bytes).map_err(|error| error.to_string())?;
                joined = joined.join(&record).map_err(|mismatch| mismatch.to_string())?;
                (last, is_first) = (bytes, false);
            }
        }
        // What was not joined to anything needs no encoding: it is what the replica has sent.
        let bytes = if is_first { first.clone() } else { joined.to_bytes() };
        Ok((Some(joined), Some(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::Expiry;
    use kv_core::hlc::Stamp;
    use kv_core::record::{Payload, Rule, Version};
    use kv_core::version::{Actor, Incarnation, VersionVector};

    fn record(node: u64) -> Record {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 1 };
        let payload = Payload::Value(Bytes::from_static(b"v"));
        let version = Version { birth: Stamp(node), payload, expiry: Expiry::NEVER, operation: None };
        Record::empty(Rule::Siblings).sibling(actor, 0, &VersionVector::new(), version)
    }

    fn of(answers: &[(u64, Answer)]) -> Answers {
        let mut all = Answers::default();
        for (node, answer) in answers {
            all.add(NodeId(*node), answer.clone());
        }
        all
    }

    fn full(record: Option<&Record>) -> Answer {
        Answer::Record(record.map(Record::to_bytes))
    }

    fn short(record: Option<&Record>) -> Answer {
        Answer::Digest(digest(record.map(Record::to_bytes).as_deref()))
    }

    fn holders(answers: &Answers) -> Vec<u64> {
        answers.together().unwrap().holders.iter().map(|node| node.0).collect()
    }

    #[test]
    fn digests_that_match_stand_for_the_record() {
        let one = record(1);
        let answers = of(&[(1, full(Some(&one))), (2, short(Some(&one))), (3, short(Some(&one)))]);
        assert!(answers.unread().is_empty());
        assert_eq!(holders(&answers), [1, 2, 3]);
        let nothing = of(&[(1, full(None)), (2, short(None))]);
        assert!(nothing.unread().is_empty());
        assert!(nothing.together().unwrap().joined.is_none());
        assert_eq!(holders(&nothing), [1, 2]);
    }

    #[test]
    fn each_digest_that_matches_nothing_is_read_once() {
        let [one, two] = [1, 2].map(record);
        let mut answers =
            of(&[(1, short(Some(&two))), (2, short(Some(&two))), (3, short(None)), (4, full(Some(&one)))]);
        assert_eq!(answers.unread()[..], [NodeId(1), NodeId(3)]);
        assert_eq!([1, 2, 3, 4].map(|node| answers.is_read(NodeId(node))), [false, false, false, true]);
        answers.add(NodeId(1), full(Some(&two)));
        assert_eq!([1, 2, 3, 4].map(|node| answers.is_read(NodeId(node))), [true, true, false, true]);
        answers.add(NodeId(3), full(None));
        // A digest that comes late does not undo what was read.
        answers.add(NodeId(1), short(None));
        assert!(answers.unread().is_empty());
        let both = one.join(&two).unwrap();
        assert_eq!(answers.together().unwrap().joined, Some(both.clone()));
        assert_eq!(holders(&answers), [0_u64; 0]);
        answers.add(NodeId(5), short(Some(&both)));
        assert_eq!(answers.unread()[..], [NodeId(5)], "nobody has shown that record");
    }

    #[test]
    fn what_a_digest_stands_for_is_not_forgotten_when_an_older_answer_arrives_late() {
        let one = record(1);
        let newer = one.join(&record(2)).unwrap();
        let answers = of(&[(1, full(Some(&newer))), (2, short(Some(&newer))), (1, full(Some(&one)))]);
        assert!(answers.unread().is_empty());
        assert_eq!(answers.together().unwrap().joined, Some(newer.clone()));
        assert_eq!(holders(&answers), [2]);
        let forgetful = crate::sabotage::Sabotage::ForgetFormerAnswers
            .during(|| of(&[(1, full(Some(&newer))), (2, short(Some(&newer))), (1, full(Some(&one)))]));
        assert_eq!(forgetful.together().unwrap().joined, Some(one));
    }

    #[test]
    fn without_a_record_one_digest_of_each_kind_is_read() {
        let [one, two] = [1, 2].map(record);
        let answers = of(&[(1, short(Some(&one))), (2, short(Some(&one))), (3, short(Some(&two)))]);
        assert_eq!(answers.unread()[..], [NodeId(1), NodeId(3)]);
    }
}
