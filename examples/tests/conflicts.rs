//! The example `conflicts` checks its own claims; this runs it.

#[test]
fn every_claim_of_the_example_holds() {
    let mut out = Vec::new();
    let outcome = kv_examples::conflicts::run(&mut out, false);
    let shown = String::from_utf8(out).unwrap();
    assert!(outcome.is_ok(), "{outcome:?}\n{shown}");
    assert!(shown.contains("last write wins          eggs  milk                 lost bread"), "{shown}");
}
