use std::io::Write as _;

use super::*;

fn file(contents: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file
}

type Pair = (Vec<u8>, Vec<u8>);

/// The pairs before the end or the first error, and the error.
fn read(contents: &[u8]) -> (Vec<Pair>, Option<String>) {
    let file = file(contents);
    let mut pairs = Vec::new();
    let mut input = InputFile::open(file.path()).unwrap();
    for write in input.by_ref() {
        match write {
            Ok(write) => pairs.push((write.key.to_vec(), write.value.to_vec())),
            Err(error) => {
                let shown = error.to_string();
                let name = file.path().display().to_string();
                assert!(shown.starts_with(&name), "{shown} names the file");
                assert!(input.next().is_none(), "nothing follows an error");
                return (pairs, Some(shown[name.len()..].to_owned()));
            }
        }
    }
    assert_eq!(input.position(), input.length());
    (pairs, None)
}

fn pair(key: &[u8], value: &[u8]) -> Pair {
    (key.to_vec(), value.to_vec())
}

#[test]
fn lines_are_keys_and_values() {
    let (pairs, error) = read(b"a\t1\nb\t2\nc\t3");
    assert_eq!(pairs, [pair(b"a", b"1"), pair(b"b", b"2"), pair(b"c", b"3")]);
    assert_eq!(error, None);
}

#[test]
fn the_first_tab_separates_and_values_may_be_empty_or_any_bytes() {
    let (pairs, error) = read(b"a\t1\t2\r\nb\t\n\xff\xfe\t\x00\xff\n");
    assert_eq!(pairs, [pair(b"a", b"1\t2"), pair(b"b", b""), pair(b"\xff\xfe", b"\x00\xff")]);
    assert_eq!(error, None);
}

#[test]
fn a_bad_line_is_named_after_everything_before_it() {
    let (pairs, error) = read(b"a\t1\nb 2\nc\t3\n");
    assert_eq!(pairs, [pair(b"a", b"1")]);
    assert_eq!(error.unwrap(), ", line 2: no tab between a key and a value");
    assert_eq!(read(b"a\t1\n\nb\t2\n").1.unwrap(), ", line 2: no tab between a key and a value");
    assert_eq!(read(b"\tvalue\n").1.unwrap(), ", line 1: the key is empty");
}

#[test]
fn keys_and_values_over_the_limits_are_refused() {
    let longest = [vec![b'k'; KEY_BYTES_MAX], b"\tv".to_vec()].concat();
    assert_eq!(read(&longest).0[0].0.len(), KEY_BYTES_MAX);
    let too_long = [vec![b'k'; KEY_BYTES_MAX + 1], b"\tv".to_vec()].concat();
    assert_eq!(read(&too_long).1.unwrap(), ", line 1: the key is longer than 16384 bytes");

    let largest = [b"k\t".to_vec(), vec![b'v'; VALUE_BYTES_MAX], b"\nl\tw\n".to_vec()].concat();
    let (pairs, error) = read(&largest);
    assert_eq!((pairs[0].1.len(), pairs[1].0.as_slice(), error), (VALUE_BYTES_MAX, &b"l"[..], None));
    let too_large = [b"k\t".to_vec(), vec![b'v'; VALUE_BYTES_MAX + KEY_BYTES_MAX + 9]].concat();
    assert_eq!(read(&too_large).1.unwrap(), ", line 1: the value is longer than 4194304 bytes");
}

#[test]
fn a_line_without_end_is_refused_before_it_is_read_as_a_whole() {
    let endless = file(b"");
    let length = 1 << 32;
    endless.as_file().set_len(length).unwrap();
    let mut input = InputFile::open(endless.path()).unwrap();
    let error = input.next().unwrap().unwrap_err();
    assert!(matches!(error, InputError::Line { line: 1, what: LineError::NoTab, .. }), "{error}");
    assert!(input.position() <= LINE_BYTES_MAX);
}

#[test]
fn what_cannot_be_read_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(
        matches!(InputFile::open(&missing), Err(InputError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
    );
    assert!(matches!(InputFile::open(directory.path()), Err(InputError::NotAFile { .. })));
    assert!(matches!(InputFile::open(file(b"").path()), Err(InputError::Empty { .. })));
}
