//! Takes in a record that another replica holds.

use bytes::Bytes;
use kv_core::key::RecordKey;
use kv_core::record::{Record, Rule};
use kv_core::store::{Batch, Space};

use super::span::Span;
use crate::floors::{Arrived, arrive};
use crate::machine::{Action, Environment, Notice, Stripe};

/// What a replica holds after it has joined what it was sent.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Joined {
    /// That.
    AsSent,
    /// That and more.
    More,
}

/// The record is not of this place or this rule, or one of the two cannot be read. Nothing was changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Unfit;

/// Joins `sent` to what this replica holds. Only ever adds to what is known: a record that holds as much already is not
/// written at all.
pub(super) fn join(
    env: &Environment<'_>,
    place: Span,
    rule: Rule,
    key: &RecordKey,
    sent: &Bytes,
    out: &mut Vec<Action>,
) -> Result<Joined, Unfit> {
    if !place.holds(key) {
        return Err(Unfit);
    }
    let sent = Record::decode(sent).ok().filter(|sent| sent.rule() == rule).ok_or(Unfit)?;
    let mut held = None;
    env.view
        .get(Space::DATA, key.as_bytes(), &mut |bytes| held = Some(Record::decode_slice(bytes)))
        .map_err(|_| Unfit)?;
    let held = held.transpose().map_err(|_| Unfit)?;
    let settled = env.floors.of_key(env.catalog, key).level.settled;
    let joined = match arrive(held.as_ref().filter(|_| !sabotaged!(ReplaceOnRepair)), &sent, settled) {
        Arrived::Joined(joined) => joined,
        // The other one has yet to drop it, and misses nothing.
        Arrived::Known => return Ok(Joined::AsSent),
        Arrived::Obsolete | Arrived::Unfit => return Err(Unfit),
    };
    out.push(Action::Notify(Notice::Observed(sent.birth_max())));
    if held != joined {
        let mut batch = Batch::new();
        match &joined {
            Some(joined) => batch.put(Space::DATA, key.as_bytes(), &joined.to_bytes()),
            None => batch.delete(Space::DATA, key.as_bytes()),
        }
        out.push(Action::Store { stripe: Stripe::of(key.token()), batch });
    }
    Ok(if joined.is_none_or(|joined| joined == sent) { Joined::AsSent } else { Joined::More })
}
