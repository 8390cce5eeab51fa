//! Which of the services that offer something gets a request: by what it is spread, who is passed over, and
//! who is waited for if there is none.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use limes_routing::pick;
use limes_wire::callback::GET_EDGE_ID;

use crate::config::HashBy;
use crate::node::Node;
use crate::router::grace::Absentee;
use crate::router::message::Target;
use crate::router::resolve::{Resolution, Route};
use crate::router::service_index::Candidate;

impl Node {
    /// Chooses among service sessions: the service by the configured policy over service ids, then
    /// its session, one on this node first; what cannot be reached now, or has been tried in vain, is
    /// passed over, and what has missed a keepalive, or is on a node that has, while there is another.
    pub(crate) fn pick(&self, list: &[Candidate], key: u64, tried: Option<Target>) -> Resolution {
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
            Some((way, _)) => Resolution::Routed(way),
            None if list.is_empty() => Resolution::Absent,
            None => Resolution::Unreachable,
        }
    }

    /// Nobody is there now: whoever has just left may be expected back.
    pub(crate) fn missed(&self, whom: impl FnOnce() -> Absentee) -> Resolution {
        self.awaited.wait(whom, Instant::now()).map_or(Resolution::Absent, Resolution::InGrace)
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

    /// The way to a service session if it can be reached now, and whether it has been silent for
    /// long.
    fn way_to(&self, chosen: Candidate) -> Option<(Route, bool)> {
        let target = chosen.target();
        let (outbox, silent) = if chosen.node == self.id() {
            let entry = self.sessions.get(chosen.session.0)?;
            (entry.outbox, entry.silent)
        } else {
            (self.peers.calls(chosen.node, chosen.epoch)?, self.peers.is_silent(chosen.node))
        };
        (!outbox.is_closed()).then_some((Route { node: chosen.node, outbox, target }, silent))
    }
}

#[cfg(test)]
mod tests {
    use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE};

    use std::sync::Arc;

    use super::*;
    use crate::config::NodeConfig;

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
