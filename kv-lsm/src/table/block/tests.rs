use proptest::prelude::*;

use super::*;
use crate::internal_key::Kind;

fn build(keys: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for (key, sequence) in keys {
        builder.push(key, Trailer::new(*sequence, Kind::Put), format!("v{sequence}").as_bytes());
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    out
}

fn sorted(mut keys: Vec<(Vec<u8>, u64)>) -> Vec<(Vec<u8>, u64)> {
    keys.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    keys.dedup();
    keys
}

/// Few letters, so that keys share prefixes and contain zeros, which the heads are filled up with.
fn keys() -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
    let key = prop::collection::vec(prop::sample::select(vec![0_u8, 1, b'a', 0xff]), 0..12);
    prop::collection::vec((key, 1_u64..4), 0..60).prop_map(sorted)
}

proptest! {
    #[test]
    fn a_search_finds_what_a_walk_finds(keys in keys(), (key, sequence) in (prop::collection::vec(prop::sample::select(vec![0_u8, 1, b'a', 0xff]), 0..12), 0_u64..4)) {
        let block = Block::new(build(&keys)).unwrap();
        prop_assert_eq!(block.count(), keys.len());
        for (index, (key, sequence)) in keys.iter().enumerate() {
            let entry = block.entry(index);
            prop_assert_eq!([block.common_prefix(), entry.key].concat(), key.clone());
            prop_assert_eq!(entry.trailer.sequence(), *sequence);
            prop_assert_eq!(entry.value.to_vec(), format!("v{sequence}").into_bytes());
            prop_assert_eq!(block.lower_bound(key, entry.trailer), index);
        }
        let trailer = Trailer::at(sequence);
        let walked = keys.iter().position(|(k, s)| compare((k, Trailer::new(*s, Kind::Put)), (&key, trailer)).is_ge());
        prop_assert_eq!(block.lower_bound(&key, trailer), walked.unwrap_or(keys.len()));
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
