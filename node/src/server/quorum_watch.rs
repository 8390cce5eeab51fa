//! Feeling for the quorum, and what a node without one tells its peers (R10).
//!
//! An isolated node stops being ready and goes on serving the sessions that it has. Clients that can
//! look for another node by themselves are told that it would be better to; those that cannot are closed
//! after a while if another node has the quorum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::Code;
use limes_wire::frame::{GoAway, Role};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::IsolatedClose;
use crate::node::Node;
use crate::router::message::Mail;

/// Heartbeats between two attempts to feel the quorum while it is there.
const FEEL: u32 = 5;
/// SessionRegistry that are told at once, and the pause before the next: 25,000 a second, so that the
/// other nodes are not overrun.
const PACE: (usize, Duration) = (250, Duration::from_millis(10));

/// Feels for the quorum for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let heartbeat = node.config.cluster.heartbeat;
    let mut was = false;
    // Since when there has been no quorum, until those who cannot look elsewhere are closed.
    let mut alone: Option<Instant> = None;
    loop {
        let is = feel(&node).await;
        node.set_ready(is);
        if is {
            alone = None;
        } else if was {
            alone = Some(Instant::now());
        }
        match (was, is) {
            (true, false) => {
                warn!("no quorum: this node is not ready, and its clients are told to go elsewhere");
                advise(&node).await;
            }
            (false, true) => info!("the quorum is felt"),
            _ => {}
        }
        was = is;
        if alone.is_some_and(|since| is_over(&node, since)) {
            alone = None;
            warn!("no quorum: edges that cannot look for another node by themselves are closed");
            close_helpless(&node).await;
        }
        // SessionOwner waits for a node to be ready waits for this.
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

/// Whether edges that cannot look elsewhere are to be closed (`cluster.isolated_close`).
fn is_over(node: &Node, since: Instant) -> bool {
    match node.config.cluster.isolated_close {
        IsolatedClose::Never => false,
        IsolatedClose::Always => true,
        IsolatedClose::After(time) => {
            let lately = node.config.cluster.down_after();
            since.elapsed() >= time && node.peers.others_have_quorum(lately, Instant::now())
        }
    }
}

/// Closes edges in the geminio dialect; the others have been advised.
async fn close_helpless(node: &Node) {
    let goaway = GoAway::new(Code::ISOLATED, "this node has lost the cluster; connect again elsewhere");
    for some in node.sessions.all().chunks(PACE.0) {
        for (_, entry) in some.iter().filter(|(_, entry)| entry.who.is_edge()) {
            entry.outbox.push_urgent(Mail::Isolated(goaway.clone()));
        }
        sleep(PACE.1).await;
    }
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

#[cfg(test)]
mod tests {
    use limes_routing::NodeId;

    use super::*;
    use crate::config::NodeConfig;

    #[test]
    fn helpless_edges_are_closed_when_another_has_the_quorum_and_never_on_a_guess() {
        let node = |close| {
            let mut config = NodeConfig::default();
            config.cluster.isolated_close = close;
            let node = Node::new(Arc::new(config));
            node.peers.set(&[(NodeId(2), "node-2".into(), String::new(), None)]);
            node
        };
        let (long, now) = (Duration::from_secs(60), Instant::now());
        let Some(begin) = now.checked_sub(long) else { return };
        let after = node(IsolatedClose::After(long));
        assert!(!is_over(&after, begin), "who knows what the others have");
        after.peers.heard(NodeId(2), Instant::now());
        after.peers.feels(NodeId(2), true);
        assert!(is_over(&after, begin));
        assert!(!is_over(&after, now), "not yet");
        after.peers.feels(NodeId(2), false);
        assert!(!is_over(&after, begin), "nobody has it");
        assert!(is_over(&node(IsolatedClose::Always), now));
        let never = node(IsolatedClose::Never);
        never.peers.heard(NodeId(2), Instant::now());
        never.peers.feels(NodeId(2), true);
        assert!(!is_over(&never, begin));
    }
}
