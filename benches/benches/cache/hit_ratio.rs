//! How many gets find something, by trace, size and cache.

use bytes::Bytes;

use crate::subjects::{self, POLICIES, Subject, cost};
use crate::traces::{self, Trace};

const VALUE: &[u8] = &[7; 100];
const KEY_BYTES: usize = 16;

fn key(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"user:0000000000:";
    key[5..9].copy_from_slice(&number.to_be_bytes());
    key
}

/// The part of gets that hit, in percent; what is missed is put.
fn run(subject: &dyn Subject, trace: &Trace) -> f64 {
    let value = Bytes::from_static(VALUE);
    let mut hits = 0_u32;
    for number in &trace.keys {
        let key = key(*number);
        if subject.get(&key).is_some() {
            hits += 1;
        } else {
            subject.put(&key, value.clone());
        }
    }
    f64::from(hits) * 100.0 / trace.keys.len() as f64
}

/// Prints a table for each size, and how far the best policy is from the best rival.
pub(crate) fn report() {
    let traces = traces::all();
    for entries in [1_000_usize, 10_000] {
        let capacity_bytes = cost(KEY_BYTES, VALUE.len()) * entries as u64;
        println!("\nhit ratio in percent, {entries} entries of {} bytes", cost(KEY_BYTES, VALUE.len()));
        print!("{:<30}", "trace");
        for name in POLICIES.iter().map(|(name, _)| *name).filter(|name| *name != "soonest") {
            print!("{name:>10}");
        }
        println!("{:>12}{:>8}{:>22}", "quick_cache", "moka", "best ours - theirs");
        for trace in &traces {
            print!("{:<30}", trace.name);
            let mut best = ("", f64::MIN);
            // Nothing has a time to live here, so the earliest expiry would be first in, first out.
            for (name, kind) in POLICIES.into_iter().filter(|(name, _)| *name != "soonest") {
                let ratio = run(&subjects::ours(kind, capacity_bytes), trace);
                print!("{ratio:>10.2}");
                if ratio > best.1 {
                    best = (name, ratio);
                }
            }
            let quick_cache = run(&subjects::quick_cache(capacity_bytes, entries), trace);
            let moka = run(&subjects::moka(capacity_bytes), trace);
            let apart = best.1 - quick_cache.max(moka);
            println!("{quick_cache:>12.2}{moka:>8.2}{apart:>+10.2}  {}", best.0);
        }
    }
}
