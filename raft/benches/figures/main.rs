//! What the log and the consensus can do: `cargo bench -p limes-raft --bench figures -- WHAT`.
//!
//! - `log`: the segment log alone, by events a batch and proposers. Real disk; no network, no tables.
//! - `presence`: three processes over TCP on this machine, from the proposer of each node to the tables
//!   of each node. Real disks (one, shared); no sockets of edges.
//! - `pause`: how long apply stands still while a snapshot of a million edges is taken, and what else
//!   depends on their number.
//! - `rows`: what the tables take of memory by themselves.
//!
//! `--dir D` says on which file system (else the temporary folder's), `--seconds N` how long each row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a figure or a loud end")]

mod log;
mod member;
mod pause;
mod presence;
mod rows;
mod times;

use std::path::PathBuf;
use std::time::Duration;

/// How to measure.
struct Options {
    dir: PathBuf,
    time: Duration,
    edges: u64,
}

fn main() {
    if let Ok(at) = std::env::var(presence::NODE) {
        return presence::node(at.parse().expect("a number"));
    }
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| {
        args.iter().position(|arg| arg == name).map(|at| args.get(at + 1).expect("a value").clone())
    };
    let options = Options {
        dir: value("--dir").map_or_else(std::env::temp_dir, PathBuf::from),
        time: Duration::from_secs(value("--seconds").map_or(5, |seconds| seconds.parse().expect("seconds"))),
        edges: value("--edges").map_or(1_000_000, |edges| edges.parse().expect("a number")),
    };
    match args.first().map(String::as_str) {
        Some("log") => log::run(&options),
        Some("presence") => presence::run(&options),
        Some("pause") => pause::run(&options),
        Some("rows") => rows::run(&options),
        // `cargo bench` of the whole workspace asks for nothing in particular.
        _ => println!("figures: log | presence | pause | rows [--dir D] [--seconds N] [--edges N]"),
    }
}
