//! Any bytes as packets of the geminio protocol. Run with `cargo +nightly fuzz run geminio_decode` in
//! `wire/`.
#![no_main]

#[path = "../operations.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::geminio_decode(data));
