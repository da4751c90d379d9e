//! The plot of the example `conflicts`: one cart, two sides of a partition, three rules.
//!
//! Both sides begin with milk and tea. During the partition the left adds bread; a little later the right adds eggs and
//! takes the tea out. All three are tables of three real nodes over a network with cut links.

mod cluster;
mod stage;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use kv_core::conflict::unfair;
use kv_core::crdt::Kind;
use kv_repl::request::Read;
use kv_repl::{Consistency, Table, TableOptions};

use self::cluster::Cluster;
use self::stage::Stage;

/// Why the example stops.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const KEY: &str = "alice";

/// What is in a cart.
type Cart = BTreeSet<String>;

/// Plays all three acts.
///
/// # Errors
/// When something could not be done, or a claim turned out wrong.
pub fn run(out: &mut dyn Write, colours: bool) -> Result<(), Failure> {
    let mut stage = Stage::new(out, colours);
    stage.title("One cart, two sides of a partition, three rules")?;
    stage.say("Both sides begin with milk and tea. While they cannot hear each other,")?;
    stage.say("the left adds bread; then the right adds eggs and takes the tea out.")?;

    let cluster = Cluster::start()?;
    let siblings = siblings(&mut stage, &cluster)?;
    let set = observed_remove_set(&mut stage, &cluster)?;
    let last = last_write_wins(&mut stage, &cluster)?;

    stage.act("What became of it")?;
    let wanted = cart(["bread", "eggs", "milk"]);
    stage.row("wanted by both", &wanted, "")?;
    stage.row("siblings + union", &siblings, &losses(&wanted, &siblings))?;
    stage.row("observed-remove set", &set, &losses(&wanted, &set))?;
    stage.row("last write wins", &last, &losses(&wanted, &last))?;
    stage.end()
}

/// Concurrent writes stand side by side until the application has merged them.
fn siblings(stage: &mut Stage<'_>, cluster: &Cluster) -> Result<Cart, Failure> {
    stage.act("1  Siblings: nothing is lost, and the application decides")?;
    let carts = cluster.create_table("carts", TableOptions::siblings())?;
    part(stage, cluster, &carts)?;

    let read = carts[0].get(KEY).consistency(Consistency::All).wait()?;
    let shown: Vec<Cart> = read.values().into_iter().map(parse).collect();
    stage.say(&format!("healed; a read finds {} siblings:", shown.len()))?;
    for sibling in &shown {
        stage.show("sibling", sibling)?;
    }
    stage.claim("both sides' carts are there", shown == [left_cart(), right_cart()])?;

    // The application's merge, as Dynamo's shopping cart had it: everything that any side has.
    let [a, b, c] = [left_cart(), right_cart(), cart(["milk"])].map(|cart| Bytes::from(print(&cart)));
    stage.claim("the merge gives one result in any order", unfair(&union, KEY.as_bytes(), [&a, &b, &c]).is_none())?;
    let merged = read.merged(|values| union(KEY.as_bytes(), values)).ok_or("nothing to merge")?;
    carts[0].write_back(KEY, &merged).consistency(Consistency::All).wait()?;
    let merged = parse(&merged.value);
    stage.show("merged", &merged)?;
    converged(stage, &carts, &merged)?;
    stage.claim("no addition is lost", merged.is_superset(&cart(["bread", "eggs"])))?;
    stage.claim("a union cannot know a removal: the tea is back", merged.contains("tea"))?;
    Ok(merged)
}

/// The data type knows additions and removals apart.
fn observed_remove_set(stage: &mut Stage<'_>, cluster: &Cluster) -> Result<Cart, Failure> {
    stage.act("2  Observed-remove set: the data type merges")?;
    let carts = cluster.create_table("carts as sets", TableOptions::crdt(Kind::Set))?;
    let [left, beside, right] = &carts[..] else { return Err("three nodes were started".into()) };
    for item in ["milk", "tea"] {
        left.insert(KEY, item).consistency(Consistency::All).wait()?;
    }
    stage.show("everywhere", &set(&right.get(KEY).consistency(Consistency::One).wait()?)?)?;

    cluster.cut();
    left.insert(KEY, "bread").wait()?;
    stage.show("left  (nodes 1, 2)", &set(&beside.get(KEY).wait()?)?)?;
    // The right has no quorum and says that it will do without.
    let seen = right.get(KEY).consistency(Consistency::One).wait()?;
    right.remove(KEY, "tea").context(seen.context()).consistency(Consistency::One).wait()?;
    right.insert(KEY, "eggs").consistency(Consistency::One).wait()?;
    let held = set(&right.get(KEY).consistency(Consistency::One).wait()?)?;
    stage.show("right (node 3)", &held)?;
    stage.claim("the sides differ", held == right_cart() && set(&left.get(KEY).wait()?)? == left_cart())?;
    cluster.heal();

    let merged = set(&carts[0].get(KEY).consistency(Consistency::All).wait()?)?;
    stage.show("merged", &merged)?;
    let reads = carts.iter().map(|node| node.get(KEY).consistency(Consistency::One).wait());
    let reads = reads.collect::<Result<Vec<Read>, _>>()?;
    let same =
        reads.iter().all(|read| read.record() == reads[0].record() && set(read).is_ok_and(|cart| cart == merged));
    stage.claim("every node by itself now holds just that", same)?;
    stage.claim("no addition is lost, and the tea stays out", merged == cart(["bread", "eggs", "milk"]))?;
    Ok(merged)
}

/// The later write stands alone.
fn last_write_wins(stage: &mut Stage<'_>, cluster: &Cluster) -> Result<Cart, Failure> {
    stage.act("3  Last write wins: asked for by name, because it loses writes")?;
    let carts = cluster.create_table("quick carts", TableOptions::last_write_wins())?;
    part(stage, cluster, &carts)?;

    let read = carts[0].get(KEY).consistency(Consistency::All).wait()?;
    let left: Vec<Cart> = read.values().into_iter().map(parse).collect();
    stage.say(&format!("healed; a read finds {} value:", left.len()))?;
    let last = left.into_iter().next().ok_or("no value at all")?;
    stage.show("last write", &last)?;
    converged(stage, &carts, &last)?;
    stage.claim("the right wrote later, and its cart stands", last == right_cart())?;
    stage.claim("the left's bread is gone, though it was acknowledged", !last.contains("bread"))?;
    Ok(last)
}

/// Both sides read, and write without having heard of each other. Heals at the end.
fn part(stage: &mut Stage<'_>, cluster: &Cluster, carts: &[Table]) -> Result<(), Failure> {
    let [left, beside, right] = carts else { return Err("three nodes were started".into()) };
    left.put(KEY, print(&cart(["milk", "tea"]))).consistency(Consistency::All).wait()?;
    stage.show("everywhere", &one(&right.get(KEY).consistency(Consistency::One).wait()?)?)?;

    cluster.cut();
    let seen = left.get(KEY).wait()?;
    let written = left.put(KEY, print(&left_cart())).context(seen.context()).wait()?;
    stage.show("left  (nodes 1, 2)", &one(&beside.get(KEY).wait()?)?)?;
    stage.claim("acknowledged by a quorum", written.acknowledged == 2)?;

    // The right has no quorum and must say that it will do without. Its clock has gone on a little.
    std::thread::sleep(Duration::from_millis(5));
    let seen = right.get(KEY).consistency(Consistency::One).wait()?;
    let put = || right.put(KEY, print(&right_cart())).context(seen.context());
    let first = put().deadline(Duration::from_millis(200));
    let operation = first.operation_id();
    stage.claim("the right gets no quorum", first.wait().is_err())?;
    // Whether the first attempt was stored or not, the second is known for the same by its name.
    let again = put().operation(operation).consistency(Consistency::One);
    let written = again.wait()?;
    stage.show("right (node 3)", &one(&right.get(KEY).consistency(Consistency::One).wait()?)?)?;
    stage.claim("acknowledged at One", written.acknowledged == 1)?;
    cluster.heal();
    Ok(())
}

/// Every node by itself has the one cart.
fn converged(stage: &mut Stage<'_>, carts: &[Table], expected: &Cart) -> Result<(), Failure> {
    let reads = carts.iter().map(|node| node.get(KEY).consistency(Consistency::One).wait());
    let reads = reads.collect::<Result<Vec<Read>, _>>()?;
    let same = reads.iter().all(|read| one(read).is_ok_and(|cart| cart == *expected));
    stage.claim("every node by itself now reads just that", same)
}

fn one(read: &Read) -> Result<Cart, Failure> {
    match read.values()[..] {
        [value] => Ok(parse(value)),
        ref values => Err(format!("{} values where one was expected", values.len()).into()),
    }
}

fn set(read: &Read) -> Result<Cart, Failure> {
    Ok(read.set()?.into_iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect())
}

fn union(_key: &[u8], carts: &[&Bytes]) -> Bytes {
    print(&carts.iter().flat_map(|cart| parse(cart)).collect()).into()
}

fn left_cart() -> Cart {
    cart(["bread", "milk", "tea"])
}

fn right_cart() -> Cart {
    cart(["eggs", "milk"])
}

fn cart<const N: usize>(items: [&str; N]) -> Cart {
    items.into_iter().map(str::to_owned).collect()
}

fn print(cart: &Cart) -> String {
    cart.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn parse(value: &Bytes) -> Cart {
    String::from_utf8_lossy(value).split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// What is missing, and what should not be there.
fn losses(wanted: &Cart, got: &Cart) -> String {
    let missing = wanted.difference(got).map(|item| format!("lost {item}"));
    let undone = got.difference(wanted).map(|item| format!("{item} is back"));
    let all: Vec<String> = missing.chain(undone).collect();
    if all.is_empty() { "nothing is lost".to_owned() } else { all.join(", ") }
}
