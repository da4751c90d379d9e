//! Making many sorted runs few: what to merge is decided in `pick`, what becomes of the versions of a key in `fold`, the
//! merging itself is `rewrite`, what needs none is in `moves`, what of the result stays in memory in
//! `warm`, and `run` carries out a choice.

pub(crate) mod collect;
pub(crate) mod fold;
pub(crate) mod moves;
pub(crate) mod outputs;
pub(crate) mod pick;
pub(crate) mod rewrite;
pub(crate) mod run;
pub(crate) mod warm;
