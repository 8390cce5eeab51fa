//! What the parts of a running node share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use limes_raft::{BarrierError, Replica};
use limes_routing::{NodeId, NodeRow, Revision, pick};
use limes_wire::callback::GET_EDGE_ID;
use limes_wire::frame::Role;
use limes_wire::{Code, limits};
use tokio_util::task::TaskTracker;

use crate::awaited::{Awaited, Whom};
use crate::config::{HashBy, NodeConfig};
use crate::directory::{Directory, Sessions};
use crate::edge_methods::EdgeMethods;
use crate::files::Files;
use crate::forward::{Found, Way};
use crate::lanes::Lanes;
use crate::leaving::is_leaving;
use crate::listen::Bypass;
use crate::listen::Port;
use crate::mail::{Failure, Target};
use crate::mesh::Peers;
use crate::notice::Notices;
use crate::presence::Presence;
use crate::pressure::Pressure;
use crate::services::{Candidate, ServiceIndex};
use crate::status::Metrics;

/// One running node. Made before the replica, which reports to it.
pub(crate) struct Node {
    /// Its settings.
    pub(crate) config: Arc<NodeConfig>,
    /// Sessions held here.
    pub(crate) sessions: Sessions,
    /// Connections of edges and services, from the accept until the socket is closed.
    pub(crate) connections: TaskTracker,
    /// Routes to edges anywhere.
    pub(crate) directory: Directory,
    /// Services anywhere.
    pub(crate) services: ArcSwap<ServiceIndex>,
    /// Who has left and is expected back.
    pub(crate) awaited: Awaited,
    /// What the edges held here say they offer.
    pub(crate) edge_methods: EdgeMethods,
    /// Where connections go that are not for us, once that is known.
    pub(crate) bypass: OnceLock<Bypass>,
    /// The other nodes.
    pub(crate) peers: Peers,
    /// What turns connects into events and effects into routes.
    pub(crate) presence: Presence,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// What may be said in the log about peers that break the rules.
    pub(crate) notices: Notices,
    /// Whether memory is over its mark.
    pub(crate) pressure: Pressure,
    /// Files that peers may take.
    pub(crate) files: Arc<Files>,
    draining: AtomicBool,
    ready: AtomicBool,
    /// Spreads calls when the policy is random.
    turn: AtomicU64,
    /// Messages that look for their way.
    pub(crate) lanes: Lanes,
    replica: OnceLock<Replica>,
}

impl Node {
    /// A node whose replica is not started yet.
    pub(crate) fn new(config: Arc<NodeConfig>) -> Arc<Self> {
        Arc::new(Node {
            config,
            sessions: Sessions::new(),
            connections: TaskTracker::new(),
            directory: Directory::new(),
            services: ArcSwap::default(),
            awaited: Awaited::default(),
            edge_methods: EdgeMethods::default(),
            bypass: OnceLock::new(),
            peers: Peers::new(),
            presence: Presence::new(),
            metrics: Metrics::default(),
            notices: Notices::default(),
            pressure: Pressure::default(),
            files: Files::of_process(),
            draining: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            lanes: Lanes::default(),
            replica: OnceLock::new(),
        })
    }

    /// A peer broke a rule or crossed a limit: counts it. If a line may be written of it now, gives how
    /// many of the kind were left out before.
    pub(crate) fn cut(&self, port: Port, code: Code) -> Option<u64> {
        self.metrics.cut(port, code);
        self.notices.first(port, code, Instant::now())
    }

    /// Gives the node its replica, once.
    pub(crate) fn attach(&self, replica: Replica) {
        let _ = self.replica.set(replica);
    }

    /// The replica, once it has been started.
    pub(crate) fn replica(&self) -> Option<&Replica> {
        self.replica.get()
    }

    /// This node's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.cluster.name
    }

    /// This node's member number; 0 before the replica has started.
    pub(crate) fn id(&self) -> NodeId {
        self.presence.node()
    }

    /// The cluster's id; zeros before the replica has started.
    pub(crate) fn cluster(&self) -> [u8; 16] {
        self.presence.cluster()
    }

    /// The newest revision that this node has applied.
    pub(crate) fn applied(&self) -> Revision {
        self.presence.applied()
    }

    /// Whether the node is shutting down or drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no newcomers from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node has felt the quorum lately.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes whether the node feels the quorum.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Waits until this node has applied all that was committed when this was called.
    ///
    /// # Errors
    /// A failure that says "not run": there is no quorum, or the deadline passed.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<(), Failure> {
        let replica = self.replica().ok_or_else(starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.barrier()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(no_quorum(&error)),
            Err(_) => Err(Failure::not_run(Code::TIMEOUT, "the cluster did not agree in time")),
        }
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// A failure that says "not run".
    pub(crate) async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), Failure> {
        let replica = self.replica().ok_or_else(starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.wait_applied(revision)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(no_quorum(&error)),
            Err(_) => Err(Failure::not_run(Code::TIMEOUT, "this node lags behind the cluster")),
        }
    }

    /// Chooses among service sessions: the service by the configured policy over service ids, then
    /// its session, one on this node first; what cannot be reached now, or has been tried in vain, is
    /// passed over, and what has missed a keepalive, or is on a node that has, while there is another.
    pub(crate) fn pick(&self, list: &[Candidate], key: u64, tried: Option<Target>) -> Found {
        let exchange = &self.config.exchange;
        let policy = match exchange.hashby {
            HashBy::Rendezvous => pick::Policy::Rendezvous,
            HashBy::EdgeId | HashBy::SrcIp | HashBy::Random => pick::Policy::Modulo,
        };
        let choice = pick::Choice { policy, key, local: self.id(), near: exchange.same_node };
        let usable = |candidate: &Candidate, even_silent: bool| {
            let way = (tried != Some(candidate.target())).then(|| self.way_to(*candidate)).flatten();
            way.filter(|(_, silent)| even_silent || !silent).is_some()
        };
        let choose = |even_silent| pick::pick(list, choice, |candidate| usable(candidate, even_silent));
        let chosen = choose(false).or_else(|| choose(true));
        match chosen.and_then(|chosen| self.way_to(*chosen)) {
            Some((way, _)) => Found::Way(way),
            None if list.is_empty() => Found::Nobody,
            None => Found::Unreachable,
        }
    }

    /// Nobody is there now: whoever has just left may be expected back.
    pub(crate) fn missed(&self, whom: impl FnOnce() -> Whom) -> Found {
        self.awaited.wait(whom, Instant::now()).map_or(Found::Nobody, Found::Awaited)
    }

    /// What the requests of a geminio peer are spread by: as the reference does it, also over IPv6.
    pub(crate) fn pick_key_as_before(&self, id: u64, remote: SocketAddr) -> u64 {
        match self.config.exchange.hashby {
            HashBy::SrcIp => pick::source::last_four(remote.ip()),
            _ => self.pick_key(id, remote),
        }
    }

    /// What a callback about an edge is spread by: as the reference does it, so that a service of before goes on
    /// hearing of the same edges. Whose id is not known yet is not spread by it.
    pub(crate) fn callback_key(&self, method: &str, edge: u64, addr: &str) -> u64 {
        match addr.parse() {
            _ if method == GET_EDGE_ID => self.chance(),
            Ok(remote) => self.pick_key_as_before(edge, remote),
            Err(_) => edge,
        }
    }

    /// A key by chance.
    pub(crate) fn chance(&self) -> u64 {
        pick::mix(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// What a caller's requests are spread by.
    pub(crate) fn pick_key(&self, id: u64, remote: SocketAddr) -> u64 {
        match self.config.exchange.hashby {
            HashBy::SrcIp => pick::source::key(remote.ip()),
            HashBy::Random => self.chance(),
            HashBy::EdgeId | HashBy::Rendezvous => id,
        }
    }

    /// Addresses of the other live nodes, for peers of this role.
    pub(crate) fn elsewhere(&self, role: Role) -> Vec<String> {
        let me = self.id();
        self.replica().map_or_else(Vec::new, |replica| {
            replica.read(|tables| {
                let stays = |id, row: &NodeRow| !row.down && !row.draining && !is_leaving(tables, id, row);
                let others = tables.nodes().filter(|(id, row)| *id != me && stays(*id, row));
                let addr = others.map(|(_, row)| match role {
                    Role::Edge => row.addrs.edges.clone(),
                    _ => row.addrs.services.clone(),
                });
                addr.take(limits::PEERS_MAX).collect()
            })
        })
    }

    /// The way to a service session if it can be reached now, and whether it has been silent for
    /// long.
    fn way_to(&self, chosen: Candidate) -> Option<(Way, bool)> {
        let target = chosen.target();
        let (outbox, silent) = if chosen.node == self.id() {
            let entry = self.sessions.get(chosen.session.0)?;
            (entry.outbox, entry.silent)
        } else {
            (self.peers.calls(chosen.node, chosen.epoch)?, self.peers.is_silent(chosen.node))
        };
        (!outbox.is_closed()).then_some((Way { node: chosen.node, outbox, target }, silent))
    }
}

fn starting() -> Failure {
    Failure::not_run(Code::NO_QUORUM, "this node is still starting")
}

fn no_quorum(error: &BarrierError) -> Failure {
    Failure::not_run(Code::NO_QUORUM, format!("the cluster cannot agree now: {error}"))
}

#[cfg(test)]
mod tests {
    use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE};

    use super::*;

    fn node(hashby: HashBy) -> Arc<Node> {
        let mut config = NodeConfig::default();
        config.exchange.hashby = hashby;
        Node::new(Arc::new(config))
    }

    #[test]
    fn callbacks_are_spread_like_calls() {
        for method in [EDGE_ONLINE, EDGE_OFFLINE] {
            let key = |hashby, addr| node(hashby).callback_key(method, 1_001, addr);
            assert_eq!(key(HashBy::EdgeId, "10.0.0.2:5"), 1_001);
            assert_eq!(key(HashBy::Rendezvous, "10.0.0.2:5"), 1_001);
            assert_eq!(key(HashBy::SrcIp, "10.0.0.2:5"), 0x0a00_0002);
            assert_eq!(key(HashBy::SrcIp, "[2001:db8::a:1:2]:5"), 0x0001_0002);
            assert_eq!(key(HashBy::SrcIp, "no address"), 1_001);
            let by_chance = node(HashBy::Random);
            let first = by_chance.callback_key(method, 1_001, "10.0.0.2:5");
            assert_ne!(by_chance.callback_key(method, 1_001, "10.0.0.2:5"), first);
        }
        let node = node(HashBy::EdgeId);
        let first = node.callback_key(GET_EDGE_ID, 0, "10.0.0.2:5");
        assert_ne!(node.callback_key(GET_EDGE_ID, 0, "10.0.0.2:5"), first, "by chance");
    }
}
