//! The fault table of the design, acted out: how long each fault is felt, median and worst.
//!
//! Times come from `limes dev` with its default settings, seen by clients. Tests assert outcomes; this
//! has the times.

mod connects;
mod faults;
mod table;

use std::path::Path;

use crate::cluster::Cluster;

pub use table::{Figure, Table};

/// Why a run proves nothing.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Acts all faults out, each time on a new cluster.
///
/// # Errors
/// A cluster did not start, or what was waited for never came.
pub async fn run(binary: &Path, runs: usize) -> Result<Table, Failure> {
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
