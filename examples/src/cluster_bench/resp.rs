//! The part of the Redis protocol (RESP2) that the bench speaks, so that one driver can load both kinds of servers.

use std::io::Write as _;

use thiserror::Error;

/// Most bytes of one part of a command.
const PART_BYTES_MAX: usize = 1 << 20;
/// Most parts of one command.
const PARTS_MAX: usize = 8;
/// Most bytes of a line, which holds a number or an error.
const LINE_BYTES_MAX: usize = 4096;

/// Bytes that are no RESP, or more than is spoken here.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("not the protocol: {0}")]
pub struct Malformed(pub &'static str);

/// One command, borrowed from the bytes that were received.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Command<'a> {
    /// The name and what follows it.
    pub parts: Vec<&'a [u8]>,
    /// How many bytes it took.
    pub bytes: usize,
}

/// Reads one command; `None` when more bytes are needed.
///
/// # Errors
/// [`Malformed`].
pub fn read_command(input: &[u8]) -> Result<Option<Command<'_>>, Malformed> {
    let mut at = 0;
    let Some(count) = read_number(input, &mut at, b'*', PARTS_MAX)? else { return Ok(None) };
    if count == 0 {
        return Err(Malformed("a command without a name"));
    }
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(length) = read_number(input, &mut at, b'$', PART_BYTES_MAX)? else { return Ok(None) };
        let Some(part) = input.get(at..at + length) else { return Ok(None) };
        match input.get(at + length..at + length + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(Malformed("a part that is longer than it says")),
        }
        parts.push(part);
        at += length + 2;
    }
    Ok(Some(Command { parts, bytes: at }))
}

/// What a server answered.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Reply<'a> {
    /// A word.
    Simple(&'a [u8]),
    /// Why not.
    Error(&'a [u8]),
    /// A number.
    Integer(&'a [u8]),
    /// A value, or that there is none.
    Bulk(Option<&'a [u8]>),
}

/// Reads one reply, and how many bytes it took; `None` when more bytes are needed.
///
/// # Errors
/// [`Malformed`]; lists too, which nobody asks for here.
pub fn read_reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some(&kind) = input.first() else { return Ok(None) };
    let mut at = 1;
    let Some(line) = read_line(input, &mut at)? else { return Ok(None) };
    let reply = match kind {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(line),
        b'$' if line == b"-1" => Reply::Bulk(None),
        b'$' => {
            let length = number(line, PART_BYTES_MAX)?;
            let Some(value) = input.get(at..at + length) else { return Ok(None) };
            if input.len() < at + length + 2 {
                return Ok(None);
            }
            at += length + 2;
            Reply::Bulk(Some(value))
        }
        _ => return Err(Malformed("an unknown kind of reply")),
    };
    Ok(Some((reply, at)))
}

fn read_number(input: &[u8], at: &mut usize, mark: u8, max: usize) -> Result<Option<usize>, Malformed> {
    match input.get(*at) {
        None => return Ok(None),
        Some(&found) if found == mark => *at += 1,
        Some(_) => return Err(Malformed("a length is missing")),
    }
    read_line(input, at)?.map(|line| number(line, max)).transpose()
}

fn read_line<'a>(input: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, Malformed> {
    let rest = &input[*at..input.len().min(*at + LINE_BYTES_MAX)];
    match rest.windows(2).position(|two| two == b"\r\n") {
        Some(length) => {
            *at += length + 2;
            Ok(Some(&rest[..length]))
        }
        None if rest.len() == LINE_BYTES_MAX => Err(Malformed("a line without an end")),
        None => Ok(None),
    }
}

fn number(line: &[u8], max: usize) -> Result<usize, Malformed> {
    let digits = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
    digits.filter(|&number: &usize| number <= max).ok_or(Malformed("no length, or too long a one"))
}

/// Writes a command.
pub fn write_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let _ = write!(out, "*{}\r\n", parts.len());
    for part in parts {
        write_bulk(out, part);
    }
}

/// Writes a value.
pub fn write_bulk(out: &mut Vec<u8>, value: &[u8]) {
    let _ = write!(out, "${}\r\n", value.len());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes an error, in one line.
pub fn write_error(out: &mut Vec<u8>, error: &str) {
    let line: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_BYTES_MAX / 8).collect();
    let _ = write!(out, "-ERR {line}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_whole_and_wait_for_their_end() {
        let mut bytes = Vec::new();
        write_command(&mut bytes, &[b"SET", b"key", b"a\r\nvalue"]);
        let whole = bytes.len();
        write_command(&mut bytes, &[b"PING"]);
        for end in 0..whole {
            assert_eq!(read_command(&bytes[..end]), Ok(None), "{end}");
        }
        let command = read_command(&bytes).unwrap().unwrap();
        assert_eq!(command, Command { parts: vec![b"SET", b"key", b"a\r\nvalue"], bytes: whole });
        assert_eq!(read_command(&bytes[whole..]).unwrap().unwrap().parts, [b"PING"]);
    }

    #[test]
    fn replies_come_back_whole_and_wait_for_their_end() {
        let mut value = Vec::new();
        write_bulk(&mut value, b"v\r\n");
        let mut error = Vec::new();
        write_error(&mut error, "two\r\nlines");
        let expected = [
            (&b"+OK\r\n"[..], Reply::Simple(b"OK")),
            (b":12\r\n", Reply::Integer(b"12")),
            (b"$-1\r\n", Reply::Bulk(None)),
            (&value, Reply::Bulk(Some(b"v\r\n"))),
            (&error, Reply::Error(b"ERR two  lines")),
        ];
        for (bytes, reply) in expected {
            for end in 0..bytes.len() {
                assert_eq!(read_reply(&bytes[..end]), Ok(None));
            }
            assert_eq!(read_reply(bytes), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_command_is_refused_without_taking_memory_for_it() {
        for bytes in [&b"GET k\r\n"[..], b"*0\r\n", b"*99999999999\r\n", b"*1\r\n$99999999999\r\n", b"*1\r\n$1\r\nabc"]
        {
            assert!(read_command(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(read_command(&[b'*'; 5000]).is_err());
        assert!(read_reply(b"?\r\n").is_err());
    }
}
