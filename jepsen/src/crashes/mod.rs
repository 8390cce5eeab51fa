//! All nodes are killed at the same moment, again and again, while edges connect. Afterwards, every acknowledged event
//! must be in the log of every node (R9).

mod audit;
mod history;
mod judge;
mod load;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

pub use history::{Event, History, Incarnation, Seen, file};
pub use judge::Verdict;

use crate::cluster::Cluster;
use crate::error::Error;
use audit::Auditor;
use load::Load;

/// Nodes of the cluster.
const NODES: usize = 3;
/// Rounds from one audit to the next.
const AUDIT: u32 = 10;
/// Of ten rounds, this many wait until the cluster is ready; the others kill it while it recovers.
const WAIT_READY: u32 = 6;
/// Short timeouts, so that a round takes about a second. On a slow machine, elections that fail only cost time.
const SHORT_TIMEOUTS: [(&str, &str); 4] = [
    ("LIMES_CLUSTER_HEARTBEAT", "50ms"),
    ("LIMES_CLUSTER_ELECTION_MIN", "200ms"),
    ("LIMES_CLUSTER_ELECTION_MAX", "400ms"),
    ("LIMES_CLUSTER_DOWN_AFTER", "2s"),
];

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary of the node.
    pub binary: PathBuf,
    /// The cluster's folder; the run creates it and leaves it behind for its logs.
    pub dir: PathBuf,
    /// How often all nodes are killed.
    pub rounds: u32,
    /// The seed of all random choices.
    pub seed: u64,
}

/// Runs the crashes; gives the history, which is still to be judged.
///
/// # Errors
/// The run proves nothing: the cluster did not become ready again, or could not be audited.
pub async fn run(options: &Options) -> Result<History, Error> {
    let mut cluster = Cluster::start_with(&options.binary, &options.dir, NODES, &SHORT_TIMEOUTS).await?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let begin = Instant::now();
    let nodes = cluster.nodes().to_vec();
    let mut auditor = Auditor::start(&nodes, begin).await?;
    let load = Load::start(&nodes, begin, options.seed);
    let mut events = Vec::new();
    for round in 0..options.rounds {
        if random.random_ratio(WAIT_READY, 10) {
            cluster.wait_ready().await?;
        }
        pause(&mut random, 400).await;
        let all: Vec<usize> = (0..NODES).collect();
        if random.random_ratio(1, 3) {
            let one = random.random_range(0..NODES);
            kill(&mut cluster, &[one], begin, &mut events).await?;
            pause(&mut random, 300).await;
            cluster.restart(one)?;
            pause(&mut random, 300).await;
        }
        kill(&mut cluster, &all, begin, &mut events).await?;
        all.iter().try_for_each(|node| cluster.restart(*node))?;
        if round % AUDIT == AUDIT - 1 {
            cluster.wait_ready().await?;
            events.extend(auditor.audit().await?);
        }
    }
    cluster.wait_ready().await?;
    events.extend(load.stop().await?);
    events.extend(auditor.audit().await?);
    Ok(History { events })
}

async fn pause(random: &mut StdRng, max_ms: u64) {
    sleep(Duration::from_micros(random.random_range(0..max_ms * 1_000))).await;
}

async fn kill(
    cluster: &mut Cluster,
    nodes: &[usize],
    begin: Instant,
    events: &mut Vec<Event>,
) -> Result<(), Error> {
    events.push(Event::Killed { nodes: nodes.to_vec(), at: begin.elapsed().as_micros() as u64 });
    cluster.kill9(nodes).await
}
