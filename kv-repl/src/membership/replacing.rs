//! How a member whose disk was lost returns to its place with a new storage (rule P1).
//!
//! 1. Whoever runs the node starts it on an empty store and asks it to [`replace`](crate::Node::replace) what was there. It
//!    tells so to every node it knows of.
//! 2. A member that serves, and has not heard of the storage before for a while, notes, durably, that the storage of that name is this one now and since when, and tells everybody. Nobody
//!    else has to agree: what members know of storages is joined, name by name, and the latest counts.
//! 3. The node stores what it is told, numbers its lives behind all those of the storage before, and is confirmed by a
//!    majority as after any start.
//! 4. It counts for nothing in a partition until it has imported what was there: see [`crate::imports`].
//!
//! The storage that was there is refused from now on by everybody who knows. A member that has missed it all learns of it when
//! it refuses the new storage, or asks a replica that knows: requests name the storages they are meant for
//! ([`Catalog::epoch_of`](crate::catalog::Catalog::epoch_of)).

use kv_core::store::Batch;
use kv_core::time::Millis;

use super::founding::save;
use super::{Membership, dropped, reply};
use crate::catalog::Founding;
use crate::identity::ClusterId;
use crate::machine::{Action, Environment, Notice, Origin, Release, Stripe};
use crate::message::{Message, Unwelcome};
use crate::peers::DropReason;
use crate::request::ClusterError;
use crate::status::Standing;
use crate::storages::tell;
use crate::wire::Header;

/// What somebody waits for at a node with a new storage.
#[derive(Debug)]
pub(super) struct Replacing {
    origin: Origin,
    pub(super) deadline: Millis,
}

impl Membership {
    pub(super) fn begin_replace(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        out: &mut Vec<Action>,
    ) {
        if env.standing == Standing::Halted {
            return out.push(reply(origin, Err(ClusterError::NotServing(env.standing))));
        }
        if env.catalog.is_some() {
            return out.push(reply(origin, Err(ClusterError::AlreadyFounded)));
        }
        if let Some(other) = self.replacing.replace(Replacing { origin, deadline }) {
            out.push(reply(other.origin, Err(ClusterError::Incomplete { missing: Vec::new() })));
        }
        self.next_hello = env.now.monotonic;
    }

    /// A member has taken this node's storage for that of its name. This life gets another number, which nobody may hear of before
    /// it is durable: a node that forgot it in a crash would pass for a disk that went back in time. Of several members
    /// that did so at different moments the latest counts, so that what is stored is never behind what was told.
    pub(super) fn take_place(
        &mut self,
        env: &Environment<'_>,
        founding: &Founding,
        generation: u64,
        out: &mut Vec<Action>,
    ) {
        if generation < self.generation {
            return;
        }
        self.generation = generation;
        let mut batch = Batch::new();
        env.me.of_generation(generation).save(false, &mut batch);
        save(founding, &mut batch);
        out.push(Action::Store { stripe: Stripe::META, batch });
        out.push(tell(founding, env.me.node));
    }

    /// What [`Membership::take_place`] has stored is durable.
    pub(super) fn took_place(&mut self, env: &Environment<'_>, founding: Box<Founding>, out: &mut Vec<Action>) {
        if env.catalog.is_none() {
            out.push(Action::Notify(Notice::Founded(founding)));
            self.next_hello = env.now.monotonic;
        }
    }

    /// Asks everybody, as long as nobody has taken the new storage for the member's.
    pub(super) fn ask_to_replace(&self, env: &Environment<'_>, out: &mut Vec<Action>) {
        if self.replacing.is_some() && env.catalog.is_none() {
            let message = Message::Replace { nonce: env.me.nonce };
            let ask = |to| Action::Send { to, message: message.clone(), release: Release::Durable(Stripe::META) };
            out.extend(env.peers.nodes().map(ask));
        }
    }

    /// Answers who waits, once the node serves and knows of everything that it lacks.
    pub(super) fn advance_replace(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let Some(replacing) = &self.replacing else { return };
        let knows_tables = env.catalog.is_some_and(|catalog| catalog.version() >= self.tables);
        let outcome = if env.standing == Standing::Serving && knows_tables {
            Ok(())
        } else if env.now.monotonic >= replacing.deadline {
            let missing = env.peers.nodes().filter(|node| !self.confirmed.contains(node)).collect();
            Err(ClusterError::Incomplete { missing })
        } else {
            return;
        };
        out.push(reply(replacing.origin, outcome));
        self.replacing = None;
    }
}

/// A node says that its storage is new, and whoever runs it that it is to count from now on.
pub(super) fn replace(env: &Environment<'_>, header: &Header, nonce: u64, out: &mut Vec<Action>) {
    let Some(catalog) = env.catalog.filter(|_| env.standing == Standing::Serving) else { return };
    if header.cluster != ClusterId::NONE && header.cluster != catalog.founding().cluster {
        return out.push(dropped(DropReason::OtherCluster));
    }
    let member = catalog.founding().member(header.from).filter(|member| member.member.node != env.me.node);
    let Some(member) = member else {
        let message = Message::Unwelcome { nonce, reason: Unwelcome::Stranger };
        return out.push(Action::Send { to: header.from, message, release: Release::Now });
    };
    let mut founding = catalog.founding().clone();
    if member.incarnation != header.from_incarnation {
        // Whoever still answers under that name is not replaced; the other one will ask again.
        if env.peers.is_reachable(header.from) && !sabotaged!(ReplaceTheLiving) {
            return;
        }
        founding.succeed(header.from, header.from_incarnation, env.now.wall);
        out.extend(env.peers.nodes().filter(|node| *node != header.from).map(|node| tell(&founding, node)));
        know(env, founding.clone(), out);
    }
    out.push(tell(&founding, header.from));
}

/// Another member tells what it knows of the storages of all.
pub(super) fn told(env: &Environment<'_>, header: &Header, told: &Founding, out: &mut Vec<Action>) {
    let Some(catalog) = env.catalog else { return };
    let is_by_member = |founding: &Founding| {
        founding.member(header.from).is_some_and(|member| member.incarnation == header.from_incarnation)
    };
    if !is_by_member(catalog.founding()) && !is_by_member(told) {
        return out.push(dropped(DropReason::Stranger));
    }
    let mut joined = catalog.founding().clone();
    let is_news = joined.join(told) && !sabotaged!(ForgetReplacements);
    // Whoever lacks something is told, and has nothing to answer then.
    if told.clone().join(&joined) {
        out.push(tell(&joined, header.from));
    }
    if is_news {
        know(env, joined, out);
    }
}

/// Notes which storages the members have now. A node whose own is not among them serves nobody any more.
fn know(env: &Environment<'_>, founding: Founding, out: &mut Vec<Action>) {
    let mut batch = Batch::new();
    save(&founding, &mut batch);
    let is_current = founding.member(env.me.node).is_some_and(|me| me.incarnation == env.me.incarnation);
    if !is_current {
        env.me.quarantined().save(false, &mut batch);
    }
    out.push(Action::Store { stripe: Stripe::META, batch });
    out.push(Action::Notify(Notice::Refounded(Box::new(founding))));
    if !is_current {
        out.push(Action::Notify(Notice::Quarantined));
    }
}
