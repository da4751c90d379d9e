//! Replicated data types on one dotted causal store.
//!
//! A [`Dotted`] pairs a value, whose parts stand under dots, with the context of every dot that was seen. A replica makes a
//! *change* of its state with a dot of its own, and everybody joins changes and states alike, blindly, in any order, any number
//! of times. A removal carries no part, only the dots that it removes: it removes what it observed, and what was written at
//! the same time elsewhere survives.
//!
//! | type | concurrent changes | removal, and clearing as a whole |
//! |---|---|---|
//! | [`PnCounter`] | all count | takes what was counted and observed, once, even when two remove at once |
//! | [`OrSet`] | an insert survives a removal of the same element | takes the inserts that it observed |
//! | [`LwwMap`] | the put with the greater stamp is read; a put survives a removal | takes the puts that it observed, whatever their stamps |
//! | [`OrMap`] | those of the values; an update survives a removal of its key | resets what it observed of the value under the key |
//! | [`EnableWinsFlag`] | enabled | disabled, unless enabled meanwhile |
//! | [`DisableWinsFlag`] | disabled | disabled, unless enabled meanwhile |
//! | [`MaxRegister`], [`MinRegister`] | the greatest, the least | takes the offers that it observed; a lesser one made meanwhile stays |
//! | [`MvRegister`] | all are kept and read | takes the writes that it observed |
//!
//! [`Crdt`] is any of them over bytes and numbers, and [`Update`] a change of it as a value: what a table of such types
//! stores and sends.
//!
//! Sources: Almeida, Shoker, Baquero, "Delta state replicated data types" (J. Parallel Distrib. Comput. 2018) for the store, its
//! join, and changes as small states; Bieniusa and others, "An optimized conflict-free replicated set" (INRIA RR-8083, 2012)
//! for sets without tombstones; Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of convergent and commutative
//! replicated data types" (INRIA RR-7506, 2011) for the counter and the registers; Brown, Cribbs, Meiklejohn, Elliott, "Riak DT map"
//! (PaPEC 2014) for maps of types. Dots are explicit and contexts have exceptions, as in [`crate::version`].

mod any;
mod counter;
mod dots;
mod dotted;
mod element;
mod flag;
mod map;
mod register;
mod set;
mod update;

pub use any::{Crdt, Field, Kind};
pub use counter::{CounterOverflow, PnCounter};
pub use dots::Dots;
pub use dotted::{DotStore, Dotted, Scope};
pub use element::Element;
pub use flag::{DisableWinsFlag, EnableWinsFlag};
pub use map::{LwwMap, OrMap};
pub use register::{MaxRegister, MinRegister, MvRegister};
pub use set::OrSet;
pub use update::{Mint, Update, UpdateRefused};

#[cfg(test)]
mod tests;
