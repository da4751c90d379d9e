use proptest::prelude::*;

use super::*;
use crate::internal_key::Kind;

fn build(keys: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for (key, sequence) in keys {
        builder.push(key, Trailer::new(*sequence, Kind::Put), value(*sequence).as_bytes());
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    out
}

/// Some are empty.
fn value(sequence: u64) -> String {
    "v".repeat(usize::try_from(sequence % 4).unwrap())
}

fn sorted(mut keys: Vec<(Vec<u8>, u64)>) -> Vec<(Vec<u8>, u64)> {
    keys.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    keys.dedup();
    keys
}

/// Few letters, so that keys share prefixes, and contain zeros, which the heads are filled up with, and runs of the highest
/// byte; some are empty, some longer than a head.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0_u8, 1, b'a', 0xff]), 0..12)
}

/// Sorted, with several versions of some keys, and sometimes a prefix that all share.
fn keys() -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
    let prefix = prop::sample::select(vec![&b""[..], b"\xff\xff", b"a common prefix of some length"]);
    (prefix, prop::collection::vec((key(), 1_u64..6), 0..60))
        .prop_map(|(prefix, keys)| sorted(keys.into_iter().map(|(key, at)| ([prefix, &key].concat(), at)).collect()))
}

/// Where a search must end, found by a walk.
fn walked(keys: &[(Vec<u8>, u64)], key: &[u8], trailer: Trailer) -> usize {
    let behind = |(k, s): &(Vec<u8>, u64)| compare((k, Trailer::new(*s, Kind::Put)), (key, trailer)).is_ge();
    keys.iter().position(behind).unwrap_or(keys.len())
}

proptest! {
    #[test]
    fn a_search_finds_what_a_walk_finds(keys in keys(), other in key(), sequence in 0_u64..6) {
        let block = Block::new(build(&keys)).unwrap();
        prop_assert_eq!(block.count(), keys.len());
        for (index, (key, sequence)) in keys.iter().enumerate() {
            let entry = block.entry(index);
            prop_assert_eq!([block.common_prefix(), entry.key].concat(), key.clone());
            prop_assert_eq!(entry.trailer.sequence(), *sequence);
            prop_assert_eq!(entry.value.to_vec(), value(*sequence).into_bytes());
            prop_assert_eq!(block.lower_bound(key, entry.trailer), index);
        }
        for key in keys.iter().map(|(key, _)| key).chain([&other]) {
            for trailer in [Trailer::NEWEST, Trailer::at(sequence), Trailer::OLDEST] {
                prop_assert_eq!(block.lower_bound(key, trailer), walked(&keys, key, trailer), "{:?} at {:?}", key, trailer);
            }
        }
    }

    #[test]
    fn a_block_of_one_is_what_a_builder_makes_of_it(first in key(), rest in key(), sequence in 1_u64..6) {
        let mut bytes = Vec::new();
        encode_one([&first, &rest], Trailer::new(sequence, Kind::Put), value(sequence).as_bytes(), &mut bytes);
        prop_assert_eq!(bytes, build(&[([first, rest].concat(), sequence)]));
    }

    #[test]
    fn any_bytes_are_a_block_or_an_error(keys in keys(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = build(&keys);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        bytes.truncate(bytes.len() - cut.index(4));
        if let Ok(block) = Block::new(bytes) {
            for index in 0..block.count() {
                let entry = block.entry(index);
                block.lower_bound(entry.key, entry.trailer);
                let key = [block.common_prefix(), entry.key].concat();
                block.lower_bound(&key, entry.trailer);
            }
        }
    }

    #[test]
    fn noise_is_a_block_or_an_error(bytes: Vec<u8>) {
        if let Ok(block) = Block::new(bytes) {
            prop_assert!(block.count() <= block.bytes());
        }
    }
}

/// What a checksum lets pass, one field wrong at a time.
#[test]
fn what_an_entry_cannot_be_is_refused() {
    let keys = [(b"ant".to_vec(), 3), (b"ape".to_vec(), 2)];
    let whole = build(&keys);
    assert!(Block::new(whole.clone()).is_ok());
    let tail = whole.len() - 8;
    let (second, heads, offsets) = (10 + 2 + 3, 10 + 2 + 3 + 10 + 2 + 2 + 1, tail - 12);
    for (at, byte, what) in [
        (0, 0, "no kind"),
        (0, 0x12, "an expiry where there is no room for one"),
        (8, 200, "a suffix behind the end"),
        (second + 8, 5, "a suffix over the end of the entries"),
        (heads, 9, "another head"),
        (offsets, 1, "a first entry that begins later"),
        (offsets + 4, 9, "an entry without room for its header"),
        (offsets + 8, 9, "entries that end early"),
        (offsets + 9, 1, "entries that end late"),
        (tail, 2, "another common prefix"),
        (tail + 4, 1, "fewer entries"),
        (tail + 7, 0x80, "more entries than fit"),
    ] {
        let mut bytes = whole.clone();
        assert_ne!(bytes[at], byte, "{what}");
        bytes[at] = byte;
        assert!(Block::new(bytes).is_err(), "{what}");
    }
    for length in 0..whole.len() {
        assert!(Block::new(whole[..length].to_vec()).is_err(), "{length} bytes");
    }
}

#[test]
fn heads_are_counted_however_many_there_are() {
    for count in [0, 1, 15, 16, 17, 100, WIDE - 1, WIDE, WIDE + 1, 5 * WIDE + 3] {
        for each in [1, 3, 40] {
            let numbers: Vec<u64> = (0..count as u64).map(|number| number / each * 2).collect();
            let heads: Vec<Head> = numbers.iter().map(|number| number.to_le_bytes()).collect();
            for wanted in 0..=2 * count as u64 + 1 {
                let expected = numbers.partition_point(|&number| number < wanted);
                assert_eq!(heads_below(&heads, wanted), expected, "{wanted} among {count}");
            }
        }
    }
}
