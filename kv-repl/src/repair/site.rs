//! A place as the catalog describes it, for the node that holds it.

use std::ops::RangeInclusive;

use kv_core::NodeId;
use kv_core::hash::Token;
use kv_core::record::Rule;

use super::span::Span;
use crate::comparison::{Place, token_bits};
use crate::machine::Environment;
use crate::message::Refusal;
use crate::status::Standing;

/// What a comparison needs to know of its place.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) epoch: u64,
    pub(super) rule: Rule,
    pub(super) tokens: RangeInclusive<Token>,
    pub(super) span: Span,
}

impl Site {
    /// The site, if this node and `peer` both hold it and this node serves.
    pub(super) fn find(env: &Environment<'_>, place: Place, peer: NodeId) -> Result<Self, Refusal> {
        let catalog = env.catalog.filter(|_| env.standing == Standing::Serving).ok_or(Refusal::NotServing)?;
        let table = catalog.table(place.table).ok_or(Refusal::UnknownTable)?;
        if place.partition.0 >= table.layout.partitions() || !table.options.is_replicated_durably() {
            return Err(Refusal::NotReplica);
        }
        let replicas = table.layout.replicas(place.partition);
        if ![env.me.node, peer].iter().all(|node| replicas.contains(node)) {
            return Err(Refusal::NotReplica);
        }
        let tokens = table.layout.range_of(place.partition);
        let span = Span::new(place.table, &tokens);
        let epoch = catalog.epoch_of(replicas);
        Ok(Self { place, epoch, rule: table.options.rule, tokens, span })
    }

    /// How deep branches go: down to single tokens.
    pub(super) fn deepest(&self) -> u8 {
        token_bits(&self.tokens)
    }
}
