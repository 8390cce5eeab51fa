//! `limes dev`: runs a cluster on this machine and reports on the terminal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::CliError;
use super::runtime::runtime;
use super::{log, stop};
use crate::dev::{Cluster, Options, Ports};

/// How long a cluster may take to elect its first leader.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(nodes: Option<usize>, dir: PathBuf, ports: Ports) -> Result<(), CliError> {
    log::quiet();
    let options = Options { binary: std::env::current_exe()?, nodes, dir, ports, adjust: Arc::new(|_| {}) };
    runtime()?.block_on(watch(options))
}

async fn watch(options: Options) -> Result<(), CliError> {
    let mut stop = std::pin::pin!(stop::signal()?);
    let cluster = tokio::select! {
        started = Cluster::start(options) => started?,
        () = &mut stop => return Ok(()),
    };
    let outcome = tokio::select! {
        outcome = report(&cluster) => outcome,
        () = &mut stop => Ok(()),
    };
    cluster.shutdown().await;
    outcome
}

/// Prints the addresses of the nodes, the ready line, and then each node that exits.
async fn report(cluster: &Cluster) -> Result<(), CliError> {
    for node in cluster.nodes() {
        let at = node.addresses();
        let name = node.name();
        eprintln!(
            "{name}: edges {}, services {}, control {}, metrics {}, log {}",
            at.edges,
            at.services,
            at.control,
            at.metrics,
            node.log().display()
        );
    }
    let ready = cluster.wait_ready(READY_TIMEOUT).await?;
    println!("cluster ready: leader {}, {} voters", ready.leader, ready.voters);
    loop {
        let exit = cluster.next_exit().await;
        // The operator may start the node again by hand: the others go on.
        eprintln!("{exit}");
    }
}
