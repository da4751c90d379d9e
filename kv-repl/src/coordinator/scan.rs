//! Reads a page of a table, or of the sort keys of one partition key, in the order of the store.
//!
//! 1. Take the partitions from the position on that one set of replicas holds, and ask as many of these as meet the level for
//!    what they hold there: one for records, the others for digests. Ask the rest after a pause.
//! 2. Put the lists together as far as all of them go. A key of which all list the same is settled.
//! 3. Read each other key by itself, at the level of the scan. Such a read repairs what differs before it answers (lesson 09).
//! 4. Leave out what is deleted or has expired. Go on until the page is full, has come across as many keys as it may, or the range ends.
//! 5. At the deadline, hand out what there is, with the position after it; fail only when there is nothing.
//!
//! Nothing is remembered between two pages: the cursor says it all. So a page can be asked for anywhere, and again.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::time::Millis;

use super::budget::{Budget, Extra};
use super::busy;
use super::retry::Agenda;
use super::scanning::{Found, Part, Scanning, cluster_of, reply, table_of};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Origin, Release, Request};
use crate::message::{Message, Refusal};
use crate::request::{Get, Read, ReadError};
use crate::scan::listing::Listing;
use crate::scan::position::cluster_name;
use crate::scan::{InvalidCursor, Scan, ScanError};
use crate::status::ExtraMessages;

/// The machine of scans.
#[derive(Debug)]
pub(crate) struct Scans {
    retry_after: Millis,
    /// Most bytes that one list takes.
    list_bytes_max: usize,
    /// By the tag of the part that is under way.
    under_way: BTreeMap<u64, Scanning>,
    agenda: Agenda,
    budget: Budget,
    next_tag: u64,
}

impl Scans {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            list_bytes_max: settings.record_bytes_max,
            under_way: BTreeMap::new(),
            agenda: Agenda::new(),
            budget: Budget::new(),
            next_tag: boot.first_tag(),
        }
    }

    /// Messages beyond those that scans need.
    pub(crate) const fn extra(&self) -> ExtraMessages {
        self.budget.count
    }

    fn begin(&mut self, env: &Environment<'_>, origin: Origin, deadline: Millis, scan: Scan, out: &mut Vec<Action>) {
        let scanning = Scanning::new(origin, deadline, scan);
        let handed_out_by = scanning.scan.position.cluster;
        if handed_out_by.is_some_and(|cluster| cluster != cluster_name(cluster_of(env))) {
            return out.push(reply(origin, Err(InvalidCursor::OtherTable.into())));
        }
        match table_of(env, &scanning.scan.position) {
            None => out.push(reply(origin, Err(ScanError::UnknownTable))),
            Some(table) if !table.options.is_replicated_durably() => {
                out.push(reply(origin, Err(ScanError::CacheTable)));
            }
            Some(_) => self.go_on(env, scanning, out),
        }
    }

    /// Begins the next part, or hands out the page.
    fn go_on(&mut self, env: &Environment<'_>, mut scanning: Scanning, out: &mut Vec<Action>) {
        let Some(at) = scanning.at.clone().filter(|_| !scanning.is_full()) else {
            return out.push(scanning.answer(env));
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        let part = match Part::begin(env, &scanning, at, tag, self.retry_after) {
            Ok(part) => part,
            Err(error) => return out.push(scanning.fail(env, error)),
        };
        let first = part.requirement.choose(&part.replicas);
        self.budget.earn(first.iter().filter(|node| **node != env.me.node).count());
        for (position, node) in first.iter().enumerate() {
            out.push(self.question(&part, &scanning, tag, *node, position > 0));
        }
        self.agenda.add(part.patience.at, tag);
        scanning.part = Some(part);
        self.under_way.insert(tag, scanning);
    }

    fn question(&self, part: &Part, scanning: &Scanning, tag: u64, to: NodeId, digests: bool) -> Action {
        let keys_max = scanning.scan.looks_max().saturating_sub(scanning.looked_at);
        // A few more than there is room for: some of them may be deleted.
        let keys_max = keys_max.min(2 * (scanning.scan.entries_max - scanning.entries.len()) + 16);
        let message = Message::Scan {
            tag,
            epoch: part.epoch,
            from: part.from.clone(),
            until: part.until.clone(),
            keys_max: u32::try_from(keys_max).unwrap_or(u32::MAX),
            bytes_max: u32::try_from(self.list_bytes_max).unwrap_or(u32::MAX),
            digests,
        };
        Action::Send { to, message, release: Release::Now }
    }

    /// Takes what is under way under a tag.
    fn take(&mut self, tag: u64) -> Option<(Scanning, Part)> {
        let mut scanning = self.under_way.remove(&tag)?;
        let part = scanning.part.take()?;
        self.agenda.remove(part.patience.at, tag);
        Some((scanning, part))
    }

    fn put_back(&mut self, tag: u64, mut scanning: Scanning, part: Part) {
        self.agenda.add(part.patience.at, tag);
        scanning.part = Some(part);
        self.under_way.insert(tag, scanning);
    }

    fn listed(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, listing: Listing, out: &mut Vec<Action>) {
        let Some((mut scanning, mut part)) = self.take(tag) else { return };
        if part.is_stale(env) {
            return self.go_on(env, scanning, out);
        }
        if part.found.is_none() && part.replicas.contains(&from) && part.admits(&listing) {
            part.listings.insert(from, listing);
            if part.requirement.is_met(|node| part.listings.contains_key(&node)) {
                let found = part.find(env, &mut scanning);
                let unsettled = found.keys.iter().enumerate().filter(|(_, (_, found))| matches!(found, Found::Reading));
                for (position, (key, _)) in unsettled {
                    let get = Get { key: key.clone(), consistency: scanning.scan.consistency, floor: None };
                    out.push(Action::Read { tag, position, deadline: scanning.deadline, get });
                }
                part.found = Some(found);
            }
        }
        self.settle(env, tag, scanning, part, out);
    }

    /// A key that replicas hold differently was read.
    fn read(
        &mut self,
        env: &Environment<'_>,
        tag: u64,
        position: usize,
        outcome: Result<Read, ReadError>,
        out: &mut Vec<Action>,
    ) {
        let Some((scanning, mut part)) = self.take(tag) else { return };
        if let Some(found) = &mut part.found
            && let Some((_, slot @ Found::Reading)) = found.keys.get_mut(position)
        {
            found.waits_for -= 1;
            *slot = match outcome {
                Err(error) => Found::Failed(error),
                Ok(read) if read.is_absent() => Found::NotThere,
                Ok(read) => {
                    let bytes = read.record().map_or(0, |record| record.to_bytes().len());
                    Found::There(read, bytes)
                }
            };
        }
        self.settle(env, tag, scanning, part, out);
    }

    /// Takes what a part has given into the page, once nothing of it is waited for.
    fn settle(
        &mut self,
        env: &Environment<'_>,
        tag: u64,
        mut scanning: Scanning,
        mut part: Part,
        out: &mut Vec<Action>,
    ) {
        let Some(found) = part.found.take_if(|found| found.waits_for == 0) else {
            return self.put_back(tag, scanning, part);
        };
        match scanning.collect(found) {
            Ok(()) => self.go_on(env, scanning, out),
            Err(error) => out.push(scanning.fail(env, ScanError::Read(error))),
        }
    }

    /// A replica has refused: lets the others answer now rather than after the pause.
    fn refused(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(part) = self.under_way.get_mut(&tag).and_then(|scanning| scanning.part.as_mut()) else { return };
        if part.refused.insert(from) {
            self.ask_the_rest(env, tag, out);
        }
    }

    /// Asks those who were not asked, or have not answered.
    fn ask_the_rest(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let Some(scanning) = self.under_way.get(&tag) else { return };
        let Some(part) = scanning.part.as_ref().filter(|part| part.found.is_none()) else { return };
        let is_silent = |node: &NodeId| !part.listings.contains_key(node) && !part.refused.contains(node);
        let silent: Vec<NodeId> = part.replicas.iter().copied().filter(is_silent).collect();
        for node in silent {
            if node == env.me.node || self.budget.spend(now, Extra::Retry) {
                let (scanning, part) = (&self.under_way[&tag], self.under_way[&tag].part.as_ref());
                out.extend(part.map(|part| self.question(part, scanning, tag, node, false)));
            }
        }
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        while let Some(tag) = self.agenda.pop(now) {
            let Some((scanning, mut part)) = self.take(tag) else { continue };
            if now >= scanning.deadline {
                let answered = part.requirement.progress(|node| part.listings.contains_key(&node));
                let required = part.requirement.required();
                out.push(scanning.fail(env, ScanError::Timeout { answered, required }));
                continue;
            }
            if part.is_stale(env) {
                self.go_on(env, scanning, out);
                continue;
            }
            part.patience.again(now);
            part.refused.clear();
            self.put_back(tag, scanning, part);
            self.ask_the_rest(env, tag, out);
        }
    }
}

impl Machine for Scans {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Scan(scan) } => {
                self.begin(env, origin, deadline, *scan, out);
            }
            Event::Message { from, message: Message::Listed { tag, outcome: Ok(listing) } } => {
                self.listed(env, from, tag, listing, out);
            }
            Event::Message {
                from,
                message: Message::Listed { tag, outcome: Err(Refusal::Damaged | Refusal::Importing) },
            } => self.refused(env, from, tag, out),
            Event::Message {
                from,
                message: Message::Listed { tag, outcome: Err(Refusal::Overloaded { retry_after }) },
            } => {
                out.push(busy(env, from, retry_after));
                self.refused(env, from, tag, out);
            }
            Event::ReadEnded { tag, position, outcome } => self.read(env, tag, position, outcome, out),
            Event::Unreachable(peer) => {
                let lacks = |part: &Part| part.replicas.contains(&peer) && !part.listings.contains_key(&peer);
                let waiting = self.under_way.iter().filter(|(_, scanning)| scanning.part.as_ref().is_some_and(lacks));
                let tags: Vec<u64> = waiting.map(|(tag, _)| *tag).collect();
                tags.into_iter().for_each(|tag| self.ask_the_rest(env, tag, out));
            }
            Event::Deadline => self.due(env, out),
            Event::Message { .. } | Event::Request { .. } | Event::Introduction { .. } => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}
