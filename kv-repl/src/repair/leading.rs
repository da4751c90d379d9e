//! How the floor of a place rises (rule P7): the replica with the lowest name leads.
//!
//! 1. Look, at intervals, whether anything of the place is dead that is old enough. If not, that was all.
//! 2. Have every replica promise, durably, to mint nothing at or below a stamp. One that has writes of that age under way, or keeps any
//!    for others, says how much it can promise, and all are asked for that instead.
//! 3. Compare with each of the others, and then again with all but the last: now everybody holds whatever anybody held of that age
//!    when it promised, and there will be no more.
//! 4. Tell everybody that the place is settled there. Each says how far its clock has come.
//! 5. In a later round that settles above all those clocks, tell everybody as well that what is dead at or below the first of the two
//!    can go: whatever it has replaced lies at or below the second one, and is known to be gone if it turns up.
//!
//! One that has missed a raise still has what the others have forgotten, while nothing is dead where it is led: so a place is looked after as
//! well when a comparison shows that somebody is at another level.
//!
//! All replicas take part, in one life from the promise to the end of the comparison, and each knows the others in these lives: so no
//! frame of an earlier one is on its way to anybody. One that is away holds the floor where it is, and the status says so
//! (lesson 05).

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::time::Millis;

use super::chance::draw;
use super::measure::Measure;
use super::promise::{follow, lives};
use super::round::{Asking, Ended, Round, Stage};
use super::site::Site;
use super::tree::Reading;
use super::trees::Trees;
use crate::catalog::{Catalog, TableSchema};
use crate::comparison::{Branch, FloorAnswer, FloorStep, Level, Place};
use crate::machine::{Action, Environment};
use crate::message::Refusal;
use crate::repair_request::UnfinishedReason;
use crate::status::PurgeStatus;

/// Most rounds at a time.
const ROUNDS_MAX: usize = 2;
/// How often less is asked for, and how often a comparison is made that does not end well.
const ATTEMPTS_MAX: u32 = 3;

/// All places that this node leads.
#[derive(Debug)]
pub(super) struct Rounds {
    /// How far what is asked for lies behind the clock; `None` when nothing is ever purged.
    lag: Option<Millis>,
    retry_after: Millis,
    seed: u64,
    next_tag: u64,
    due: BTreeSet<(Millis, Place)>,
    /// How many tables are in it.
    tables: usize,
    /// Whether there may be more.
    look: bool,
    running: Vec<Round>,
    /// Where places were settled last, and how far all clocks had come then.
    settled: BTreeMap<Place, Settled>,
    /// Where some replica may not have heard of the last raise.
    uneven: BTreeSet<Place>,
    /// Who has held back which place.
    held: BTreeMap<Place, BTreeSet<NodeId>>,
    rounds: u64,
}

#[derive(Copy, Clone, Debug)]
struct Settled {
    at: Stamp,
    clocks: Stamp,
}

impl Rounds {
    pub(super) const fn new(purge_after: Option<Millis>, retry_after: Millis, seed: u64, next_tag: u64) -> Self {
        // Something goes when it is settled in one round, and the next one has come above the clocks of then.
        let lag = match purge_after {
            Some(after) => Some(Millis(after.0 / 2)),
            None => None,
        };
        Self {
            lag,
            retry_after,
            seed,
            next_tag,
            due: BTreeSet::new(),
            tables: 0,
            look: true,
            running: Vec::new(),
            settled: BTreeMap::new(),
            uneven: BTreeSet::new(),
            held: BTreeMap::new(),
            rounds: 0,
        }
    }

    /// A table was added.
    pub(super) const fn look_again(&mut self) {
        self.look = true;
    }

    /// Takes up the tables that were added.
    pub(super) fn learn(&mut self, now: Millis, me: NodeId, catalog: &Catalog) {
        self.look = false;
        let Some(lag) = self.lag else { return };
        for table in catalog.tables()[self.tables..].iter().filter(|table| table.options.is_purged()) {
            for partition in table.layout.partitions_of(me) {
                let place = Place { table: table.id, partition };
                if leads(me, table, place) {
                    let wait = draw(self.seed, place, me, Millis::ZERO) % lag.0.max(1);
                    self.due.insert((now.saturating_add(Millis(wait)), place));
                }
            }
        }
        self.tables = catalog.tables().len();
    }

    /// When something is next to be done, apart from looking and comparing.
    pub(super) fn next(&self) -> Option<Millis> {
        if self.look {
            return Some(Millis::ZERO);
        }
        let begins = self.due.first().map(|(at, _)| *at).filter(|_| self.running.len() < ROUNDS_MAX);
        let running = self.running.iter().filter_map(|round| match &round.stage {
            Stage::Looking(_) => None,
            Stage::Asking(asking) => Some(asking.again_at),
            Stage::Comparing { left, running, .. } => (left.is_empty() && !running).then_some(Millis::ZERO),
            Stage::Ended(_) => Some(Millis::ZERO),
        });
        running.chain(begins).min()
    }

    /// Whether one is looking for what is dead.
    pub(super) fn is_looking(&self) -> bool {
        self.running.iter().any(|round| matches!(round.stage, Stage::Looking(_)))
    }

    /// Begins what is due, asks again what was not answered, and goes on after comparisons.
    pub(super) fn due(&mut self, env: &Environment<'_>, trees: &mut Trees, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        while self.running.len() < ROUNDS_MAX
            && let Some((at, place)) = self.due.first().copied().filter(|(at, _)| *at <= now)
        {
            self.due.remove(&(at, place));
            self.begin(env, trees, place);
        }
        let mut running = std::mem::take(&mut self.running);
        for round in &mut running {
            let again = match &mut round.stage {
                Stage::Asking(asking) => asking.overdue(now),
                _ => None,
            };
            match again {
                Some(true) => round.ask(out),
                Some(false) => {
                    let Stage::Asking(Asking { waits, .. }) = &mut round.stage else { continue };
                    let silent = std::mem::take(waits);
                    round.stage = Stage::Ended(Ended::Held(silent));
                }
                None => {}
            }
            if let Stage::Comparing { left, running: false, lives: met, .. } = &round.stage
                && left.is_empty()
            {
                let met = *met;
                self.raise(env, round, met, out);
            }
        }
        self.running = running;
        self.reap(env);
    }

    fn begin(&mut self, env: &Environment<'_>, trees: &mut Trees, place: Place) {
        let table = env.catalog.and_then(|catalog| catalog.table(place.table));
        let site = Site::find(env, place, env.me.node);
        let (Some(table), Ok(site)) = (table, site) else { return self.plan(env, place, self.lag.unwrap_or_default()) };
        if env.imports.lacks(place) && !sabotaged!(RiseWhileImporting) {
            self.held.insert(place, [env.me.node].into());
            return self.plan(env, place, Millis(self.lag.unwrap_or_default().0 / 4));
        }
        let replicas = table.layout.replicas(place.partition).to_vec();
        let measure = Measure::begin(trees.tree(site.span), &site.tokens, std::iter::once(Branch::ROOT));
        let stage = measure.map_or(Stage::Ended(Ended::Soon), Stage::Looking);
        self.running.push(Round { site, replicas, up_to: Stamp::ZERO, attempts: 0, stage });
    }

    /// Looks on for what is dead.
    pub(super) fn look_on(
        &mut self,
        env: &Environment<'_>,
        trees: &mut Trees,
        reading: &mut Reading<'_>,
        out: &mut Vec<Action>,
    ) {
        let Some(lag) = self.lag else { return };
        let mut running = std::mem::take(&mut self.running);
        for round in &mut running {
            let Stage::Looking(measure) = &mut round.stage else { continue };
            match measure.step(trees.tree(round.site.span), reading) {
                Ok(false) => {}
                Err(_) => round.stage = Stage::Ended(Ended::Soon),
                Ok(true) => {
                    let dead_at = measure.summaries().iter().map(|summary| summary.dead_at).min();
                    self.decide(env, lag, dead_at.unwrap_or(Stamp(u64::MAX)), round, out);
                }
            }
        }
        self.running = running;
        self.reap(env);
    }

    /// Whether a round is worth it, when the first of what is in the place is dead from a floor of `dead_at` on.
    fn decide(&mut self, env: &Environment<'_>, lag: Millis, dead_at: Stamp, round: &mut Round, out: &mut Vec<Action>) {
        let place = round.site.place;
        let horizon = Stamp::at(env.now.wall.saturating_sub(lag));
        let is_uneven = self.uneven.contains(&place) && !sabotaged!(LeaveBehind);
        if dead_at > horizon && !is_uneven {
            self.held.remove(&place);
            round.stage = Stage::Ended(Ended::Done(lag));
            return;
        }
        // It is settled already, and waits for clocks to be passed.
        if let Some(settled) =
            self.settled.get(&place).filter(|settled| dead_at <= settled.at && settled.clocks > horizon && !is_uneven)
        {
            let wait = settled.clocks.wall().saturating_sub(horizon.wall()).saturating_add(Millis(1));
            round.stage = Stage::Ended(Ended::Done(wait.min(lag)));
            return;
        }
        self.rounds += 1;
        round.up_to = horizon;
        self.ask_to_promise(env, round, out);
    }

    fn ask_to_promise(&mut self, env: &Environment<'_>, round: &mut Round, out: &mut Vec<Action>) {
        let level = env.floors.of(round.site.place).level;
        if round.up_to <= level.settled {
            round.stage = Stage::Ended(Ended::Done(self.lag.unwrap_or_default()));
            return;
        }
        let step = FloorStep::Promise { up_to: round.up_to, level };
        self.ask(env, round, step, out);
    }

    /// Every replica has promised, and all hold the same since.
    fn raise(&mut self, env: &Environment<'_>, round: &mut Round, met: u64, out: &mut Vec<Action>) {
        if lives(env, &round.replicas) != met {
            // Somebody has started anew before it was compared.
            round.stage = Stage::Ended(Ended::Soon);
            return;
        }
        let before = env.floors.of(round.site.place).level;
        let mut level = Level { settled: round.up_to, ..before };
        if let Some(settled) = self.settled.get(&round.site.place).filter(|settled| settled.clocks <= round.up_to) {
            level.purged = level.purged.max(settled.at);
            self.settled.remove(&round.site.place);
        }
        if sabotaged!(PurgeAtOnce) {
            level.purged = level.settled;
        }
        // Until all have said that they have heard: what is dead here may go before.
        self.uneven.insert(round.site.place);
        self.ask(env, round, FloorStep::Raise(level), out);
    }

    /// Another replica says that a place is settled up to there. Where that is not as it is here, one of the two has missed a raise, and
    /// still has what all others have forgotten: there is something to be done, even if nothing that is here is dead.
    pub(super) fn compare_level(&mut self, env: &Environment<'_>, place: Place, settled: Stamp) {
        let table = env.catalog.and_then(|catalog| catalog.table(place.table));
        let is_led_here = table.is_some_and(|table| leads(env.me.node, table, place));
        if settled != env.floors.of(place).level.settled && is_led_here {
            self.uneven.insert(place);
        }
    }

    fn ask(&mut self, env: &Environment<'_>, round: &mut Round, step: FloorStep, out: &mut Vec<Action>) {
        let tag = self.next_tag;
        self.next_tag += 1;
        round.stage = Stage::Asking(Asking {
            tag,
            step,
            waits: round.taking_part(env).collect(),
            lives: None,
            able: round.up_to,
            unable: BTreeSet::new(),
            clocks: Stamp::ZERO,
            times: 1,
            wait: self.retry_after,
            again_at: env.now.monotonic.saturating_add(self.retry_after),
        });
        round.ask(out);
    }

    /// A replica has answered.
    pub(super) fn told(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        tag: u64,
        answer: Result<FloorAnswer, Refusal>,
        out: &mut Vec<Action>,
    ) {
        let mut running = std::mem::take(&mut self.running);
        for round in &mut running {
            if let Stage::Asking(asking) = &mut round.stage
                && asking.tag == tag
                && asking.waits.remove(&from)
            {
                self.take(env, from, round, answer, out);
                break;
            }
        }
        self.running = running;
        self.reap(env);
    }

    fn take(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        round: &mut Round,
        answer: Result<FloorAnswer, Refusal>,
        out: &mut Vec<Action>,
    ) {
        let Stage::Asking(asking) = &mut round.stage else { return };
        match (answer, asking.step) {
            (Ok(FloorAnswer::Promised { lives: met }), FloorStep::Promise { .. }) => {
                if asking.lives.is_some_and(|others| others != met) {
                    // They will greet each other.
                    round.stage = Stage::Ended(Ended::Soon);
                    return;
                }
                asking.lives = Some(met);
            }
            (Ok(FloorAnswer::Able(able)), FloorStep::Promise { .. }) => {
                asking.able = asking.able.min(able);
                asking.unable.insert(from);
            }
            (Ok(FloorAnswer::Unequal(level)), _) => {
                follow(env, round.site.place, level, out);
                round.stage = Stage::Ended(Ended::Soon);
                return;
            }
            (Ok(FloorAnswer::Raised { clock }), FloorStep::Raise(_)) => asking.clocks = asking.clocks.max(clock),
            _ => {
                round.stage = Stage::Ended(Ended::Held([from].into()));
                return;
            }
        }
        if !asking.waits.is_empty() {
            return;
        }
        let (step, met) = (asking.step, asking.lives.unwrap_or_default());
        match step {
            FloorStep::Promise { .. } if !asking.unable.is_empty() => {
                round.attempts += 1;
                let unable = std::mem::take(&mut asking.unable);
                if round.attempts > ATTEMPTS_MAX || asking.able <= env.floors.of(round.site.place).level.settled {
                    round.stage = Stage::Ended(Ended::Held(unable));
                    return;
                }
                self.held.insert(round.site.place, unable);
                round.up_to = asking.able;
                self.ask_to_promise(env, round, out);
            }
            FloorStep::Promise { .. } => {
                let others: Vec<NodeId> = round.taking_part(env).filter(|node| *node != env.me.node).collect();
                let again = if sabotaged!(RaiseAfterOnePass) { 0 } else { others.len().saturating_sub(1) };
                let left = others.iter().chain(&others[..again]).copied().collect();
                round.stage = Stage::Comparing { left, running: false, failures: 0, lives: met };
            }
            FloorStep::Raise(level) => {
                let settled = Settled { at: level.settled, clocks: asking.clocks };
                self.settled.entry(round.site.place).or_insert(settled);
                self.uneven.remove(&round.site.place);
                if round.attempts == 0 {
                    self.held.remove(&round.site.place);
                }
                // The next step waits for clocks; one that was less than wanted, for whoever could not do more.
                let lag = self.lag.unwrap_or_default();
                let wait = if round.attempts == 0 { lag.min(Millis(1_000)) } else { Millis(lag.0 / 4) };
                round.stage = Stage::Ended(Ended::Done(wait));
            }
        }
    }

    /// The next comparison that a round waits for, of a place that is free.
    pub(super) fn pop(&mut self, is_free: impl Fn(Place) -> bool) -> Option<(Place, NodeId)> {
        self.running.iter_mut().find_map(|round| {
            let place = round.site.place;
            let Stage::Comparing { left, running: running @ false, .. } = &mut round.stage else { return None };
            let peer = *left.front().filter(|_| is_free(place))?;
            *running = true;
            Some((place, peer))
        })
    }

    /// Whether [`Rounds::pop`] would return something.
    pub(super) fn is_queued(&self, is_free: impl Fn(Place) -> bool) -> bool {
        self.running.iter().any(|round| {
            matches!(&round.stage, Stage::Comparing { left, running: false, .. } if !left.is_empty())
                && is_free(round.site.place)
        })
    }

    /// A comparison that a round waited for has ended.
    pub(super) fn compared(&mut self, place: Place, peer: NodeId, outcome: Result<(), UnfinishedReason>) {
        let Some(round) = self.running.iter_mut().find(|round| round.site.place == place) else { return };
        let Stage::Comparing { left, running, failures, .. } = &mut round.stage else { return };
        if left.front() != Some(&peer) || !*running {
            return;
        }
        *running = false;
        match outcome {
            Ok(()) => {
                left.pop_front();
            }
            Err(UnfinishedReason::StillDifferent) if *failures < ATTEMPTS_MAX => *failures += 1,
            Err(_) => round.stage = Stage::Ended(Ended::Held([peer].into())),
        }
    }

    /// The store did not take what was decided: what was read is in doubt.
    pub(super) fn forget(&mut self) {
        for round in &mut self.running {
            if let Stage::Looking(_) = round.stage {
                round.stage = Stage::Ended(Ended::Soon);
            }
        }
    }

    /// Takes note of rounds that have ended.
    fn reap(&mut self, env: &Environment<'_>) {
        let lag = self.lag.unwrap_or_default();
        let (ended, running) =
            std::mem::take(&mut self.running).into_iter().partition(|round| matches!(round.stage, Stage::Ended(_)));
        self.running = running;
        for Round { site: Site { place, .. }, stage, .. } in ended {
            match stage {
                Stage::Ended(Ended::Done(wait)) => self.plan(env, place, wait),
                Stage::Ended(Ended::Held(by)) => {
                    self.held.insert(place, by);
                    self.plan(env, place, Millis(lag.0 / 4));
                }
                _ => self.plan(env, place, self.retry_after.min(lag)),
            }
        }
    }

    /// A place is looked at again after about that long.
    fn plan(&mut self, env: &Environment<'_>, place: Place, wait: Millis) {
        let now = env.now.monotonic;
        let more = draw(self.seed, place, env.me.node, now) % (wait.0 / 4).max(1);
        self.due.insert((now.saturating_add(wait).saturating_add(Millis(more + 1)), place));
    }

    /// What is led here, and what holds it back.
    pub(super) fn status(&self) -> PurgeStatus {
        let by: BTreeSet<NodeId> = self.held.values().flatten().copied().collect();
        PurgeStatus {
            places: self.due.len() + self.running.len(),
            rounds: self.rounds,
            held_back: self.held.len(),
            held_back_by: by.into_iter().collect(),
            ..PurgeStatus::default()
        }
    }
}

/// Whether a node is the one of the replicas of a place that leads.
fn leads(node: NodeId, table: &TableSchema, place: Place) -> bool {
    table.layout.replicas(place.partition).iter().min() == Some(&node)
}
