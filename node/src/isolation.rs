//! Feeling for the quorum, and what a node without one tells its peers (R10).
//!
//! An isolated node stops being ready and goes on serving the sessions that it has. Clients that can
//! look for another node by themselves are told that it would be better to.

use std::sync::Arc;
use std::time::Duration;

use limes_wire::Code;
use limes_wire::frame::{GoAway, Role};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::mail::Mail;
use crate::node::Node;

/// Heartbeats between two attempts to feel the quorum while it is there.
const FEEL: u32 = 5;
/// Sessions that are told at once, and the pause before the next: 25,000 a second, so that the
/// other nodes are not overrun.
const PACE: (usize, Duration) = (250, Duration::from_millis(10));

/// Feels for the quorum for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let heartbeat = node.config.cluster.heartbeat;
    let mut was = false;
    loop {
        let is = feel(&node).await;
        node.set_ready(is);
        match (was, is) {
            (true, false) => {
                warn!("no quorum: this node is not ready, and its clients are told to go elsewhere");
                advise(&node).await;
            }
            (false, true) => info!("the quorum is felt"),
            _ => {}
        }
        was = is;
        // Who waits for a node to be ready waits for this.
        sleep(if is { heartbeat * FEEL } else { heartbeat }).await;
    }
}

async fn feel(node: &Node) -> bool {
    let Some(replica) = node.replica() else { return false };
    // A little less than what an election may take: 2 s by default.
    let patience = node.config.cluster.timing().no_quorum_after() * 4 / 5;
    let felt = matches!(timeout(patience, replica.barrier()).await, Ok(Ok(_)));
    felt && replica.status().epoch.is_some()
}

/// Tells every session where the other nodes are, as far as this node knows.
async fn advise(node: &Node) {
    let goaway = |role| GoAway {
        peers: node.elsewhere(role),
        ..GoAway::new(Code::ISOLATED, "this node has lost the cluster; look for another")
    };
    let (edges, services) = (goaway(Role::Edge), goaway(Role::Service));
    for some in node.sessions.all().chunks(PACE.0) {
        for (_, entry) in some {
            let goaway = if entry.who.is_edge() { &edges } else { &services };
            entry.outbox.push_always(Mail::Advise(goaway.clone()));
        }
        sleep(PACE.1).await;
    }
}
