//! The other nodes as this node sees them: their epoch in the tables, the links to them, and their last signs of
//! liveness.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use limes_routing::{Epoch, NodeId};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::sync::watch;

use super::message::{LinkCommand, LinkHandle};

/// The pause between two log lines about refused nodes.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);

/// One other node.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: String,
    /// Where its mesh listener is.
    pub(crate) addr: String,
    /// Its live epoch; `None` while it is down.
    pub(crate) epoch: Option<Epoch>,
    calls: Option<LinkHandle>,
    streams: Option<LinkHandle>,
    pub(crate) signs: Arc<Liveness>,
}

/// Whether this node can send to another.
#[derive(Debug)]
pub(crate) enum Reachability {
    /// A link.
    Linked(LinkHandle),
    /// The node is up, and no link to it is open now.
    Unlinked,
    /// The node is down, or up in another epoch.
    Down,
}

/// The signs of liveness of one node; milliseconds count from the creation of the table.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// When it last sent a ping or an answer to one.
    heard_ms: AtomicU64,
    /// When it last answered a ping over this node's link.
    pub(crate) answered_ms: AtomicU64,
    /// It has missed several pings: other nodes are preferred.
    pub(crate) silent: AtomicBool,
    /// Its last report: whether it has the quorum.
    quorum: AtomicBool,
    /// A dial is under way.
    pub(crate) dialling: AtomicBool,
}

/// All other nodes; readers never wait.
#[derive(Debug)]
pub(crate) struct PeerTable {
    pub(crate) born: Instant,
    /// Milliseconds from `born` until which refused nodes are not logged.
    quiet_ms: AtomicU64,
    map: ArcSwap<BTreeMap<NodeId, Peer>>,
    /// Changes with every link that comes up and with every change of the nodes in the tables.
    linked: watch::Sender<()>,
}

impl PeerTable {
    /// No other node.
    pub(crate) fn new() -> Self {
        let linked = watch::Sender::new(());
        PeerTable { born: Instant::now(), quiet_ms: AtomicU64::new(0), map: ArcSwap::default(), linked }
    }

    fn update(&self, change: impl Fn(&mut BTreeMap<NodeId, Peer>)) {
        self.map.rcu(|map| {
            let mut map = BTreeMap::clone(map);
            change(&mut map);
            map
        });
        self.linked.send_replace(());
    }

    /// Changes when a link comes up, and when the nodes in the tables change.
    pub(crate) fn linked(&self) -> watch::Receiver<()> {
        self.linked.subscribe()
    }

    /// Takes over the other nodes of the tables: id, name, mesh address, and the epoch of those that are up.
    pub(crate) fn set(&self, nodes: &[(NodeId, String, String, Option<Epoch>)]) {
        self.update(|map| {
            map.retain(|id, _| nodes.iter().any(|(known, ..)| known == id));
            for (id, name, addr, epoch) in nodes {
                let peer = map.entry(*id).or_insert_with(|| Peer {
                    name: name.clone(),
                    addr: addr.clone(),
                    epoch: None,
                    calls: None,
                    streams: None,
                    signs: Arc::default(),
                });
                peer.name.clone_from(name);
                peer.addr.clone_from(addr);
                peer.epoch = *epoch;
            }
        });
    }

    /// Whether a node is up in that epoch, and the link for calls to it.
    pub(crate) fn reach(&self, node: NodeId, epoch: Epoch) -> Reachability {
        let map = self.map.load();
        match map.get(&node).filter(|peer| peer.epoch == Some(epoch)) {
            Some(peer) => match peer.calls.clone().filter(|link| !link.is_closed()) {
                Some(link) => Reachability::Linked(link),
                None => Reachability::Unlinked,
            },
            None => Reachability::Down,
        }
    }

    /// The link for calls to a node, if it is up in that epoch and the link is.
    pub(crate) fn calls(&self, node: NodeId, epoch: Epoch) -> Option<LinkHandle> {
        match self.reach(node, epoch) {
            Reachability::Linked(link) => Some(link),
            Reachability::Unlinked | Reachability::Down => None,
        }
    }

    /// The link for streams to a node.
    pub(crate) fn streams(&self, node: NodeId) -> Option<LinkHandle> {
        self.map.load().get(&node)?.streams.clone().filter(|link| !link.is_closed())
    }

    /// The link for calls, whatever the node's epoch.
    pub(crate) fn any_calls(&self, node: NodeId) -> Option<LinkHandle> {
        self.map.load().get(&node)?.calls.clone().filter(|link| !link.is_closed())
    }

    /// All other nodes.
    pub(crate) fn all(&self) -> Vec<(NodeId, Peer)> {
        self.map.load().iter().map(|(id, peer)| (*id, peer.clone())).collect()
    }

    fn millis(&self, now: Instant) -> u64 {
        let ms = u64::try_from(now.saturating_duration_since(self.born).as_millis());
        ms.unwrap_or(u64::MAX)
    }

    /// Notes a sign of liveness: the node's own ping.
    pub(crate) fn heard(&self, node: NodeId, now: Instant) {
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.heard_ms.fetch_max(self.millis(now), Ordering::Relaxed);
        }
    }

    /// Notes an answer to a ping, which shows that this node's link works both ways.
    pub(crate) fn answered(&self, node: NodeId, now: Instant) {
        self.heard(node, now);
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.answered_ms.fetch_max(self.millis(now), Ordering::Relaxed);
        }
    }

    /// Whether a node has missed several pings.
    pub(crate) fn is_silent(&self, node: NodeId) -> bool {
        self.map.load().get(&node).is_some_and(|peer| peer.signs.silent.load(Ordering::Relaxed))
    }

    /// Notes a node's report on the quorum.
    pub(crate) fn set_quorum(&self, node: NodeId, quorum: bool) {
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.quorum.store(quorum, Ordering::Relaxed);
        }
    }

    /// Whether a node that gave a sign within this time has reported that it has the quorum.
    pub(crate) fn others_have_quorum(&self, within: Duration, now: Instant) -> bool {
        let reports = |(id, peer): (NodeId, Peer)| {
            peer.signs.quorum.load(Ordering::Relaxed)
                && now.saturating_duration_since(self.last_heard(id)) <= within
        };
        self.all().into_iter().any(reports)
    }

    /// The links for calls to all nodes that are not silent, except one.
    pub(crate) fn others(&self, except: NodeId) -> Vec<LinkHandle> {
        let answers = |id: &NodeId| *id != except && !self.is_silent(*id);
        let ids: Vec<NodeId> = self.map.load().keys().copied().filter(answers).collect();
        ids.into_iter().filter_map(|id| self.any_calls(id)).collect()
    }

    /// Whether a refused node may be logged now: it retries all the time, so lines are rate-limited.
    pub(crate) fn may_log_refusal(&self, now: Instant) -> bool {
        let (now, quiet) = (self.millis(now), self.millis(now + REFUSALS_QUIET));
        let take = |until: u64| (now >= until).then_some(quiet);
        self.quiet_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// When the node gave its last sign; the creation of this table if it gave none.
    pub(crate) fn last_heard(&self, node: NodeId) -> Instant {
        let ms = self.map.load().get(&node).map_or(0, |p| p.signs.heard_ms.load(Ordering::Relaxed));
        self.born + Duration::from_millis(ms)
    }

    /// Closes both links to a node; what was sent over them fails at once, and may have run.
    pub(crate) fn hang_up(&self, node: NodeId) {
        let Some(peer) = self.map.load().get(&node).cloned() else { return };
        self.update(|map| {
            if let Some(peer) = map.get_mut(&node) {
                (peer.calls, peer.streams) = (None, None);
            }
        });
        for link in [peer.calls, peer.streams].into_iter().flatten() {
            link.command_urgent(LinkCommand::PeerDown);
            let goaway = GoAway::new(Code::KEEPALIVE, "no answer to pings over this link");
            link.command_urgent(LinkCommand::Close(goaway));
        }
    }

    /// Sets the link of a kind to a node.
    pub(crate) fn set_link(&self, node: NodeId, kind: LinkKind, link: &LinkHandle) {
        self.update(|map| {
            if let Some(peer) = map.get_mut(&node) {
                match kind {
                    LinkKind::Calls => peer.calls = Some(link.clone()),
                    LinkKind::Streams => peer.streams = Some(link.clone()),
                }
            }
        });
    }
}

/// What a link carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkKind {
    /// Calls and messages.
    Calls,
    /// Streams.
    Streams,
}

#[cfg(test)]
impl PeerTable {
    /// Sets a mailbox as the link for calls to a node, and whether the node is silent.
    pub(crate) fn pretend(&self, node: NodeId, link: &LinkHandle, silent: bool) {
        self.set_link(node, LinkKind::Calls, link);
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.silent.store(silent, Ordering::Relaxed);
        }
    }
}
