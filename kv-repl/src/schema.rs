//! Tables: created at one member, known by all.
//!
//! 1. The member with the lowest name, the schema home, gives each table the next number, stores it, and pushes it.
//! 2. Every member stores what it is pushed, in order, and says how many tables it durably knows.
//! 3. A table is created when every member knows it. Asking again with the same options waits for the same table.
//! 4. Greetings carry the number of tables known; whoever knows more pushes the rest.
//! 5. A home whose disk was lost and replaced gives no number before it has heard from all members, and knows what they know.
//!
//! So what a node knows is a prefix of what the home knows, and no number is given twice. While the home is away no table
//! can be created; everything else goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_core::NodeId;
use kv_core::key::TableId;
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use crate::catalog::{Catalog, NAME_BYTES_MAX, TableSchema};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request, Stripe};
use crate::message::Message;
use crate::request::ClusterError;
use crate::status::Standing;
use crate::table_options::TableOptions;

/// Where tables are stored: the prefix, then the number in big-endian.
pub(crate) const TABLE_KEY_PREFIX: &[u8] = b"table/";

/// The machine of tables.
#[derive(Debug)]
pub(crate) struct Schema {
    retry_after: Millis,
    deadline: Millis,
    next_retry: Option<Millis>,
    /// How many tables each member has said to know.
    have: BTreeMap<NodeId, u32>,
    /// At the home: who waits until everybody knows how many tables.
    creating: Vec<(Origin, Millis, u32)>,
    /// Elsewhere: what the home was asked.
    asked: BTreeMap<u64, Asked>,
    next_tag: u64,
}

#[derive(Debug)]
struct Asked {
    origin: Origin,
    deadline: Millis,
    name: String,
    options: TableOptions,
}

impl Schema {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            deadline: settings.deadline,
            next_retry: None,
            have: BTreeMap::new(),
            creating: Vec::new(),
            asked: BTreeMap::new(),
            next_tag: boot.first_tag(),
        }
    }

    fn create(
        &mut self,
        env: &Environment<'_>,
        (origin, deadline): (Origin, Millis),
        name: String,
        options: TableOptions,
        out: &mut Vec<Action>,
    ) {
        let Some(catalog) = env.catalog.filter(|_| env.standing == Standing::Serving) else {
            return out.push(answer(origin, Err(ClusterError::NotServing(env.standing))));
        };
        let home = catalog.founding().schema_home();
        if home != env.me.node {
            let tag = self.next_tag;
            self.next_tag += 1;
            out.push(ask(home, tag, &name, &options));
            self.asked.insert(tag, Asked { origin, deadline, name, options });
            self.next_retry = Some(env.now.monotonic.saturating_add(self.retry_after));
            return;
        }
        let unheard = self.unheard(env, catalog);
        if !unheard.is_empty() {
            return out.push(answer(origin, Err(ClusterError::Incomplete { missing: unheard })));
        }
        match at_home(catalog, name, options) {
            Err(error) => return out.push(answer(origin, Err(error))),
            Ok(Table::Known(version)) => self.creating.push((origin, deadline, version)),
            Ok(Table::New(table)) => {
                self.creating.push((origin, deadline, table.id.0));
                out.push(Action::Store { stripe: Stripe::META, batch: batch_of(&table) });
                let after = catalog.version();
                for to in env.peers.nodes() {
                    let message = Message::CatalogPush { after, tables: vec![Arc::clone(&table)] };
                    out.push(Action::Send { to, message, release: Release::Durable(Stripe::META) });
                }
                out.push(Action::Notify(Notice::TableAdded(table)));
            }
        }
        self.next_retry = Some(env.now.monotonic.saturating_add(self.retry_after));
        self.settle(env, out);
    }

    /// At a home whose disk was lost: who may know of a table that it has not heard of. It gives no number before it has heard
    /// from all, and knows what they do: one of them may hold a table whose creation nobody else has heard of (rule P14).
    fn unheard(&self, env: &Environment<'_>, catalog: &Catalog) -> Vec<NodeId> {
        let is_first = catalog.founding().member(env.me.node).is_none_or(|me| me.generation == 0);
        if is_first || sabotaged!(CountTablesAnew) {
            return Vec::new();
        }
        let members = catalog.founding().members.iter().map(|member| member.member.node);
        let is_unheard = |node: &NodeId| self.have.get(node).is_none_or(|have| *have > catalog.version());
        members.filter(|node| *node != env.me.node).filter(is_unheard).collect()
    }

    fn pushed(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        after: u32,
        tables: Vec<Arc<TableSchema>>,
        out: &mut Vec<Action>,
    ) {
        let Some(catalog) = env.catalog else { return };
        let mut version = catalog.version();
        let known = version.saturating_sub(after);
        if after <= version {
            for table in tables.into_iter().skip(usize::try_from(known).unwrap_or(usize::MAX)) {
                if table.id != TableId(version + 1) {
                    break;
                }
                version += 1;
                out.push(Action::Store { stripe: Stripe::META, batch: batch_of(&table) });
                out.push(Action::Notify(Notice::TableAdded(table)));
            }
        }
        let message = Message::CatalogHave { version };
        out.push(Action::Send { to: from, message, release: Release::Durable(Stripe::META) });
    }

    fn heard(&mut self, env: &Environment<'_>, from: NodeId, version: u32, out: &mut Vec<Action>) {
        let have = self.have.entry(from).or_default();
        *have = version.max(*have);
        self.settle(env, out);
    }

    /// Answers those whose table everybody knows.
    fn settle(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let Some(catalog) = env.catalog else { return };
        let have = &self.have;
        self.creating.retain(|&(origin, deadline, version)| {
            let missing = missing(env, catalog, have, version);
            let outcome = if missing.is_empty() {
                Ok(TableId(version))
            } else if env.now.monotonic >= deadline {
                Err(ClusterError::Incomplete { missing })
            } else {
                return true;
            };
            out.push(answer(origin, outcome));
            false
        });
    }

    fn retry(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let Some(catalog) = env.catalog else { return };
        self.settle(env, out);
        let home = catalog.founding().schema_home();
        self.asked.retain(|&tag, asked| {
            if env.now.monotonic >= asked.deadline {
                out.push(answer(asked.origin, Err(ClusterError::Incomplete { missing: vec![home] })));
                return false;
            }
            out.push(ask(home, tag, &asked.name, &asked.options));
            true
        });
        if let Some(version) = self.creating.iter().map(|(_, _, version)| *version).max() {
            for node in missing(env, catalog, &self.have, version) {
                out.extend(push(catalog, node, self.have.get(&node).copied().unwrap_or(0)));
            }
        }
        let waiting = !self.asked.is_empty() || !self.creating.is_empty();
        self.next_retry = waiting.then(|| env.now.monotonic.saturating_add(self.retry_after));
    }
}

impl Machine for Schema {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::CreateTable { name, options } } => {
                self.create(env, (origin, deadline), name, options, out);
            }
            Event::Message { from, message } => match message {
                Message::CreateTable { tag, name, options } => {
                    let deadline = env.now.monotonic.saturating_add(self.deadline);
                    let origin = Origin::Peer { node: from, tag };
                    self.create(env, (origin, deadline), name, options, out);
                }
                Message::TableCreated { tag, outcome } => {
                    if let Some(asked) = self.asked.remove(&tag) {
                        out.push(answer(asked.origin, outcome.map(TableId)));
                    }
                }
                Message::CatalogPush { after, tables } => self.pushed(env, from, after, tables, out),
                Message::CatalogHave { version } => self.heard(env, from, version, out),
                _ => {}
            },
            Event::Introduction { header, message } => {
                let cluster = env.catalog.map(|catalog| catalog.founding().cluster);
                if let Message::Hello { catalog_version, .. } | Message::HelloReply { catalog_version, .. } = message
                    && let Some(catalog) = env.catalog.filter(|_| cluster == Some(header.cluster))
                {
                    self.heard(env, header.from, catalog_version, out);
                    out.extend(push(catalog, header.from, catalog_version));
                }
            }
            Event::Deadline if self.next_retry.is_some_and(|at| at <= env.now.monotonic) => self.retry(env, out),
            Event::Deadline | Event::Request { .. } | Event::ReadEnded { .. } | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.next_retry
    }
}

enum Table {
    Known(u32),
    New(Arc<TableSchema>),
}

fn at_home(catalog: &Catalog, name: String, options: TableOptions) -> Result<Table, ClusterError> {
    if let Some(table) = catalog.named(&name) {
        return if table.options == options { Ok(Table::Known(table.id.0)) } else { Err(ClusterError::TableExists) };
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(ClusterError::InvalidTable(format!("a name of {} bytes", name.len())));
    }
    options.check().map_err(ClusterError::InvalidOptions)?;
    for level in [options.reads, options.writes] {
        if options.replicas < level.replicas_min() {
            let replicas = options.replicas;
            return Err(ClusterError::InvalidTable(format!("{replicas} replicas never meet its default of {level}")));
        }
    }
    let layout =
        catalog.founding().lay_out(options.replicas).map_err(|error| ClusterError::InvalidTable(error.to_string()))?;
    Ok(Table::New(Arc::new(TableSchema { id: catalog.next_id(), name, options, layout: Arc::new(layout) })))
}

/// Members other than this node that are not known to know so many tables.
fn missing(env: &Environment<'_>, catalog: &Catalog, have: &BTreeMap<NodeId, u32>, version: u32) -> Vec<NodeId> {
    let members = catalog.founding().members.iter().map(|member| member.member.node);
    members.filter(|node| *node != env.me.node && have.get(node).is_none_or(|known| *known < version)).collect()
}

fn ask(home: NodeId, tag: u64, name: &str, options: &TableOptions) -> Action {
    let message = Message::CreateTable { tag, name: name.to_owned(), options: options.clone() };
    Action::Send { to: home, message, release: Release::Now }
}

/// What `to` lacks, in pieces of one table, because a layout may fill most of a frame.
fn push(catalog: &Catalog, to: NodeId, known: u32) -> Vec<Action> {
    let lacking = catalog.tables().iter().skip(usize::try_from(known).unwrap_or(usize::MAX));
    lacking
        .map(|table| {
            let message = Message::CatalogPush { after: table.id.0 - 1, tables: vec![Arc::clone(table)] };
            Action::Send { to, message, release: Release::Durable(Stripe::META) }
        })
        .collect()
}

fn batch_of(table: &TableSchema) -> Batch {
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    let mut batch = Batch::new();
    batch.put(Space::META, &[TABLE_KEY_PREFIX, &table.id.0.to_be_bytes()].concat(), &bytes);
    batch
}

/// Tells whoever asked, here or at a peer.
fn answer(origin: Origin, outcome: Result<TableId, ClusterError>) -> Action {
    match origin {
        Origin::Client(_) | Origin::Scan { .. } => {
            Action::Reply { origin, outcome: Outcome::CreateTable(outcome), release: Release::Durable(Stripe::META) }
        }
        Origin::Peer { node, tag } => {
            let message = Message::TableCreated { tag, outcome: outcome.map(|table| table.0) };
            Action::Send { to: node, message, release: Release::Durable(Stripe::META) }
        }
    }
}
