//! `limes dev`: a cluster on this machine, watched from the terminal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, runtime, stop};
use crate::dev::{Cluster, Options, Ports};

/// How long a cluster may take to elect its first leader.
const READY: Duration = Duration::from_secs(60);

pub(super) fn run(nodes: Option<usize>, dir: PathBuf, ports: Ports) -> Result<(), Failure> {
    super::log::quiet();
    let options = Options { binary: std::env::current_exe()?, nodes, dir, ports, adjust: Arc::new(|_| {}) };
    runtime()?.block_on(watch(options))
}

async fn watch(options: Options) -> Result<(), Failure> {
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

/// Says where everything is and when it is ready, then who dies.
async fn report(cluster: &Cluster) -> Result<(), Failure> {
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
    let ready = cluster.wait_ready(READY).await?;
    println!("cluster ready: leader {}, {} voters", ready.leader, ready.voters);
    loop {
        let death = cluster.next_death().await;
        // Nodes may be brought back by hand: this one stays until it is told to end.
        eprintln!("{death}");
    }
}
