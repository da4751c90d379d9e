//! What nodes tell each other of the storages of members, besides greeting each other.

use kv_core::NodeId;

use crate::catalog::Founding;
use crate::machine::{Action, Environment, Release, Stripe};
use crate::message::{Message, Refusal};

/// Tells a node which storages the members have.
pub(crate) fn tell(founding: &Founding, to: NodeId) -> Action {
    Action::Send { to, message: Message::Found(Box::new(founding.clone())), release: Release::Durable(Stripe::META) }
}

/// Whoever asks for other storages than this node knows of, and is refused for that, is told of those, and tells what this one
/// has missed.
pub(crate) fn enlighten(env: &Environment<'_>, asker: NodeId, refusal: Refusal, out: &mut Vec<Action>) {
    if let (Some(catalog), Refusal::Fenced { .. }) = (env.catalog, refusal) {
        out.push(tell(catalog.founding(), asker));
    }
}
