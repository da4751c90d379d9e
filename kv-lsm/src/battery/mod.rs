//! What proves the engine, as a part of it: hosts that bring a [`Disk`](crate::disk::Disk) of their own, or change the engine,
//! can run the same. Feature `battery`.
//!
//! A *case* is what one seed stands for, and shows the same again whenever it is run. A broken promise is a panic that says
//! which; [`session::Session`] runs cases for as long as is wanted and collects what they found.
//!
//! | suite | what a case does |
//! |---|---|
//! | [`power_cuts`] | cuts the power at every call of a random trace, and inside recovery |
//! | [`refusals`] | makes calls to the disk fail, once and for ever |
//! | [`corruption`] | damages every kind of file |
//! | [`model`] | compares databases with sorted maps; then [`first_in_first_out`], where old tables are dropped |
//! | [`kill`] | kills a real process again and again |
//!
//! That the battery can fail is proved by breaking the engine on purpose, one rule at a time: [`Sabotage`].

pub mod clock;
pub mod content;
pub mod corruption;
pub mod drive;
pub mod first_in_first_out;
pub mod generate;
pub mod history;
pub mod inspect;
pub mod invariants;
pub mod kill;
pub mod manifest_loss;
pub mod model;
mod parts;
pub mod power_cuts;
pub mod random;
pub mod refusals;
pub mod report;
pub mod session;
pub mod settings;
pub mod subject;
pub mod trace;

pub use crate::sabotage::{Sabotage, interleave};
