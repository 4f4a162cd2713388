#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ottla_fuzz::fuzz(env!("CARGO_BIN_NAME"), input));
