//! The interleavings of the writer with a reader, up to a number of preemptions, under the model checker loom, with every
//! value that the memory model lets a load return:
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p kv-lsm --lib interleavings
//! ```

use loom::thread;

use super::node::WIDTH;
use super::*;
use crate::internal_key::Kind;

/// More find nothing more in what readers do, which is one loop without writes, and take days.
const PREEMPTIONS: usize = 2;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Keys are even numbers, so that others fall between.
fn tree(keys: impl Iterator<Item = usize>) -> Arc<Tree> {
    let tree = Arc::new(Tree::new(Arc::new(ChunkPool::new(0))));
    keys.for_each(|key| put(&tree, 2 * key));
    tree
}

fn put(tree: &Tree, key: usize) {
    let key = [u8::try_from(key).expect("few keys")];
    let trailer = Trailer::new(1 + u64::from(key[0]), Kind::Put);
    tree.writer().insert(Record { trailer, space: 1, key: &key, value: &key });
}

fn has(tree: &Tree, key: usize) -> bool {
    let key = [u8::try_from(key).expect("few keys")];
    let mut found = false;
    tree.of_key(Place { space: 1, key: &key, trailer: Trailer::NEWEST }, &mut |trailer, value| {
        assert_eq!((trailer.sequence(), value), (1 + u64::from(key[0]), &key[..]), "a version carries its own value");
        found = true;
        ControlFlow::Continue(())
    });
    found
}

/// A reader that looks for `sought` while keys are inserted finds it, and the writer finds its own.
fn a_reader_beside(present: usize, inserts: &'static [usize], sought: usize) {
    check(move || {
        let tree = tree(1..present + 1);
        let reader = {
            let tree = Arc::clone(&tree);
            thread::spawn(move || assert!(has(&tree, sought), "{sought} is missing"))
        };
        inserts.iter().for_each(|&key| put(&tree, key));
        assert!(inserts.iter().all(|&key| has(&tree, key)));
        reader.join().unwrap();
    });
}

#[test]
fn a_leaf_grows() {
    a_reader_beside(5, &[5], 6);
    a_reader_beside(5, &[5, 7], 6);
}

#[test]
fn the_root_splits() {
    a_reader_beside(WIDTH, &[9], 4);
    a_reader_beside(WIDTH, &[9], 14);
}

/// Two full leaves: the first insert retires one, the second takes its memory for another.
#[test]
fn memory_is_used_again_while_a_reader_stands_there() {
    let (low, high) = (WIDTH + 1, 3 * WIDTH + 1);
    let inserts: &[usize] = Box::leak(Box::new([low, high]));
    a_reader_beside(2 * WIDTH, inserts, 2 * WIDTH - 2);
    a_reader_beside(2 * WIDTH, inserts, 2 * WIDTH + 4);
}

#[test]
fn a_walk_beside_a_split_is_in_order_and_whole() {
    check(|| {
        let tree = tree(1..WIDTH + 1);
        let reader = {
            let tree = Arc::clone(&tree);
            thread::spawn(move || {
                let mut run = Run::new(tree, 1);
                run.fill_from(&[], Trailer::NEWEST, 100);
                let keys: Vec<usize> = (0..run.len()).map(|at| usize::from(run.get(at).unwrap().key[0])).collect();
                assert!(keys.is_sorted(), "{keys:?}");
                assert!((1..=WIDTH).all(|key| keys.contains(&(2 * key))), "{keys:?}");
            })
        };
        put(&tree, 9);
        reader.join().unwrap();
    });
}
