//! Bounded reading and writing of bytes.
//!
//! All integers are little-endian unless a format says otherwise; `varint` is LEB128 (DWARF) of at most ten bytes, in its
//! shortest form only, so that equal values have equal bytes. A [`Reader`] never hands out, and never allocates for, more
//! than what is there.

use thiserror::Error;

/// Bytes that do not say what they should. Nothing was changed by the attempt to read them.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("{what} at byte {offset}")]
pub struct DecodeError {
    /// Where reading stopped, counted from the start of the run of bytes that was given.
    pub offset: usize,
    /// What was expected there, or what is wrong with it.
    pub what: &'static str,
}

/// Reads a run of bytes from front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the present offset.
    #[must_use]
    pub const fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { offset: self.at, what }
    }

    /// The next `count` bytes, without a copy.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if count > self.remaining() {
            return Err(self.error("more bytes claimed than present"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let taken = &self.bytes[self.at..];
        self.at = self.bytes.len();
        taken
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned LEB128 number.
    ///
    /// # Errors
    /// When it does not end, does not fit 64 bits, or is longer than it need be.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            // As most are.
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let fail = |what| DecodeError { offset: start, what };
        let mut value = 0_u64;
        for (index, &byte) in self.bytes[start..].iter().take(10).enumerate() {
            let low = u64::from(byte & 0x7f);
            if index == 9 && low > 1 {
                return Err(fail("varint does not fit 64 bits"));
            }
            value |= low << (7 * index);
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 {
                    return Err(fail("varint is longer than it need be"));
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(fail("varint does not end"))
    }

    /// A varint that must fit 32 bits.
    ///
    /// # Errors
    /// As [`Reader::varint`], and when it is larger than `u32::MAX`.
    pub fn varint32(&mut self) -> Result<u32, DecodeError> {
        let offset = self.at;
        u32::try_from(self.varint()?).map_err(|_| DecodeError { offset, what: "number does not fit 32 bits" })
    }

    /// A varint length, then that many bytes.
    ///
    /// # Errors
    /// When the length is larger than `bytes_max` or than what is left.
    pub fn prefixed(&mut self, bytes_max: usize) -> Result<&'a [u8], DecodeError> {
        let offset = self.at;
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > bytes_max {
            return Err(DecodeError { offset, what: "length over the limit" });
        }
        self.bytes(length)
    }

    /// A varint that counts items of at least `item_bytes_min` bytes each, checked against what is left, so that it is
    /// safe to reserve memory for that many.
    ///
    /// # Errors
    /// When so many items cannot be there.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let offset = self.at;
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > self.remaining() / item_bytes_min.max(1) {
            return Err(DecodeError { offset, what: "more items claimed than bytes present" });
        }
        Ok(count)
    }

    /// Asserts that everything was read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes left over")) }
    }
}

/// Appends an unsigned LEB128 number.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a varint length, then the bytes.
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_varint`] appends for `value`.
#[must_use]
pub const fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_comes_back_and_has_the_length_foretold(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint().unwrap(), value);
            reader.finish().unwrap();
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..reader.offset()], "one value, one encoding");
            }
        }
    }

    #[test]
    fn claimed_lengths_are_checked_against_what_is_there() {
        let mut claims_a_terabyte = Vec::new();
        put_varint(&mut claims_a_terabyte, 1 << 40);
        assert_eq!(
            Reader::new(&claims_a_terabyte).prefixed(usize::MAX).unwrap_err().what,
            "more bytes claimed than present"
        );
        assert_eq!(Reader::new(&claims_a_terabyte).prefixed(10).unwrap_err().what, "length over the limit");
        assert_eq!(Reader::new(&claims_a_terabyte).count(1).unwrap_err().what, "more items claimed than bytes present");
        assert!(Reader::new(&[0x80, 0x00]).varint().is_err(), "an overlong zero");
        assert!(Reader::new(&[0xff; 10]).varint().is_err(), "seventy bits");
    }
}
