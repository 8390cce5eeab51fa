//! The other nodes as this node sees them: their epoch by the tables, their links, their last sign
//! of life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use limes_routing::{Epoch, NodeId};
use limes_wire::driver::{Mailbox, drive, tune};
use limes_wire::frame::GoAway;
use limes_wire::{Code, Conn, limits::Limits};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::handshake;
use super::link::Link;
use crate::node::Node;
use crate::router::message::{Mail, Outbox};
use crate::tasks;

/// The pause after a line about a node that was refused.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);
/// How long one attempt to reach a node may take.
const DIAL_TIME: Duration = Duration::from_secs(1);
/// Heartbeats without a sign of life after which other nodes are preferred.
const SILENT: u32 = 4;
/// Times `cluster.down_after` without a sign of life after which a link is given up. By then the
/// cluster, if there is one, has declared the node down.
const DEAD: u32 = 2;

/// One other node.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: String,
    /// Where its mesh listener is.
    pub(crate) addr: String,
    /// Its live epoch; `None` while it is down.
    pub(crate) epoch: Option<Epoch>,
    calls: Option<Outbox>,
    streams: Option<Outbox>,
    signs: Arc<Liveness>,
}

/// What stands between this node and another.
#[derive(Debug)]
pub(crate) enum Reachability {
    /// A link.
    Linked(Outbox),
    /// The node lives, and is not linked now.
    Unlinked,
    /// The node does not live, or in another epoch.
    Down,
}

#[derive(Debug, Default)]
struct Liveness {
    /// Anything came from it.
    heard_ms: AtomicU64,
    /// It answered a ping over this node's link.
    answered_ms: AtomicU64,
    /// It has missed several pings: others are preferred.
    silent: AtomicBool,
    /// It has said last that it feels the quorum.
    quorum: AtomicBool,
    dialling: AtomicBool,
}

/// All other nodes; readers never wait.
#[derive(Debug)]
pub(crate) struct PeerTable {
    born: Instant,
    /// Milliseconds from `born` until which refused nodes are not logged.
    quiet_ms: AtomicU64,
    map: ArcSwap<BTreeMap<NodeId, Peer>>,
    /// Told of every link that comes up and of every change of the tables.
    linked: watch::Sender<()>,
}

impl PeerTable {
    /// Nobody known yet.
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

    /// Changes when a link comes up, or the tables change who there is.
    pub(crate) fn linked(&self) -> watch::Receiver<()> {
        self.linked.subscribe()
    }

    /// Takes over what the tables say: who there is, where, and in which epoch.
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

    /// Whether a node lives in that epoch, and the link for calls to it.
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
    pub(crate) fn calls(&self, node: NodeId, epoch: Epoch) -> Option<Outbox> {
        match self.reach(node, epoch) {
            Reachability::Linked(link) => Some(link),
            Reachability::Unlinked | Reachability::Down => None,
        }
    }

    /// The link for streams to a node.
    pub(crate) fn streams(&self, node: NodeId) -> Option<Outbox> {
        self.map.load().get(&node)?.streams.clone().filter(|link| !link.is_closed())
    }

    /// The link for calls, whatever the node's epoch.
    pub(crate) fn any_calls(&self, node: NodeId) -> Option<Outbox> {
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

    /// Notes a sign of life: the node's own ping.
    pub(crate) fn heard(&self, node: NodeId, now: Instant) {
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.heard_ms.fetch_max(self.millis(now), Ordering::Relaxed);
        }
    }

    /// Notes a sign of life that also shows that this node's link works both ways.
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

    /// Notes what a node says of the quorum.
    pub(crate) fn feels(&self, node: NodeId, quorum: bool) {
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.quorum.store(quorum, Ordering::Relaxed);
        }
    }

    /// Whether a node that was heard within this time said last that it feels the quorum.
    pub(crate) fn others_have_quorum(&self, within: Duration, now: Instant) -> bool {
        let says = |(id, peer): (NodeId, Peer)| {
            peer.signs.quorum.load(Ordering::Relaxed)
                && now.saturating_duration_since(self.last_heard(id)) <= within
        };
        self.all().into_iter().any(says)
    }

    /// The links for calls to all nodes that are heard, but for one.
    pub(crate) fn others(&self, but: NodeId) -> Vec<Outbox> {
        let heard = |id: &NodeId| *id != but && !self.is_silent(*id);
        let ids: Vec<NodeId> = self.map.load().keys().copied().filter(heard).collect();
        ids.into_iter().filter_map(|id| self.any_calls(id)).collect()
    }

    /// Whether a refused node is worth a line: it tries again all the time.
    pub(crate) fn may_log_refusal(&self, now: Instant) -> bool {
        let (now, quiet) = (self.millis(now), self.millis(now + REFUSALS_QUIET));
        let take = |until: u64| (now >= until).then_some(quiet);
        self.quiet_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// When the node was last heard; the beginning of this process if never.
    pub(crate) fn last_heard(&self, node: NodeId) -> Instant {
        let ms = self.map.load().get(&node).map_or(0, |p| p.signs.heard_ms.load(Ordering::Relaxed));
        self.born + Duration::from_millis(ms)
    }

    /// Gives up both links to a node; what was sent over them fails at once, and may have run.
    fn hang_up(&self, node: NodeId) {
        let Some(peer) = self.map.load().get(&node).cloned() else { return };
        self.update(|map| {
            if let Some(peer) = map.get_mut(&node) {
                (peer.calls, peer.streams) = (None, None);
            }
        });
        for link in [peer.calls, peer.streams].into_iter().flatten() {
            link.push_urgent(Mail::PeerDown);
            let goaway = GoAway::new(Code::KEEPALIVE, "no sign of life over this link");
            link.push_urgent(Mail::Close(goaway));
        }
    }

    fn set_link(&self, node: NodeId, lane: Lane, link: &Outbox) {
        self.update(|map| {
            if let Some(peer) = map.get_mut(&node) {
                match lane {
                    Lane::Calls => peer.calls = Some(link.clone()),
                    Lane::Streams => peer.streams = Some(link.clone()),
                }
            }
        });
    }
}

#[cfg(test)]
impl PeerTable {
    /// A mailbox in the place of the link for calls to a node, which has been silent for long or not.
    pub(crate) fn pretend(&self, node: NodeId, link: &Outbox, silent: bool) {
        self.set_link(node, Lane::Calls, link);
        if let Some(peer) = self.map.load().get(&node) {
            peer.signs.silent.store(silent, Ordering::Relaxed);
        }
    }
}

/// What a link carries.
#[derive(Debug, Clone, Copy)]
enum Lane {
    Calls,
    Streams,
}

/// Dials what is not linked and pings what is, once a heartbeat, until the node stops. A link that
/// has brought no sign of life for long is closed: its connection may be half-open, and what waits on
/// it must end.
pub(crate) async fn keep_links(node: Arc<Node>) {
    let heartbeat = node.config.cluster.heartbeat;
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = node.peers.linked();
    let (mut last, mut regular_since) = (Instant::now(), Instant::now());
    loop {
        // A node that has just come is dialled at once; pings keep their beat.
        let is_beat = tokio::select! {
            _ = tick.tick() => true,
            _ = changes.changed() => false,
        };
        let now = Instant::now();
        if is_beat {
            // SessionOwner was asleep itself takes nobody for silent.
            if now - last > heartbeat * SILENT {
                regular_since = now;
            }
            last = now;
        }
        for (id, peer) in node.peers.all() {
            if let Some(link) = node.peers.any_calls(id).filter(|_| is_beat) {
                let answered = Duration::from_millis(peer.signs.answered_ms.load(Ordering::Relaxed));
                let silence = now - (node.peers.born + answered).max(regular_since).min(now);
                peer.signs.silent.store(silence > heartbeat * SILENT, Ordering::Relaxed);
                if silence > node.config.cluster.down_after() * DEAD {
                    warn!(peer = %peer.name, ?silence, "no sign of life: the links are given up and dialled anew");
                    node.peers.hang_up(id);
                    continue;
                }
                link.push_always(Mail::Ping);
            }
            let missing = node.peers.any_calls(id).is_none() || node.peers.streams(id).is_none();
            if missing && !peer.signs.dialling.swap(true, Ordering::AcqRel) {
                tasks::spawn(tasks::Kind::Mesh, dial(node.clone(), id, peer));
            }
        }
    }
}

async fn dial(node: Arc<Node>, id: NodeId, peer: Peer) {
    for lane in [Lane::Calls, Lane::Streams] {
        let linked = match lane {
            Lane::Calls => node.peers.any_calls(id).is_some(),
            Lane::Streams => node.peers.streams(id).is_some(),
        };
        if linked {
            continue;
        }
        match timeout(DIAL_TIME, link(&node, id, &peer.addr)).await {
            Ok(Ok(outbox)) => {
                node.peers.set_link(id, lane, &outbox);
                info!(peer = %peer.name, ?lane, "linked");
            }
            Ok(Err(error)) => {
                debug!(peer = %peer.name, addr = %peer.addr, %error, "cannot link");
                break;
            }
            Err(_) => break,
        }
    }
    peer.signs.dialling.store(false, Ordering::Release);
}

/// One connection, greeted.
async fn link(node: &Arc<Node>, id: NodeId, addr: &str) -> std::io::Result<Outbox> {
    let socket = TcpStream::connect(addr).await?;
    tune(&socket)?;
    let outbox = Mailbox::new();
    let (ready, welcomed) = oneshot::channel();
    let handler = Link::dialled(node.clone(), outbox.clone(), id, ready);
    let limits = Limits { streams: usize::MAX, ..Limits::default() };
    let conn = Conn::client(handshake::ours(node, id), Instant::now(), limits);
    tasks::spawn(tasks::Kind::Mesh, drive(socket, conn, handler, outbox.clone()));
    let refused = || std::io::Error::other("the node did not say welcome");
    let guard = Guard(Some(outbox.clone()));
    welcomed.await.map_err(|_| refused())?;
    guard.keep();
    Ok(outbox)
}

/// Closes a link whose greeting is given up.
struct Guard(Option<Outbox>);

impl Guard {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(outbox) = self.0.take() {
            outbox.push_always(Mail::Close(GoAway::new(Code::HANDSHAKE_TIMEOUT, "no welcome in time")));
        }
    }
}
