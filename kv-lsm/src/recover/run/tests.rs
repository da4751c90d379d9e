use kv_core::store::Space;
use kv_core::time::Millis;

use super::*;

fn walk(cursor: &mut Sorted, step: fn(&mut Sorted) -> Result<(), Error>) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(entry) = cursor.entry() {
        found.push((entry.key.to_vec(), entry.trailer.sequence(), entry.value.to_vec()));
        step(cursor).unwrap();
    }
    found
}

#[test]
fn a_run_is_sorted_by_key_and_newest_first_whatever_its_keys_begin_with() {
    let keys: [&[u8]; 12] = [
        b"same beginning",
        b"same beginnings",
        b"same beginning\0",
        b"same beginning\0\0",
        b"same begin",
        b"same",
        b"same beginning of more than eight bytes",
        b"same beginning of more than eight bits",
        b"other",
        b"",
        b"\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    // Of the first ones only, all begin alike.
    for count in [1, 4, 7, 12] {
        let mut run = Run::default();
        let mut expected = Vec::new();
        for number in 0..60_u64 {
            let key = keys[usize::try_from(number * 7).unwrap() % count];
            let mut batch = Batch::new();
            batch.put(Space(256), key, &number.to_le_bytes());
            run.push(&batch, 10 + number, |_| true).unwrap();
            expected.push((key.to_vec(), 10 + number, number.to_le_bytes().to_vec()));
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        assert_eq!((run.last_sequence(), run.keyspaces().collect::<Vec<_>>()), (69, vec![256]));
        let (ranges, mut cursor) = run.into_spaces().remove(&256).unwrap().sort();
        assert!(ranges.fragments().is_empty());
        cursor.seek(&[], Trailer::NEWEST).unwrap();
        assert_eq!(walk(&mut cursor, Sorted::next), expected);
        cursor.seek(&expected[5].0, Trailer::at(expected[5].1)).unwrap();
        assert_eq!(walk(&mut cursor, Sorted::next), expected[5..]);
        cursor.seek_before(Some((&expected[5].0, Trailer::at(expected[5].1)))).unwrap();
        let before: Vec<_> = expected[..5].iter().rev().cloned().collect();
        assert_eq!(walk(&mut cursor, Sorted::previous), before);
        cursor.seek_before(None).unwrap();
        assert_eq!(walk(&mut cursor, Sorted::previous).len(), expected.len());
    }
}

#[test]
fn every_kind_of_operation_gets_its_number_and_a_keyspace_that_never_was_is_refused() {
    let mut batch = Batch::new();
    batch.put(Space(256), b"k", b"v");
    batch.put_expiring(Space(256), b"k", Millis(7), b"w");
    batch.merge(Space(257), b"k", b"+");
    batch.delete(Space(256), b"k");
    batch.delete_range(Space(257), b"a", b"z");
    let mut run = Run::default();
    run.push(&batch, 3, |_| true).unwrap();
    assert_eq!((run.last_sequence(), run.log_bytes()), (7, batch.as_bytes().len() as u64));
    assert!(run.bytes() > run.log_bytes(), "the memory that it takes");
    let mut spaces = run.into_spaces();
    let (_, mut cursor) = spaces.remove(&256).unwrap().sort();
    let expiring = [&7_u64.to_le_bytes()[..], b"w"].concat();
    let version = |sequence, value: &[u8]| (b"k".to_vec(), sequence, value.to_vec());
    assert_eq!(walk(&mut cursor, Sorted::next), [version(6, b""), version(4, &expiring), version(3, b"v")]);
    let (ranges, mut cursor) = spaces.remove(&257).unwrap().sort();
    assert_eq!(walk(&mut cursor, Sorted::next), [version(5, b"+")]);
    assert_eq!(ranges.covering(b"k"), [7]);
    let refused = Run::default().push(&batch, 3, |keyspace| keyspace != 257);
    assert_eq!(refused, Err(UnknownKeyspace(257)));
}
