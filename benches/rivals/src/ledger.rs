//! What a database must hold: of every key the write that was the last. Kept outside of measured time, by replaying what was
//! done.

use std::fs;
use std::io;
use std::path::Path;

/// For every number that was ever written the generation of its value; zero when it is deleted.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Ledger {
    generations: Vec<u32>,
    last: u32,
}

impl Ledger {
    /// Numbers up to this one were written, deleted or not.
    pub(crate) fn numbers(&self) -> u32 {
        u32::try_from(self.generations.len()).expect("numbers are 32 bits wide")
    }

    /// The highest generation that was ever given out.
    pub(crate) const fn last_generation(&self) -> u32 {
        self.last
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&self.generations[..]) as u64
    }

    /// How many keys are there.
    pub(crate) fn live(&self) -> usize {
        self.generations.iter().filter(|generation| **generation > 0).count()
    }

    /// The generation that a read of this number must see, if any.
    pub(crate) fn generation(&self, number: u32) -> Option<u32> {
        self.generations.get(number as usize).copied().filter(|generation| *generation > 0)
    }

    /// Every key that is there, in order, with its generation.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(self.generations.iter().copied()).filter(|(_, generation)| *generation > 0)
    }

    pub(crate) fn put(&mut self, number: u32, generation: u32) {
        self.set(number, generation);
        self.last = self.last.max(generation);
    }

    pub(crate) fn delete(&mut self, number: u32, generation: u32) {
        self.set(number, 0);
        self.last = self.last.max(generation);
    }

    fn set(&mut self, number: u32, generation: u32) {
        let at = number as usize;
        if self.generations.len() <= at {
            self.generations.resize(at + 1, 0);
        }
        self.generations[at] = generation;
    }

    /// Kept beside a database for the next process.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let words = [&[self.last], &self.generations[..]].concat();
        fs::write(path, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut words = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let last = words.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self { generations: words.collect(), last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_counts() -> io::Result<()> {
        let mut ledger = Ledger::default();
        ledger.put(3, 1);
        ledger.put(1, 2);
        ledger.put(3, 3);
        ledger.delete(1, 4);
        assert_eq!(ledger.entries().collect::<Vec<_>>(), [(3, 3)]);
        assert_eq!((ledger.numbers(), ledger.live(), ledger.last_generation()), (4, 1, 4));
        assert_eq!((ledger.generation(1), ledger.generation(3), ledger.generation(9)), (None, Some(3), None));

        let file = tempfile::NamedTempFile::new()?;
        ledger.save(file.path())?;
        assert_eq!(Ledger::load(file.path())?, ledger);
        Ok(())
    }
}
