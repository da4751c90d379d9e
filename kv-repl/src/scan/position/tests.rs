use proptest::prelude::*;

use super::*;

const CLUSTER: ClusterId = ClusterId(3 << 64 | 5);

fn of_sort_keys(from: Bound<&[u8]>, until: Bound<&[u8]>) -> Position {
    Position::of_sort_keys(TableId(7), &Bytes::from_static(b"user"), (from, until)).unwrap()
}

fn positions() -> Vec<Position> {
    vec![
        Position::of_table(TableId(7)),
        Position::of_table(TableId(u32::MAX)),
        of_sort_keys(Bound::Unbounded, Bound::Unbounded),
        of_sort_keys(Bound::Included(b"a"), Bound::Excluded(b"m")),
        Position {
            from: just_after(&RecordKey::new(TableId(7), &Key::from(("user", "k"))).unwrap()),
            ..of_sort_keys(Bound::Included(b"a"), Bound::Excluded(b"m"))
        },
    ]
}

#[test]
fn a_cursor_comes_back_and_is_refused_elsewhere() {
    for position in positions() {
        let cursor = position.encode(CLUSTER);
        let again = Position::decode(&cursor, position.table).unwrap();
        assert_eq!(again, Position { cluster: Some(6), ..position.clone() });
        assert_eq!(Position::decode(&cursor, TableId(8)), Err(InvalidCursor::OtherTable));
        for at in 0..cursor.len() {
            assert!(Position::decode(&cursor[..at], position.table).is_err(), "cut at {at}");
            let mut altered = cursor.to_vec();
            altered[at] ^= 1;
            assert_eq!(Position::decode(&altered, position.table), Err(InvalidCursor::Altered));
        }
    }
}

#[test]
fn the_sort_keys_of_a_partition_key_are_one_range() {
    let key = |partition: &str, sort: &str| {
        RecordKey::new(TableId(7), &Key::from((partition, sort))).unwrap().as_bytes().clone()
    };
    let holds = |position: &Position, key: &Bytes| {
        position.from <= *key && position.until.as_ref().is_none_or(|until| key < until)
    };
    let all = of_sort_keys(Bound::Unbounded, Bound::Unbounded);
    for (from, until, within) in [
        (Bound::Included(&b"b"[..]), Bound::Excluded(&b"d"[..]), &["b", "c", "cz"][..]),
        (Bound::Excluded(b"b"), Bound::Included(b"d"), &["c", "cz", "d"]),
        (Bound::Unbounded, Bound::Included(b""), &[""]),
        (Bound::Included(b"cz"), Bound::Unbounded, &["cz", "d", "z"]),
    ] {
        let some = of_sort_keys(from, until);
        for sort in ["", "a", "b", "c", "cz", "d", "z"] {
            assert!(holds(&all, &key("user", sort)));
            assert_eq!(holds(&some, &key("user", sort)), within.contains(&sort), "{sort}");
        }
    }
    assert!(!holds(&all, &key("users", "")) && !holds(&all, &key("use", "r")));
    let long = [0; SORT_KEY_BYTES_MAX + 1];
    let longest = of_sort_keys(Bound::Excluded(&long[1..]), Bound::Unbounded);
    assert!(Position::decode(&longest.encode(CLUSTER), TableId(7)).is_ok());
    let range = (Bound::Included(&long[..]), Bound::Unbounded);
    assert!(Position::of_sort_keys(TableId(7), &Bytes::from_static(b"user"), range).is_err());
    assert!(of_sort_keys(Bound::Included(b"d"), Bound::Excluded(b"b")).is_empty());
}

#[test]
fn ranges_of_another_table_or_of_none_are_malformed() {
    let table = Position::of_table(TableId(7));
    let start = |table| Some(Bytes::copy_from_slice(&RecordKey::range_start(TableId(table), Token(9))));
    for (from, until) in [
        (start(8).unwrap(), None),
        (table.from.clone(), start(8)),
        (start(7).unwrap(), start(7)),
        (start(7).unwrap(), Some(table.from.clone())),
        (Bytes::from_static(b"short"), None),
        (table.from.clone(), Some(Bytes::from_static(b"short"))),
    ] {
        let cursor = Position { from, until, ..table.clone() }.encode(CLUSTER);
        assert!(matches!(Position::decode(&cursor, TableId(7)), Err(InvalidCursor::Malformed(_))));
    }
}

/// What the fuzzer begins with. After a change of the format: KV_REPL_WRITE_CORPUS=1 cargo test -p kv-repl --lib corpus
#[test]
fn the_corpus_of_the_fuzzer_is_of_this_format() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/cursor");
    for (name, position) in ["table", "last-table", "sort-keys", "sort-range", "halfway"].into_iter().zip(positions()) {
        let path = directory.join(name);
        if std::env::var_os("KV_REPL_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).expect("the directory of the corpus");
            std::fs::write(&path, position.encode(CLUSTER)).expect("a file of the corpus");
        }
        assert_eq!(std::fs::read(&path).expect("a file of the corpus"), position.encode(CLUSTER), "{name}");
    }
}

/// The example in `docs/protocol.md`.
#[test]
fn the_cursor_in_the_documentation_is_this_one() {
    let document = include_str!("../../../../docs/protocol.md");
    let line = document.lines().find_map(|line| line.strip_prefix("cursor: ")).expect("an example");
    let bytes: Vec<u8> =
        line.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("bytes in hex")).collect();
    let cursor = positions().remove(4).encode(CLUSTER);
    let hex: Vec<String> = cursor.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes, cursor, "it is {}", hex.join(" "));
}

proptest! {
    #[test]
    fn any_bytes_are_a_cursor_or_refused(bytes: Vec<u8>, table: u32) {
        let mut bytes = bytes;
        let checksum = crc32(&[&bytes]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Ok(position) = Position::decode(&bytes, TableId(table)) {
            prop_assert!(!position.is_empty());
        }
    }
}
