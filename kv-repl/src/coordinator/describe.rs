//! Asks every replica of a key what it holds, and says who has not answered.
//!
//! 1. Ask all replicas, whatever is believed of them.
//! 2. Ask those again, after a pause, that have not answered.
//! 3. Answer when all that can be reached have answered, and at the deadline whatever has come by then.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::time::Millis;

use super::retry::{Agenda, Patience};
use super::{placed, reachable, zone};
use crate::config::Settings;
use crate::description::{DescribeError, Description, ReplicaDescription, Silence};
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Origin, Outcome, Release, Request};
use crate::message::{Message, Refusal};
use crate::sight::Sight;

/// The machine of descriptions.
#[derive(Debug)]
pub(crate) struct Describes {
    retry_after: Millis,
    under_way: BTreeMap<u64, Describing>,
    agenda: Agenda,
    next_tag: u64,
}

#[derive(Debug)]
struct Describing {
    origin: Origin,
    key: RecordKey,
    epoch: u64,
    replicas: Vec<NodeId>,
    answers: BTreeMap<NodeId, Result<Sight, Refusal>>,
    patience: Patience,
}

impl Describes {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            under_way: BTreeMap::new(),
            agenda: Agenda::new(),
            next_tag: boot.first_tag(),
        }
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        key: RecordKey,
        out: &mut Vec<Action>,
    ) -> Result<(), DescribeError> {
        let (table, replicas) = placed(env, &key).ok_or(DescribeError::UnknownTable)?;
        if !table.options.is_replicated_durably() {
            return Err(DescribeError::CacheTable);
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let describing = Describing {
            origin,
            key,
            epoch: env.catalog.map_or(0, |catalog| catalog.epoch_of(replicas)),
            replicas: replicas.to_vec(),
            answers: BTreeMap::new(),
            patience: Patience::new(env.now.monotonic, self.retry_after, deadline),
        };
        describing.ask(tag, out);
        self.agenda.add(describing.patience.at, tag);
        self.under_way.insert(tag, describing);
        self.look(env, tag, out);
        Ok(())
    }

    /// Answers if nobody is left to wait for.
    fn look(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        let Some(describing) = self.under_way.get(&tag) else { return };
        let waits_for = |node: &NodeId| reachable(env, *node) || sabotaged!(WaitForTheUnreachable);
        if !describing.silent().any(|node| waits_for(&node)) {
            self.finish(env, tag, out);
        }
    }

    fn finish(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        let Some(describing) = self.under_way.remove(&tag) else { return };
        self.agenda.remove(describing.patience.at, tag);
        let outcome = Outcome::Describe(describing.describe(env));
        out.push(Action::Reply { origin: describing.origin, outcome, release: Release::Now });
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        while let Some(tag) = self.agenda.pop(now) {
            let describing = self.under_way.get_mut(&tag).expect("the agenda lists what is under way");
            if now >= describing.patience.deadline {
                self.finish(env, tag, out);
                continue;
            }
            describing.patience.again(now);
            describing.epoch = env.catalog.map_or(describing.epoch, |catalog| catalog.epoch_of(&describing.replicas));
            describing.ask(tag, out);
            self.agenda.add(describing.patience.at, tag);
            self.look(env, tag, out);
        }
    }
}

impl Describing {
    fn silent(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().copied().filter(|node| !self.answers.contains_key(node))
    }

    fn ask(&self, tag: u64, out: &mut Vec<Action>) {
        out.extend(self.silent().map(|to| Action::Send {
            to,
            message: Message::Describe { tag, epoch: self.epoch, key: self.key.clone() },
            release: Release::Now,
        }));
    }

    fn describe(&self, env: &Environment<'_>) -> Result<Description, DescribeError> {
        let (table, _) = placed(env, &self.key).ok_or(DescribeError::UnknownTable)?;
        let (token, layout) = (self.key.token(), &table.layout);
        let partition = layout.partition_of(token);
        let says = |node: NodeId| {
            let heard = self.answers.keys().next().copied();
            match self.answers.get(&heard.filter(|_| sabotaged!(DescribeByHearsay)).unwrap_or(node)) {
                None => Err(Silence::NoAnswer),
                Some(Err(refusal)) => Err(Silence::Refused(*refusal)),
                Some(Ok(sight)) => Ok(sight.clone()),
            }
        };
        let replica = |node: &NodeId| ReplicaDescription {
            node: *node,
            zone: zone(table, *node).cloned().unwrap_or_default(),
            reachable: reachable(env, *node),
            liveness: env.peers.liveness(*node),
            says: says(*node),
        };
        Ok(Description {
            key: self.key.to_key(),
            token,
            partition,
            tokens: layout.range_of(partition),
            epoch: self.epoch,
            as_of: env.now.wall,
            replicas: self.replicas.iter().map(replica).collect(),
        })
    }
}

impl Machine for Describes {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Describe(key) } => {
                if let Err(error) = self.begin(env, origin, deadline, key, out) {
                    let outcome = Outcome::Describe(Err(error));
                    out.push(Action::Reply { origin, outcome, release: Release::Now });
                }
            }
            Event::Message { from, message: Message::Described { tag, outcome } } => {
                let Some(describing) = self.under_way.get_mut(&tag) else { return };
                if describing.replicas.contains(&from) {
                    describing.answers.insert(from, outcome.map(|sight| *sight));
                    self.look(env, tag, out);
                }
            }
            Event::Unreachable(_) => {
                let tags: Vec<u64> = self.under_way.keys().copied().collect();
                tags.into_iter().for_each(|tag| self.look(env, tag, out));
            }
            Event::Deadline => self.due(env, out),
            Event::Message { .. } | Event::Request { .. } | Event::Introduction { .. } | Event::ReadEnded { .. } => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}
