//! Figures of the log and the consensus: `cargo bench -p limes-raft --bench figures -- WHAT`.
//!
//! - `log`: the segment log alone, by events per batch and proposers. Real disk; no network, no tables.
//! - `presence`: three processes over TCP on this machine, from the proposer of each node to the tables
//!   of each node. Real disks (one, shared); no sockets of edges.
//! - `pause`: how long apply is stalled while a snapshot of a million edges is taken, and other figures that
//!   depend on their number.
//! - `rows`: the memory that the tables take by themselves.
//!
//! `--dir D` selects the file system (default: that of the temporary directory), `--seconds N` the time per row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic ends the benchmark")]

mod log;
mod member;
mod pause;
mod presence;
mod rows;
mod times;

use std::path::PathBuf;
use std::time::Duration;

/// The options of a run.
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
        // `cargo bench` of the whole workspace selects nothing.
        _ => println!("figures: log | presence | pause | rows [--dir D] [--seconds N] [--edges N]"),
    }
}
