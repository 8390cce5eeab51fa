//! `limes recover`: what is left of a cluster becomes a new one.

use std::io::Write;
use std::path::Path;

use super::{Failure, runtime};
use crate::config::NodeConfig;
use crate::server::raft_config;

/// Asks, unless `yes`, and does it.
pub(super) fn run(file: &Path, yes: bool) -> Result<(), Failure> {
    let config = NodeConfig::load(file)?.config;
    let (name, data) = (&config.cluster.name, config.data.display());
    if !yes {
        println!(
            "The data of {name} ({data}) becomes the begin of a new cluster, in which it is alone until others join \
             with empty directories. What other nodes have acknowledged and it has not is given up for good. All \
             nodes must be stopped, and it should be the one with the newest data.\nType yes to go on:"
        );
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err("nothing was changed".into());
        }
    }
    let recovered = runtime()?.block_on(limes_raft::recover(&raft_config(&config)))?;
    println!(
        "recovered: {name} at revision {}, cluster {}; what was there is kept in {}. Start it, then the others with \
         empty directories.",
        recovered.revision,
        recovered.cluster,
        recovered.aside.display()
    );
    Ok(())
}
