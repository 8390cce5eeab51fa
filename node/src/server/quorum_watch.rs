//! Probes the quorum, and advises clients while there is none (R10).
//!
//! A node without a quorum is not ready, and goes on serving its sessions. It advises clients whose protocol
//! can move them to connect to another node. It closes edges whose protocol cannot, after a while and if
//! another node has the quorum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_raft::Replica;
use limes_wire::Code;
use limes_wire::frame::{GoAway, Role};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::{Cluster, IsolatedClose};
use crate::consensus::handle::Consensus;
use crate::router::message::SessionCommand;
use crate::router::peers::PeerTable;
use crate::router::registry::SessionRegistry;

/// Heartbeats between two probes while there is a quorum.
const PROBE_INTERVAL: u32 = 5;
/// Sessions that are advised or closed together.
const BATCH: usize = 250;
/// The pause between two batches: 25,000 sessions a second, so that the other nodes are not overrun.
const BATCH_PAUSE: Duration = Duration::from_millis(10);

/// Watches whether this node reaches the quorum.
pub(super) struct QuorumWatch {
    /// `cluster`: its times and `isolated_close`.
    pub(super) cluster: Cluster,
    /// Its readiness is updated.
    pub(super) consensus: Consensus,
    /// Probed with read barriers.
    pub(super) replica: Replica,
    /// Sessions that are advised or closed.
    pub(super) sessions: Arc<SessionRegistry>,
    /// What the other nodes report about the quorum.
    pub(super) peers: Arc<PeerTable>,
}

impl QuorumWatch {
    /// Probes the quorum for as long as the node runs.
    pub(super) async fn run(self) {
        let heartbeat = self.cluster.heartbeat;
        let mut had_quorum = false;
        // Since when there has been no quorum; reset once the edges that cannot be advised are closed.
        let mut isolated_since: Option<Instant> = None;
        loop {
            let has_quorum = self.probe().await;
            self.consensus.set_ready(has_quorum);
            if has_quorum {
                isolated_since = None;
            } else if had_quorum {
                isolated_since = Some(Instant::now());
            }
            match (had_quorum, has_quorum) {
                (true, false) => {
                    warn!("no quorum: this node is not ready, and advises its clients to connect elsewhere");
                    self.advise().await;
                }
                (false, true) => info!("quorum restored"),
                _ => {}
            }
            had_quorum = has_quorum;
            if isolated_since.is_some_and(|since| must_close(&self.cluster, &self.peers, since)) {
                isolated_since = None;
                warn!("no quorum: closing edges whose protocol cannot move them to another node");
                self.close_unadvisable().await;
            }
            // A node that is starting waits for the first success.
            sleep(if has_quorum { heartbeat * PROBE_INTERVAL } else { heartbeat }).await;
        }
    }

    async fn probe(&self) -> bool {
        // A little less than an election may take: 2 s by default.
        let patience = self.cluster.timing().no_quorum_after() * 4 / 5;
        let reached = matches!(timeout(patience, self.replica.barrier()).await, Ok(Ok(_)));
        reached && self.replica.status().epoch.is_some()
    }

    /// Closes edges whose protocol has no advice; the others have been advised.
    async fn close_unadvisable(&self) {
        let goaway = GoAway::new(Code::ISOLATED, "this node has lost the cluster; connect again elsewhere");
        for some in self.sessions.all().chunks(BATCH) {
            let edges = some.iter().map(|(_, entry)| entry).filter(|entry| entry.owner.is_edge());
            for entry in edges.filter(|entry| !entry.handle.can_advise()) {
                entry.handle.command_urgent(SessionCommand::Close(goaway.clone()));
            }
            sleep(BATCH_PAUSE).await;
        }
    }

    /// Advises every session to connect to one of the other nodes that this node knows.
    async fn advise(&self) {
        let goaway = |role| GoAway {
            peers: self.consensus.other_addresses(role),
            ..GoAway::new(Code::ISOLATED, "this node has lost the cluster; look for another")
        };
        let (edges, services) = (goaway(Role::Edge), goaway(Role::Service));
        for some in self.sessions.all().chunks(BATCH) {
            for (_, entry) in some {
                entry.handle.advise(if entry.owner.is_edge() { &edges } else { &services });
            }
            sleep(BATCH_PAUSE).await;
        }
    }
}

/// Whether edges that cannot be advised are to be closed (`cluster.isolated_close`).
fn must_close(cluster: &Cluster, peers: &PeerTable, since: Instant) -> bool {
    match cluster.isolated_close {
        IsolatedClose::Never => false,
        IsolatedClose::Always => true,
        IsolatedClose::After(time) => {
            let lately = cluster.down_after();
            since.elapsed() >= time && peers.others_have_quorum(lately, Instant::now())
        }
    }
}

#[cfg(test)]
mod tests {
    use limes_routing::NodeId;

    use super::*;

    #[test]
    fn edges_are_closed_only_when_another_node_has_the_quorum() {
        let peers_of = || {
            let peers = PeerTable::new();
            peers.set(&[(NodeId(2), "node-2".into(), String::new(), None)]);
            peers
        };
        let closes = |isolated_close, peers: &PeerTable, since| {
            must_close(&Cluster { isolated_close, ..Cluster::default() }, peers, since)
        };
        let (long, now) = (Duration::from_secs(60), Instant::now());
        let Some(begin) = now.checked_sub(long) else { return };
        let (after, peers) = (IsolatedClose::After(long), peers_of());
        assert!(!closes(after, &peers, begin), "the other node has been silent so far");
        peers.heard(NodeId(2), Instant::now());
        peers.set_quorum(NodeId(2), true);
        assert!(closes(after, &peers, begin), "the other node has the quorum");
        assert!(!closes(after, &peers, now), "not isolated for long enough");
        peers.set_quorum(NodeId(2), false);
        assert!(!closes(after, &peers, begin), "no node has the quorum");
        assert!(closes(IsolatedClose::Always, &peers_of(), now));
        peers.set_quorum(NodeId(2), true);
        assert!(!closes(IsolatedClose::Never, &peers, begin));
    }
}
