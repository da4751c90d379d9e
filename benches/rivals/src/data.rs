//! Keys and values, as pure functions of a number: so every answer can be checked without remembering what was written.

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 20;

pub(crate) type Key = [u8; KEY_BYTES];

/// Keys that share all but their last four digits.
pub(crate) const PREFIX_KEYS: u32 = 100;

/// The last two digits of keys that are written, and of keys that never are.
const WRITTEN: [u8; 2] = *b"00";
const MISSING: [u8; 2] = *b"01";

/// The key of a number: twenty digits, in the order of the numbers. The last two are zero.
pub(crate) fn key_of(number: u32) -> Key {
    digits(number, WRITTEN)
}

/// A key that is never written; it lies between that of `number` and the next.
pub(crate) fn missing_key(number: u32) -> Key {
    digits(number, MISSING)
}

/// The range of the keys that share the prefix that `number` has: its first and the first one after it.
pub(crate) fn prefix_range(number: u32) -> (Key, Key) {
    let first = number / PREFIX_KEYS * PREFIX_KEYS;
    (key_of(first), key_of(first + PREFIX_KEYS))
}

/// The number of a key that is written.
pub(crate) fn number_of(key: &[u8]) -> Option<u32> {
    let digits: &Key = key.try_into().ok()?;
    let (number, end) = digits.split_at(KEY_BYTES - WRITTEN.len());
    if end != WRITTEN {
        return None;
    }
    number.iter().try_fold(0u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn digits(mut number: u32, end: [u8; 2]) -> Key {
    let mut key = [b'0'; KEY_BYTES];
    key[KEY_BYTES - 2..].copy_from_slice(&end);
    let mut at = KEY_BYTES - 2;
    while number > 0 {
        at -= 1;
        key[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
    key
}

/// A value is not what it should be.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("the value under key {number} {what}")]
pub(crate) struct WrongValue {
    number: u32,
    what: String,
}

/// Values of one length. Half of each is noise, half is filler, so that it compresses to about a half.
///
/// It begins with the number of its key (8 bytes, little-endian) and its generation, the number of the write that it comes from
/// (4 bytes). All of the rest follows from these two.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Values {
    bytes: usize,
}

const GENERATION_AT: usize = 8;
const NOISE_AT: usize = 12;
const FILLER: u8 = b'~';

impl Values {
    /// # Panics
    /// When they are too short for what each carries.
    pub(crate) fn new(bytes: usize) -> Self {
        assert!(bytes >= 2 * (NOISE_AT + 8), "a value of {bytes} bytes has no room for its number and some noise");
        Self { bytes }
    }

    /// Makes `value` that of a key. Cheapest when it was one before.
    pub(crate) fn fill(self, number: u32, generation: u32, value: &mut Vec<u8>) {
        value.resize(self.bytes, FILLER);
        let (noisy, filler) = value.split_at_mut(self.bytes / 2);
        filler.fill(FILLER);
        let (head, noisy) = noisy.split_at_mut(NOISE_AT);
        head[..GENERATION_AT].copy_from_slice(&u64::from(number).to_le_bytes());
        head[GENERATION_AT..].copy_from_slice(&generation.to_le_bytes());
        let mut noise = Noise::new(number, generation);
        let (words, rest) = noisy.as_chunks_mut();
        for word in words {
            *word = noise.next().to_le_bytes();
        }
        let last = noise.next().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }

    /// The generation of a value, if its number, its length, and both its ends are right: in a few nanoseconds.
    pub(crate) fn check(self, number: u32, value: &[u8]) -> Result<u32, WrongValue> {
        let wrong = |what: String| Err(WrongValue { number, what });
        if value.len() != self.bytes {
            return wrong(format!("has {} bytes, not {}", value.len(), self.bytes));
        }
        let carried = u64::from_le_bytes(array(value, 0));
        if carried != u64::from(number) {
            return wrong(format!("is that of key {carried}"));
        }
        let generation = u32::from_le_bytes(array(value, GENERATION_AT));
        let noise = Noise::new(number, generation).next().to_le_bytes();
        if value[NOISE_AT..NOISE_AT + 8] != noise || value[self.bytes - 1] != FILLER {
            return wrong(format!("is damaged (it says that it is of generation {generation})"));
        }
        Ok(generation)
    }

    /// The same, looking at every byte. `right` is room for the value that it should be.
    pub(crate) fn check_whole(self, number: u32, value: &[u8], right: &mut Vec<u8>) -> Result<u32, WrongValue> {
        let generation = self.check(number, value)?;
        self.fill(number, generation, right);
        if value == &right[..] {
            Ok(generation)
        } else {
            let what = format!("is damaged in its middle (it says that it is of generation {generation})");
            Err(WrongValue { number, what })
        }
    }
}

fn array<const N: usize>(value: &[u8], at: usize) -> [u8; N] {
    value[at..at + N].try_into().expect("the length was checked before")
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Noise(u64);

impl Noise {
    fn new(number: u32, generation: u32) -> Self {
        Self(u64::from(number) << 32 | u64::from(generation))
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers_and_tell_them() {
        let numbers = [0, 1, 9, 10, 99, 100, 4_000_000, u32::MAX];
        for pair in numbers.windows(2) {
            assert!(key_of(pair[0]) < missing_key(pair[0]));
            assert!(missing_key(pair[0]) < key_of(pair[1]));
        }
        for number in numbers {
            assert_eq!(number_of(&key_of(number)), Some(number));
            assert_eq!(number_of(&missing_key(number)), None);
        }
        assert_eq!(&key_of(1234), b"00000000000000123400");
        assert_eq!(number_of(b"0000000000000012340"), None);
        assert_eq!(prefix_range(1234), (key_of(1200), key_of(1300)));
    }

    #[test]
    fn half_of_a_value_is_noise() {
        let mut value = Vec::new();
        Values::new(1000).fill(7, 3, &mut value);
        assert_eq!(value.len(), 1000);
        assert_eq!(value.iter().filter(|byte| **byte == FILLER).count() / 10, 50);
    }

    #[test]
    fn a_value_of_another_key_another_length_or_with_any_byte_changed_is_noticed() {
        let values = Values::new(100);
        let (mut value, mut room) = (Vec::new(), Vec::new());
        values.fill(7, 3, &mut value);
        assert_eq!(values.check(7, &value), Ok(3));
        assert_eq!(values.check_whole(7, &value, &mut room), Ok(3));
        assert!(values.check(8, &value).is_err());
        assert!(values.check(7, &value[..99]).is_err());
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(values.check_whole(7, &value, &mut room).is_err(), "byte {at}");
            value[at] ^= 1;
        }
    }
}
