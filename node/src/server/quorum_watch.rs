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

use crate::config::{Cluster, IsolatedClose};
use crate::consensus::handle::Consensus;
use crate::router::message::SessionCommand;
use crate::router::peers::PeerTable;
use crate::router::registry::SessionRegistry;

/// Heartbeats between two probes of the quorum while it is there.
const PROBE: u32 = 5;
/// SessionRegistry that are told at once, and the pause before the next: 25,000 a second, so that the
/// other nodes are not overrun.
const PACE: (usize, Duration) = (250, Duration::from_millis(10));

/// Watches whether this node reaches the quorum.
pub(super) struct QuorumWatch {
    /// `cluster`: its times and `isolated_close`.
    pub(super) cluster: Cluster,
    /// Its readiness is updated.
    pub(super) consensus: Consensus,
    /// Sessions that are advised or closed.
    pub(super) sessions: Arc<SessionRegistry>,
    /// What the other nodes say of the quorum.
    pub(super) peers: Arc<PeerTable>,
}

impl QuorumWatch {
    /// Probes the quorum for as long as the node runs.
    pub(super) async fn run(self) {
        let heartbeat = self.cluster.heartbeat;
        let mut was = false;
        // Since when there has been no quorum, until the edges that cannot look elsewhere are closed.
        let mut alone: Option<Instant> = None;
        loop {
            let is = self.probe().await;
            self.consensus.set_ready(is);
            if is {
                alone = None;
            } else if was {
                alone = Some(Instant::now());
            }
            match (was, is) {
                (true, false) => {
                    warn!("no quorum: this node is not ready, and advises its clients to connect elsewhere");
                    self.advise().await;
                }
                (false, true) => info!("quorum restored"),
                _ => {}
            }
            was = is;
            if alone.is_some_and(|since| self.must_close(since)) {
                alone = None;
                warn!("no quorum: closing edges whose protocol cannot move them to another node");
                self.close_unadvisable().await;
            }
            // A node that is starting waits for this.
            sleep(if is { heartbeat * PROBE } else { heartbeat }).await;
        }
    }

    async fn probe(&self) -> bool {
        let Some(replica) = self.consensus.replica() else { return false };
        // A little less than an election may take: 2 s by default.
        let patience = self.cluster.timing().no_quorum_after() * 4 / 5;
        let reached = matches!(timeout(patience, replica.barrier()).await, Ok(Ok(_)));
        reached && replica.status().epoch.is_some()
    }

    /// Whether edges that cannot look elsewhere are to be closed (`cluster.isolated_close`).
    fn must_close(&self, since: Instant) -> bool {
        match self.cluster.isolated_close {
            IsolatedClose::Never => false,
            IsolatedClose::Always => true,
            IsolatedClose::After(time) => {
                let lately = self.cluster.down_after();
                since.elapsed() >= time && self.peers.others_have_quorum(lately, Instant::now())
            }
        }
    }

    /// Closes edges whose protocol has no advice; the others have been advised.
    async fn close_unadvisable(&self) {
        let goaway = GoAway::new(Code::ISOLATED, "this node has lost the cluster; connect again elsewhere");
        for some in self.sessions.all().chunks(PACE.0) {
            let edges = some.iter().map(|(_, entry)| entry).filter(|entry| entry.who.is_edge());
            for entry in edges.filter(|entry| !entry.handle.can_advise()) {
                entry.handle.command_urgent(SessionCommand::Close(goaway.clone()));
            }
            sleep(PACE.1).await;
        }
    }

    /// Tells every session where the other nodes are, as far as this node knows.
    async fn advise(&self) {
        let goaway = |role| GoAway {
            peers: self.consensus.other_addresses(role),
            ..GoAway::new(Code::ISOLATED, "this node has lost the cluster; look for another")
        };
        let (edges, services) = (goaway(Role::Edge), goaway(Role::Service));
        for some in self.sessions.all().chunks(PACE.0) {
            for (_, entry) in some {
                entry.handle.advise(if entry.who.is_edge() { &edges } else { &services });
            }
            sleep(PACE.1).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use limes_routing::NodeId;

    use super::*;

    #[test]
    fn edges_are_closed_only_when_another_node_has_the_quorum() {
        let watch = |isolated_close| {
            let peers = Arc::new(PeerTable::new());
            peers.set(&[(NodeId(2), "node-2".into(), String::new(), None)]);
            QuorumWatch {
                cluster: Cluster { isolated_close, ..Cluster::default() },
                consensus: Consensus::default(),
                sessions: Arc::new(SessionRegistry::new()),
                peers,
            }
        };
        let (long, now) = (Duration::from_secs(60), Instant::now());
        let Some(begin) = now.checked_sub(long) else { return };
        let after = watch(IsolatedClose::After(long));
        assert!(!after.must_close(begin), "nothing was heard of the others");
        after.peers.heard(NodeId(2), Instant::now());
        after.peers.set_quorum(NodeId(2), true);
        assert!(after.must_close(begin));
        assert!(!after.must_close(now), "not isolated for long enough");
        after.peers.set_quorum(NodeId(2), false);
        assert!(!after.must_close(begin), "no node has the quorum");
        assert!(watch(IsolatedClose::Always).must_close(now));
        let never = watch(IsolatedClose::Never);
        never.peers.heard(NodeId(2), Instant::now());
        never.peers.set_quorum(NodeId(2), true);
        assert!(!never.must_close(begin));
    }
}
