//! A tour of a cluster at work: it starts one, shows what it does, kills nodes, and measures
//! what it claims.

mod error;
mod load;
mod story;
mod tour;
mod units;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::NodeConfig;
use crate::dev::{Cluster, Options, Ports};
pub use error::DemoError;
use story::Story;

/// How long the cluster may take to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Raises `cluster.down_after`, so that a node which a busy machine does not schedule for a second is not
/// declared down. Everything else has its default.
fn adjust(config: &mut NodeConfig) {
    config.cluster.down_after = Some(Duration::from_secs(4));
}

/// Starts a cluster from `binary` in a temporary folder, shows what it does, and ends it.
///
/// # Errors
/// Something that it shows did not happen. The folder with the logs is kept then.
pub async fn run(binary: PathBuf) -> Result<(), DemoError> {
    let dir = std::env::temp_dir().join(format!("limes-demo-{}", std::process::id()));
    let story = Story::new();
    story.title("Three nodes, one gateway");
    story.say("Edges (devices, sites behind NAT) and services (back ends) dial in to any node;");
    story.say("each reaches the other through the cluster. Nothing else runs: no Redis, no directory.");
    let began = Instant::now();
    let options =
        Options { binary, nodes: Some(3), dir: dir.clone(), ports: Ports::Auto, adjust: Arc::new(adjust) };
    let cluster = Cluster::start(options).await?;
    let shown = async {
        let ready = cluster.wait_ready(START_TIMEOUT).await?;
        story.done(format!(
            "three processes found each other and agreed: {} leads, {} voters, in {:.1} s",
            ready.leader,
            ready.voters,
            began.elapsed().as_secs_f64()
        ));
        tour::show(&story, &cluster).await
    };
    let outcome = tokio::select! {
        shown = shown => shown,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    };
    cluster.shutdown().await;
    match outcome {
        Ok(()) => {
            std::fs::remove_dir_all(&dir)?;
            story.title("That was limes");
            story.say(&format!("Everything above happened, in {:.0} s.", began.elapsed().as_secs_f64()));
            story.say(
                "Next: `limes dev` for a cluster to play with, sdk/examples/ for programs to start from.",
            );
            Ok(())
        }
        Err(source) => Err(DemoError::Logged { source: Box::new(source), dir }),
    }
}
