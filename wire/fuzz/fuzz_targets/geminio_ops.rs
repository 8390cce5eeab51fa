//! Any order of what can be done to a geminio connection. Run with `cargo +nightly fuzz run geminio_ops` in
//! `wire/`.
#![no_main]

#[path = "../operations.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::geminio_ops(data));
