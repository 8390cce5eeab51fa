//! Any order of what can be done to a connection. Run with `cargo +nightly fuzz run conn_ops` in
//! `wire/`.
#![no_main]

#[path = "../operations.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::conn_ops(data));
