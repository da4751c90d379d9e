//! The storage engine alone: no cluster, no network, one directory.
//!
//! ```text
//! cargo run --release --example engine
//! ```

use std::error::Error;
use std::sync::Arc;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_lsm::{Batch, Database, KeyspaceOptions};

/// Sums numbers, so that counting is a blind write: nothing is read before.
struct Sum;

impl MergeOperator for Sum {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        let mut sum = 0;
        for bytes in base.into_iter().chain(oldest_first.iter().copied()) {
            sum += number(bytes)?;
        }
        out.extend_from_slice(&sum.to_le_bytes());
        Ok(Folded::Value)
    }
}

fn number(bytes: &[u8]) -> Result<u64, Corrupt> {
    let bytes = bytes.try_into().map_err(|_| Corrupt::new("a number of eight bytes was expected"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let sums = || KeyspaceOptions::default().merge(Arc::new(Sum));
    {
        let db = Database::open(directory.path())?;
        let users = db.keyspace("users", KeyspaceOptions::default())?;
        let logins = db.keyspace("logins", sums())?;

        // A batch changes several keyspaces at once: all of it or nothing, and durable on return.
        let mut batch = Batch::new();
        for (name, town) in [("ada", "London"), ("edsger", "Rotterdam"), ("grace", "New York"), ("leslie", "New York")]
        {
            batch.put(&users, name, town);
            batch.merge(&logins, name, 1_u64.to_le_bytes());
        }
        db.write(batch)?;

        // A snapshot goes on seeing what was there when it was taken.
        let before = db.snapshot();
        users.put("edsger", "Austin")?;
        users.delete("leslie")?;
        println!("edsger lives in {:?}, and lived in {:?}", users.get("edsger")?, before.get(&users, "edsger")?);

        // Keys are in order, and can be read from both ends.
        for entry in users.range("a".."h") {
            let (name, town) = entry?;
            println!("{} in {}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&town));
        }
        let last = before.iter(&users).next_back().transpose()?;
        println!("the last name before was {:?}", last.map(|(name, _)| name));

        for _ in 0..1_000 {
            logins.merge("ada", 1_u64.to_le_bytes())?;
        }
        let metrics = db.metrics();
        println!("{} batches took {} syncs", metrics.batches, metrics.syncs);
    }

    // Everything is there when the database is opened again.
    let db = Database::open(directory.path())?;
    let logins = db.keyspace("logins", sums())?;
    let count = logins.get("ada")?.map(|bytes| number(&bytes)).transpose()?;
    println!("ada has logged in {} times", count.unwrap_or(0));
    assert_eq!(count, Some(1_001));
    Ok(())
}
