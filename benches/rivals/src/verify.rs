//! Compares all that an engine holds with what it must hold: outside of measured time.

use std::ops::ControlFlow;

use crate::data::{Values, key_of, missing_key};
use crate::drive::DriveError;
use crate::engine::{Direction, Engine};
use crate::ledger::Ledger;

/// Single reads that are compared beside the scan; spread over all numbers.
const GETS: u32 = 2000;

/// # Errors
/// The first difference.
pub(crate) fn verify(engine: &dyn Engine, values: Values, ledger: &Ledger) -> Result<(), DriveError> {
    verify_scan(engine, values, ledger)?;
    let step = (ledger.numbers() / GETS).max(1);
    for number in (0..ledger.numbers()).step_by(step as usize) {
        verify_get(engine, values, number, ledger.generation(number))?;
        if engine.get(&missing_key(number), &mut |_| {})? {
            return Err(DriveError::Wrong(format!("a key after {number} is there and was never written")));
        }
    }
    Ok(())
}

fn verify_scan(engine: &dyn Engine, values: Values, ledger: &Ledger) -> Result<(), DriveError> {
    let mut expected = ledger.entries();
    let mut room = Vec::new();
    let mut failed = Ok(());
    engine.scan(&[], None, Direction::Forward, &mut |key, value| {
        failed = check(values, expected.next(), key, value, &mut room);
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed?;
    match expected.next() {
        None => Ok(()),
        Some((number, generation)) => {
            Err(DriveError::Wrong(format!("key {number} is missing at the end; it was written in {generation}")))
        }
    }
}

fn check(
    values: Values,
    expected: Option<(u32, u32)>,
    key: &[u8],
    value: &[u8],
    room: &mut Vec<u8>,
) -> Result<(), DriveError> {
    let shown = || String::from_utf8_lossy(key).into_owned();
    let Some((number, generation)) = expected else {
        return Err(DriveError::Wrong(format!("the key {} is there behind the last that should be", shown())));
    };
    if key != key_of(number) {
        return Err(DriveError::Wrong(format!("the key {} is there where {number} should be", shown())));
    }
    same_generation(number, generation, values.check_whole(number, value, room)?)
}

fn same_generation(number: u32, right: u32, found: u32) -> Result<(), DriveError> {
    if found == right {
        Ok(())
    } else {
        Err(DriveError::Wrong(format!("key {number} holds what write {found} put there; the last was {right}")))
    }
}

fn verify_get(engine: &dyn Engine, values: Values, number: u32, expected: Option<u32>) -> Result<(), DriveError> {
    let mut generation = Ok(0);
    let mut room = Vec::new();
    let found = engine.get(&key_of(number), &mut |value| generation = values.check_whole(number, value, &mut room))?;
    match (found, expected) {
        (false, None) => Ok(()),
        (true, Some(right)) => same_generation(number, right, generation?),
        (true, None) => Err(DriveError::Wrong(format!("key {number} is there, and was deleted"))),
        (false, Some(_)) => Err(DriveError::Wrong(format!("key {number} is not there, and was written"))),
    }
}
