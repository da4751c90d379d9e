use kv_core::time::Millis;

use super::*;

/// Three keyspaces and three entries, the last of them with a value of so many bytes.
fn stream(value_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::new(&mut out).unwrap();
    writer.keyspace("users", &[]).unwrap();
    writer.entry(b"7", b"ada", None).unwrap();
    writer.entry(b"8", b"grace", Some(Millis(9_000))).unwrap();
    writer.keyspace("empty", &[1, 0]).unwrap();
    writer.keyspace("large", &[]).unwrap();
    writer.entry(b"", &vec![7; value_bytes], None).unwrap();
    let (bytes, keyspaces, entries) = writer.finish().unwrap();
    assert_eq!((bytes, keyspaces, entries), (out.len() as u64, 3, 3));
    out
}

/// Where the frames begin, and the end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![HEADER_BYTES];
    while *offsets.last().unwrap() < bytes.len() {
        let at = *offsets.last().unwrap();
        let length = u32::from_le_bytes(*bytes[at + 4..].first_chunk().unwrap());
        offsets.push(at + 8 + length as usize);
    }
    offsets
}

fn wrong(bytes: &[u8]) -> (u64, Wrong) {
    let error = check(bytes, &mut |_| {}).expect_err("it is not as it was written");
    (error.offset, error.what)
}

#[test]
fn what_was_written_is_read() {
    let bytes = stream(VALUE_BYTES_MAX);
    let mut reader = StreamReader::new(&bytes[..]).unwrap();
    let mut seen = Vec::new();
    loop {
        match reader.next().unwrap() {
            Frame::Keyspace { name, options } => seen.push(format!("{name} {options:?}")),
            Frame::Entries(entries) => entries.for_each(|key, value, expire_at| {
                seen.push(format!("{key:?} {} {expire_at:?}", value.len()));
            }),
            Frame::End => break,
        }
    }
    let largest = format!("[] {VALUE_BYTES_MAX} None");
    let expected =
        ["users []", "[55] 3 None", &format!("[56] 5 {:?}", Some(Millis(9_000))), "empty [1, 0]", "large []", &largest];
    assert_eq!(seen, expected);
}

#[test]
fn what_was_altered_cut_or_moved_is_refused_with_its_place() {
    let bytes = stream(100);
    let offsets = frames(&bytes);
    let small = offsets[4];
    for at in (0..small).chain(bytes.len() - 30..bytes.len()) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        let frame = offsets.iter().rev().find(|&&offset| offset <= at).map_or(0, |&offset| offset as u64);
        assert_eq!(wrong(&altered).0, frame, "byte {at}");
        assert!(matches!(wrong(&bytes[..at]).1, Wrong::Truncated), "cut at {at}");
    }
    for pair in offsets.windows(2) {
        let without = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
        let twice = [&bytes[..pair[1]], &bytes[pair[0]..]].concat();
        wrong(&without);
        wrong(&twice);
    }
    assert!(matches!(wrong(b"something else entirely").1, Wrong::NotAnExport));
    assert!(matches!(wrong(b"").1, Wrong::Truncated));
}

#[test]
fn another_version_and_lengths_that_are_only_claimed_are_refused() {
    let mut later = stream(100);
    later[8] = 2;
    let crc = kv_core::checksum::crc32(&[&later[..16]]);
    later[16..20].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(wrong(&later), (0, Wrong::Unsupported { version: 2, features: 0 })));
    for claimed in [u32::MAX, u32::try_from(FRAME_BYTES_MAX).unwrap()] {
        let mut claiming = stream(100)[..HEADER_BYTES + 8].to_vec();
        claiming[HEADER_BYTES + 4..].copy_from_slice(&claimed.to_le_bytes());
        assert!(matches!(wrong(&claiming), (20, Wrong::Altered | Wrong::Truncated)));
    }
}
