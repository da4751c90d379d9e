//! What fuzzers call: any bytes go in, and a broken rule panics.
//!
//! Bytes that nobody wrote give an error or a value, never a panic, and a value has one encoding. Where a checksum guards a
//! format, the bytes are tried twice: as they are, and with the checksum made right, because no fuzzer guesses a checksum.

use bytes::Bytes;

use crate::checksum::crc32;
use crate::codec::Reader;
use crate::context::CausalContext;
use crate::crdt::{Crdt, DotStore, Dotted, Update};
use crate::key::{Key, RecordKey, TableId};
use crate::record::Record;
use crate::version::{Causality, VersionVector};

/// A version vector.
pub fn version_vector(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(vector) = VersionVector::decode(&mut reader) else { return };
    let mut again = Vec::new();
    vector.encode(&mut again);
    assert_eq!(again, bytes[..reader.offset()], "one set of dots, one encoding");
    assert_eq!(vector.join(&vector), vector, "a join with oneself changes nothing");
    assert_eq!(vector.compare(&vector), Causality::Equal);
}

/// A causal context that a client hands back.
pub fn context(bytes: &[u8]) {
    let key = RecordKey::new(TableId(1), &Key::from("a")).expect("a short key");
    let mut mended = bytes.to_vec();
    if let Some((body, checksum)) = mended.split_last_chunk_mut::<4>() {
        // What could not be guessed either: whose it is.
        if body.len() >= 13 {
            let sealed = CausalContext::seal(&key, &VersionVector::new());
            body[1..13].copy_from_slice(&sealed.as_bytes()[1..13]);
        }
        *checksum = crc32(&[body]).to_le_bytes();
    }
    for bytes in [Bytes::copy_from_slice(bytes), Bytes::from(mended)] {
        if let Ok(seen) = CausalContext::from_bytes(bytes.clone()).open(&key) {
            assert_eq!(CausalContext::seal(&key, &seen).as_bytes(), &bytes, "one context, one encoding");
        }
    }
}

/// A record.
pub fn record(bytes: &[u8]) {
    let Ok(record) = Record::decode_slice(bytes) else { return };
    assert_eq!(record.to_bytes(), bytes, "one record, one encoding");
    assert_eq!(record.join(&record).as_ref(), Ok(&record), "a join with oneself changes nothing");
}

/// A replicated data type.
pub fn crdt(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(state) = Dotted::<Crdt>::decode(&mut reader) else { return };
    let mut again = Vec::new();
    state.encode(&mut again);
    assert_eq!(again, bytes[..reader.offset()], "one state, one encoding");
    assert_eq!(state.join(&state), state, "a join with oneself changes nothing");
    let cleared = state.join(&state.clear(state.context()));
    assert!(!cleared.value().is_live(), "what was observed is removed");
}

/// An update of a replicated data type.
pub fn update(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(update) = Update::decode(&mut reader) else { return };
    let mut again = Vec::new();
    update.encode(&mut again);
    assert_eq!(again, bytes[..reader.offset()], "one update, one encoding");
}
