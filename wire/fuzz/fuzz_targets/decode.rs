//! Any bytes as frames and records. Run with `cargo +nightly fuzz run decode` in `wire/`.
#![no_main]

#[path = "../operations.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::decode(data));
