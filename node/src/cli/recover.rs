//! `limes recover`: makes a new cluster from the data of one node.

use std::io::Write;
use std::path::Path;

use super::error::CliError;
use super::runtime::runtime;
use crate::config::NodeConfig;
use crate::server::raft_config;
use limes_raft::RaftMetrics;

/// Asks for confirmation unless `yes`, then recovers.
pub(super) fn run(file: &Path, yes: bool) -> Result<(), CliError> {
    let config = NodeConfig::load(file)?.config;
    let (name, data) = (&config.cluster.name, config.data.display());
    if !yes {
        println!(
            "This makes a new cluster from the data of {name} ({data}), with {name} as its only member until other \
             nodes join with empty directories. Anything that other nodes have acknowledged and {name} does not have \
             is lost. All nodes must be stopped, and {name} should have the newest data.\nType yes to continue:"
        );
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err(CliError::NotConfirmed);
        }
    }
    let recovered =
        runtime()?.block_on(limes_raft::recover(&raft_config(&config, RaftMetrics::default())))?;
    println!(
        "recovered: {name} at revision {}, cluster {}; the old data is kept in {}. Start {name}, then the other \
         nodes with empty directories.",
        recovered.revision,
        recovered.cluster,
        recovered.kept.display()
    );
    Ok(())
}
