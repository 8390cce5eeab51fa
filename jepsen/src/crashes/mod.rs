//! All nodes are killed in one moment, again and again, while edges connect: what was acknowledged must
//! be in the log of every node afterwards (R9).

mod audit;
mod history;
mod load;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

pub use history::{Event, History, Incarnation, Seen, Verdict};

use crate::cluster::Cluster;
use audit::Auditor;
use load::Load;

/// Nodes of the cluster.
const NODES: usize = 3;
/// Rounds from one audit to the next.
const AUDIT: u32 = 10;
/// Of ten rounds so many wait until the cluster is whole again; the others kill it while it recovers.
const WHOLE: u32 = 6;
/// Short times, so that a round takes a second. Elections that fail on a slow machine cost time, nothing
/// else.
const QUICK: [(&str, &str); 4] = [
    ("LIMES_CLUSTER_HEARTBEAT", "50ms"),
    ("LIMES_CLUSTER_ELECTION_MIN", "200ms"),
    ("LIMES_CLUSTER_ELECTION_MAX", "400ms"),
    ("LIMES_CLUSTER_DOWN_AFTER", "2s"),
];

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway.
    pub binary: PathBuf,
    /// The cluster's folder; made, and left for its logs.
    pub dir: PathBuf,
    /// How often all nodes are killed.
    pub rounds: u32,
    /// Decides when.
    pub seed: u64,
}

/// Runs it; gives what happened, which is still to be judged.
///
/// # Errors
/// The run proves nothing: the cluster did not come back, or could not be asked.
pub async fn run(options: &Options) -> io::Result<History> {
    let mut cluster = Cluster::start_with(&options.binary, &options.dir, NODES, &QUICK).await?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let begin = Instant::now();
    let nodes = cluster.nodes().to_vec();
    let mut auditor = Auditor::start(&nodes, begin).await?;
    let load = Load::start(&nodes, begin, options.seed);
    let mut events = Vec::new();
    for round in 0..options.rounds {
        if random.random_ratio(WHOLE, 10) {
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
    events.extend(load.stop().await);
    events.extend(auditor.audit().await?);
    Ok(History { events })
}

async fn pause(random: &mut StdRng, most_ms: u64) {
    sleep(Duration::from_micros(random.random_range(0..most_ms * 1_000))).await;
}

async fn kill(
    cluster: &mut Cluster,
    nodes: &[usize],
    begin: Instant,
    events: &mut Vec<Event>,
) -> io::Result<()> {
    events.push(Event::Killed { nodes: nodes.to_vec(), at: begin.elapsed().as_micros() as u64 });
    cluster.kill9(nodes).await
}

/// Where the history of a run in this folder is kept.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("history.jsonl")
}
