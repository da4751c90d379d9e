//! One comparison of a partition with one other replica, at the one that begins.
//!
//! 1. Send the hash of the whole partition. If the other one has the same, that was all.
//! 2. Where hashes differ, send those of the sixteen branches below, and so on, many in one question.
//! 3. A branch in which neither holds many records is gone through record by record ([`Listing`]).
//! 4. Branches that were gone through are compared once more, so that "equal" is what the hashes say and not what was
//!    intended. Clients write meanwhile: what still differs after some attempts is left to the next comparison.
//!
//! So the bytes exchanged grow with the difference and the depth of the tree, not with the data.

use kv_core::NodeId;
use kv_core::time::Millis;

use super::listing::{Listing, Step, Unexpected};
use super::measure::Measure;
use super::promise::copy;
use super::site::Site;
use super::tree::{LEAF_RECORDS_MAX, Reading, Summary, Tree};
use crate::comparison::{Answer, Branch, Differing, Question};
use crate::machine::{Action, Environment};
use crate::message::Refusal;
use crate::repair_request::{RepairTraffic, UnfinishedReason};

/// How many levels one step down leaves behind.
const LEVELS: u8 = 4;
/// Most branches in one question.
const BRANCHES_MAX: usize = 256;
/// How often a branch is gone through before it is left alone.
const ATTEMPTS_MAX: u8 = 3;
/// How many times a question is asked before the other replica counts as gone.
const ASKED_MAX: u32 = 6;

/// The comparison and how far it has come.
#[derive(Debug)]
pub(super) struct Exchange {
    site: Site,
    peer: NodeId,
    /// Branches to be compared.
    frontier: Vec<Candidate>,
    /// Branches to be gone through.
    small: Vec<Candidate>,
    /// Branches that were gone through.
    mended: Vec<Candidate>,
    stage: Stage,
    asked: Option<Asked>,
    differed: bool,
    still_different: bool,
    traffic: RepairTraffic,
    records_unfit: u64,
}

#[derive(Copy, Clone, Debug)]
struct Candidate {
    branch: Branch,
    attempts: u8,
}

#[derive(Debug)]
enum Stage {
    Ready,
    Measuring { candidates: Vec<Candidate>, measure: Measure },
    Comparing { candidates: Vec<Candidate>, own: Vec<Summary> },
    Listing { candidate: Candidate, listing: Box<Listing> },
    Ended(Result<(), UnfinishedReason>),
}

/// A question under way.
#[derive(Debug)]
struct Asked {
    tag: u64,
    question: Question,
    times: u32,
    again_at: Millis,
    wait: Millis,
}

impl Exchange {
    pub(super) fn begin(site: Site, peer: NodeId) -> Self {
        Self {
            site,
            peer,
            frontier: vec![Candidate { branch: Branch::ROOT, attempts: 0 }],
            small: Vec::new(),
            mended: Vec::new(),
            stage: Stage::Ready,
            asked: None,
            differed: false,
            still_different: false,
            traffic: RepairTraffic::default(),
            records_unfit: 0,
        }
    }

    pub(super) const fn site(&self) -> &Site {
        &self.site
    }

    pub(super) const fn peer(&self) -> NodeId {
        self.peer
    }

    pub(super) const fn traffic(&self) -> &RepairTraffic {
        &self.traffic
    }

    pub(super) const fn traffic_mut(&mut self) -> &mut RepairTraffic {
        &mut self.traffic
    }

    pub(super) const fn records_unfit(&self) -> u64 {
        self.records_unfit
    }

    /// Whether the two were found to differ anywhere.
    pub(super) const fn differed(&self) -> bool {
        self.differed
    }

    /// How it has ended, if it has.
    pub(super) const fn outcome(&self) -> Option<Result<(), UnfinishedReason>> {
        match self.stage {
            Stage::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Ends it, whatever it was at.
    pub(super) fn give_up(&mut self, why: UnfinishedReason) {
        self.asked = None;
        self.stage = Stage::Ended(Err(why));
    }

    /// Whether it has something to do, rather than an answer to wait for.
    pub(super) const fn is_busy(&self) -> bool {
        self.asked.is_none() && !matches!(self.stage, Stage::Ended(_))
    }

    /// When the question is to be asked again.
    pub(super) fn again_at(&self) -> Option<Millis> {
        self.asked.as_ref().map(|asked| asked.again_at)
    }

    /// Goes on until there is something to ask, the budget is used up, or it has ended.
    pub(super) fn advance(&mut self, tree: &mut Tree, reading: &mut Reading<'_>, bytes_max: usize) -> Option<Question> {
        loop {
            match self.advance_once(tree, reading, bytes_max) {
                Ok(Some(next)) => return next,
                Ok(None) => {}
                Err(reason) => {
                    self.stage = Stage::Ended(Err(reason));
                    return None;
                }
            }
        }
    }

    /// `None` when there is more to do at once.
    fn advance_once(
        &mut self,
        tree: &mut Tree,
        reading: &mut Reading<'_>,
        bytes_max: usize,
    ) -> Result<Option<Option<Question>>, UnfinishedReason> {
        match &mut self.stage {
            Stage::Ended(_) | Stage::Comparing { .. } => return Ok(Some(None)),
            Stage::Ready => self.choose(tree)?,
            Stage::Measuring { candidates, measure } => {
                if !measure.step(tree, reading).map_err(|_| UnfinishedReason::Store)? {
                    return Ok(Some(None));
                }
                let candidates = std::mem::take(candidates);
                let own = measure.summaries().to_vec();
                let hashes = candidates.iter().zip(&own).map(|(candidate, own)| (candidate.branch, own.sum));
                let question = Question::Compare(hashes.collect());
                self.stage = Stage::Comparing { candidates, own };
                return Ok(Some(Some(question)));
            }
            Stage::Listing { candidate, listing } => {
                match listing.step(reading, bytes_max).map_err(|_| UnfinishedReason::Store)? {
                    Step::Ask(question) => return Ok(Some(Some(question))),
                    Step::Pause => return Ok(Some(None)),
                    Step::Done => {
                        self.mended.push(Candidate { attempts: candidate.attempts + 1, ..*candidate });
                        self.stage = Stage::Ready;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Chooses what to do next.
    fn choose(&mut self, tree: &mut Tree) -> Result<(), UnfinishedReason> {
        if let Some(candidate) = self.small.pop() {
            let listing = Listing::new(candidate.branch, &self.site).ok_or(UnfinishedReason::Refused)?;
            self.stage = Stage::Listing { candidate, listing: Box::new(listing) };
            return Ok(());
        }
        if self.frontier.is_empty() {
            self.frontier = std::mem::take(&mut self.mended);
        }
        if self.frontier.is_empty() {
            let outcome = if self.still_different { Err(UnfinishedReason::StillDifferent) } else { Ok(()) };
            self.stage = Stage::Ended(outcome);
            return Ok(());
        }
        let candidates = self.frontier.split_off(self.frontier.len().saturating_sub(BRANCHES_MAX));
        let branches = candidates.iter().map(|candidate| candidate.branch);
        let measure = Measure::begin(tree, &self.site.tokens, branches).ok_or(UnfinishedReason::Refused)?;
        self.stage = Stage::Measuring { candidates, measure };
        Ok(())
    }

    /// Notes the question that is asked now.
    pub(super) fn ask(&mut self, now: Millis, wait: Millis, tag: u64, question: Question) {
        self.asked = Some(Asked { tag, question, times: 1, again_at: now.saturating_add(wait), wait });
    }

    /// The question to be asked again, if its answer is overdue. Ends the comparison when that is of no use any more.
    pub(super) fn overdue(&mut self, now: Millis) -> Option<(u64, Question)> {
        let asked = self.asked.as_mut().filter(|asked| asked.again_at <= now)?;
        if asked.times >= ASKED_MAX {
            self.give_up(UnfinishedReason::Unreachable);
            return None;
        }
        asked.times += 1;
        asked.wait = asked.wait.saturating_add(asked.wait);
        asked.again_at = now.saturating_add(asked.wait);
        Some((asked.tag, asked.question.clone()))
    }

    /// Whether it waits for that answer.
    pub(super) fn waits_for(&self, from: NodeId, tag: u64) -> bool {
        self.peer == from && self.asked.as_ref().is_some_and(|asked| asked.tag == tag)
    }

    /// Takes the answer that it waits for. Goes on with [`Exchange::advance`] when what `out` says is done.
    pub(super) fn answered(
        &mut self,
        env: &Environment<'_>,
        reading: &Reading<'_>,
        answer: Result<Answer, Refusal>,
        out: &mut Vec<Action>,
    ) {
        let answer = match answer {
            Ok(Answer::Working) => {
                // Reading a large partition takes as long as it takes, as long as somebody does.
                if let Some(asked) = &mut self.asked {
                    asked.times = 1;
                }
                return;
            }
            Ok(answer) => answer,
            Err(_) => return self.give_up(UnfinishedReason::Refused),
        };
        self.asked = None;
        let taken = match (&mut self.stage, answer) {
            (Stage::Comparing { .. }, Answer::Differ { differing, settled }) => {
                copy(env, self.site.place, settled, out);
                self.compared(&differing)
            }
            (Stage::Listing { listing, .. }, answer) => {
                let taken = listing.answered(env, &self.site, reading, answer, &mut self.traffic, out);
                taken.map(|unfit| self.records_unfit += unfit)
            }
            _ => Err(Unexpected),
        };
        if taken.is_err() {
            self.give_up(UnfinishedReason::Refused);
        }
    }

    fn compared(&mut self, differing: &[Differing]) -> Result<(), Unexpected> {
        let Stage::Comparing { candidates, own } = std::mem::replace(&mut self.stage, Stage::Ready) else {
            return Err(Unexpected);
        };
        let mut previous = None;
        for Differing { position, records } in differing {
            let at = usize::try_from(*position).map_err(|_| Unexpected)?;
            let (Some(candidate), true) = (candidates.get(at), previous < Some(at)) else { return Err(Unexpected) };
            previous = Some(at);
            self.differed = true;
            let levels = LEVELS.min(self.site.deepest() - candidate.branch.depth());
            if candidate.attempts >= ATTEMPTS_MAX {
                self.still_different = true;
            } else if candidate.attempts > 0 || levels == 0 || own[at].records.max(*records) <= LEAF_RECORDS_MAX {
                self.small.push(*candidate);
            } else {
                let children = candidate.branch.children(levels);
                self.frontier.extend(children.map(|branch| Candidate { branch, attempts: 0 }));
            }
        }
        Ok(())
    }
}
