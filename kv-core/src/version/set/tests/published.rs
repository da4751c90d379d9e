//! The cases that the reference implementation of dotted version vector sets is tested with: `dvvset.erl` by Ricardo
//! Gonçalves (`ricardobcl/Dotted-Version-Vectors`, which Riak uses), after Almeida, Baquero, Gonçalves, Preguiça and
//! Fonte, "Scalable and accurate causality tracking for eventually consistent stores" (DAIS 2014). Each test here is
//! that of the same name there.
//!
//! There a clock lists, for each actor, how far it counted and the values of its last counts, the newest first; here dots
//! are explicit, so `("a", 3, ["v5", "v2"])` is v5 under dot 3, v2 under dot 2, and 1 to 3 seen.
//!
//! What has no counterpart here: values without a dot, which a client holds there before its write reaches a server
//! (servers mint, so those values are left out of a case, or the case is, when it is about nothing else: `last` of Y and
//! its `lww`); actors who have counted to zero, which are left out; and `map`, which gives other values to dots that
//! were given out.

use super::*;
use crate::version::Causality;

fn actor(name: &str) -> Actor {
    super::actor(u64::from(name.as_bytes()[0]))
}

fn clock<V: Copy, const N: usize>(actors: [(&str, u64, &[V]); N]) -> DottedVersionSet<V> {
    let mut context = VersionVector::new();
    let mut versions = Vec::new();
    for (name, counter, newest_first) in actors {
        (1..=counter).for_each(|counter| context.insert(Dot { actor: actor(name), counter }));
        for (age, value) in (0..).zip(newest_first) {
            versions.push((Dot { actor: actor(name), counter: counter - age }, *value));
        }
    }
    versions.sort_by_key(|(dot, _)| *dot);
    DottedVersionSet::from_parts(context, versions).expect("a clock")
}

/// A write of `value` at server `name`, which holds `held`, by a client that had read `seen`.
fn update(held: &Set, name: &str, seen: &Set, value: &'static str) -> Set {
    held.join(&held.event(actor(name), 0, seen.context(), value))
}

/// The same at a server that holds nothing.
fn write(name: &str, seen: &Set, value: &'static str) -> Set {
    update(&Set::new(), name, seen, value)
}

fn create(name: &str, value: &'static str) -> Set {
    write(name, &Set::new(), value)
}

#[test]
fn join() {
    let a = create("a", "v1");
    let b = update(&a, "b", &a, "v2");
    assert_eq!(Set::new().context().spans().len(), 0);
    assert_eq!(a.context(), clock::<&str, 1>([("a", 1, &[])]).context());
    assert_eq!(b.context(), clock::<&str, 2>([("a", 1, &[]), ("b", 1, &[])]).context());
}

#[test]
fn update_at_a_server() {
    let a0 = create("a", "v1");
    let a1 = update(&a0, "a", &a0, "v2");
    let a2 = update(&a1, "b", &a1, "v3");
    let a3 = update(&a1, "b", &a0, "v4");
    let a4 = update(&a1, "a", &a0, "v5");
    assert_eq!(a0, clock([("a", 1, &["v1"])]));
    assert_eq!(a1, clock([("a", 2, &["v2"])]));
    assert_eq!(a2, clock([("a", 2, &[]), ("b", 1, &["v3"])]));
    assert_eq!(a3, clock([("a", 2, &["v2"]), ("b", 1, &["v4"])]));
    assert_eq!(a4, clock([("a", 3, &["v5", "v2"])]));
}

#[test]
fn sync() {
    let x: Set = clock([("x", 1, &[])]);
    let a = create("a", "v1");
    let y = create("b", "v2");
    let a1 = write("a", &a, "v2");
    let a3 = write("b", &a1, "v3");
    let a4 = write("c", &a1, "v3");
    let w: Set = clock([("a", 1, &[])]);
    let z: Set = clock([("a", 2, &["v2", "v1"])]);
    assert_eq!(w.join(&z), clock([("a", 2, &["v2"])]));
    assert_eq!(w.join(&z), z.join(&w));
    assert_eq!(a.join(&a1), a1.join(&a));
    assert_eq!(a.join(&a1), a1);
    assert_eq!(a4.join(&a3), a3.join(&a4));
    let latest = a4.last_writer(|a, b| a.cmp(b));
    assert_eq!(a4.join(&latest), latest);
    assert_eq!(a4.join(&a3), clock([("a", 2, &[]), ("b", 1, &["v3"]), ("c", 1, &["v3"])]));
    assert_eq!(x.join(&a), clock([("a", 1, &["v1"]), ("x", 1, &[])]));
    assert_eq!(x.join(&a), a.join(&x));
    assert_eq!(a.join(&y), clock([("a", 1, &["v1"]), ("b", 1, &["v2"])]));
    assert_eq!(a.join(&y), y.join(&a));
    assert_eq!(y.join(&a).join(&x), clock([("a", 1, &["v1"]), ("b", 1, &["v2"]), ("x", 1, &[])]));
}

/// Named `syn_update` there: one client writes twice without reading, another once it has read the first write.
#[test]
fn sync_and_update() {
    let a0 = create("a", "v1");
    let a1 = update(&a0, "a", &Set::new(), "v2");
    let a2 = update(&a1, "a", &a0, "v3");
    assert_eq!(a0, clock([("a", 1, &["v1"])]));
    assert_eq!(a1, clock([("a", 2, &["v2", "v1"])]));
    assert_eq!(a2, clock([("a", 3, &["v3", "v2"])]), "v3 replaces v1, which its writer had read");
}

#[test]
fn event() {
    let a = create("a", "v1");
    let blind = |name: &str| update(&a, name, &Set::new(), "v2");
    assert_eq!(blind("a"), clock([("a", 2, &["v2", "v1"])]));
    assert_eq!(blind("b"), clock([("a", 1, &["v1"]), ("b", 1, &["v2"])]));
}

#[test]
fn last_writer() {
    let x: DottedVersionSet<u64> = clock([("a", 4, &[5, 2]), ("b", 1, &[]), ("c", 1, &[3])]);
    assert_eq!(x.last_writer(u64::cmp), clock([("a", 4, &[5]), ("b", 1, &[]), ("c", 1, &[])]));
    let z: DottedVersionSet<u64> = clock([("a", 4, &[5, 2]), ("b", 1, &[1])]);
    assert_eq!(z.last_writer(u64::cmp), clock([("a", 4, &[5]), ("b", 1, &[])]));
    let stamped: DottedVersionSet<(u64, u64)> =
        clock([("a", 4, &[(5, 1_002_345), (7, 1_002_340)]), ("b", 1, &[(4, 1_001_340)])]);
    let latest = stamped.last_writer(|(_, a), (_, b)| a.cmp(b));
    assert_eq!(latest, clock([("a", 4, &[(5, 1_002_345)]), ("b", 1, &[])]));
    assert_eq!(stamped.join(&latest), latest, "the losers are gone where they had been seen");
}

/// Replaces all values by one that is made from them. There it is left without a dot; here a server writes it.
#[test]
fn reconcile() {
    let x: DottedVersionSet<u64> = clock([("a", 4, &[5, 2]), ("b", 1, &[]), ("c", 1, &[3])]);
    let reconciled = |value| x.join(&x.event(actor("b"), 0, x.context(), value));
    let values = || x.versions().iter().map(|(_, value)| *value);
    assert_eq!(reconciled(values().sum()), clock([("a", 4, &[]), ("b", 2, &[10]), ("c", 1, &[])]));
    assert_eq!(reconciled(values().min().unwrap()), clock([("a", 4, &[]), ("b", 2, &[2]), ("c", 1, &[])]));
}

#[test]
fn less() {
    // The first writer is an actor of its own there, by its type.
    let a = create("[a]", "v1");
    let b = write("a", &a, "v2");
    let b2 = write("b", &a, "v2");
    let b3 = write("z", &a, "v2");
    let c = update(&a, "c", &b, "v3");
    let d = update(&b2, "d", &c, "v4");
    let less = |x: &Set, y: &Set| x.context().compare(y.context()) == Causality::Before;
    for (x, y) in [(&a, &b), (&a, &c), (&b, &c), (&b, &d), (&b2, &d), (&a, &d)] {
        assert!(less(x, y), "{x:?} {y:?}");
        assert_eq!(y.context().compare(x.context()), Causality::After);
    }
    for (x, y) in [(&b2, &c), (&b, &b2), (&b2, &b), (&a, &a), (&c, &c), (&d, &b2), (&b3, &d)] {
        assert!(!less(x, y), "{x:?} {y:?}");
    }
    assert_eq!(b.context().compare(b2.context()), Causality::Concurrent);
}

#[test]
fn equal() {
    let a: Set = clock([("a", 4, &["v5", "v0"]), ("c", 1, &["v3"])]);
    let b: Set = clock([("a", 4, &["v555", "v0"]), ("c", 1, &["v3"])]);
    let c: Set = clock([("a", 4, &["v5", "v0"])]);
    assert_eq!(a.context().compare(b.context()), Causality::Equal, "clocks compare by what they have seen");
    assert_ne!(a.context().compare(c.context()), Causality::Equal);
    assert_ne!(b.context().compare(c.context()), Causality::Equal);
}

#[test]
fn size() {
    assert_eq!(create("a", "v1").versions().len(), 1);
    let set: Set = clock([("a", 4, &["v5", "v0"]), ("c", 1, &["v3"])]);
    assert_eq!(set.versions().len(), 3);
}

#[test]
fn ids_and_values() {
    let a: Set = clock([("a", 4, &["v0", "v5"]), ("c", 1, &["v3"])]);
    let b: Set = clock([("a", 4, &["v0", "v555"]), ("c", 1, &["v3"])]);
    let c: Set = clock([("a", 4, &[])]);
    for (set, actors, values) in [
        (&a, vec!["a", "c"], vec!["v0", "v3", "v5"]),
        (&b, vec!["a", "c"], vec!["v0", "v3", "v555"]),
        (&c, vec!["a"], vec![]),
    ] {
        assert_eq!(set.context().actors(), actors.into_iter().map(actor).collect::<Vec<_>>());
        let mut held: Vec<&str> = set.versions().iter().map(|(_, value)| *value).collect();
        held.sort_unstable();
        assert_eq!(held, values);
    }
}
