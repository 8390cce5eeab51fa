//! The fault table of the design, measured: how long clients notice each fault, median and worst.
//!
//! The times are those of clients of `limes dev` with its default settings. Tests assert outcomes, and this measures
//! times.

mod connects;
mod faults;
mod load;
mod table;

use std::path::Path;

use crate::cluster::Cluster;
use crate::error::Error;

pub use table::{Figure, Table};

/// Runs all faults `runs` times, each time on a new cluster.
///
/// # Errors
/// The cluster did not start, or did not recover.
pub async fn run(binary: &Path, runs: usize) -> Result<Table, Error> {
    let mut table = Table::default();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        let dir = tempfile::tempdir()?;
        let mut cluster = Cluster::start(binary, &dir.path().join("cluster"), 3).await?;
        faults::takeovers(&cluster, &mut table).await?;
        connects::measure(&cluster, &mut table).await?;
        let leader = cluster.wait_ready().await?;
        let follower = (leader + 1) % 3;
        faults::node_killed(&mut cluster, follower, &mut table).await?;
        let leader = cluster.wait_ready().await?;
        faults::node_killed(&mut cluster, leader, &mut table).await?;
    }
    Ok(table)
}
