#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kv_repl::fuzzing::cursor(bytes));
