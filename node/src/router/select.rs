//! Selection among the services that offer a method, topic or name: the key of a request, and which sessions are
//! passed over.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use limes_routing::NodeId;
use limes_routing::pick::{self, KeySource};
use limes_wire::callback::GET_EDGE_ID;

use super::context::Router;
use super::grace::Absentee;
use super::message::{Destination, Receiver, Request};
use super::route::{Resolution, Route};
use super::service_index::Candidate;
use super::topic_sink::TopicSink;

/// The services of the cluster as a sink of topics: the router reads its index and selects among its candidates.
pub(super) struct ServiceTopics<'a>(pub(super) &'a Router);

impl TopicSink for ServiceTopics<'_> {
    fn name(&self) -> &str {
        "services"
    }

    fn resolve(&self, message: &Request) -> Resolution {
        let ServiceTopics(router) = self;
        router.select(router.services.load().topic(&message.name), message.key, message.tried)
    }
}

impl Router {
    /// Selects among service sessions: the service by the configured policy over service ids, then one of its
    /// sessions, preferably on this node. Sessions that cannot be reached, or failed
    /// the request before, are passed over; those that have missed a keepalive, or whose node has, are used only if
    /// there is no other.
    pub(crate) fn select(
        &self,
        candidates: &[Candidate],
        key: u64,
        tried: Option<Destination>,
    ) -> Resolution {
        if candidates.is_empty() {
            return Resolution::Absent;
        }
        let Some(local) = self.consensus.node() else { return Resolution::Unreachable };
        let policy = self.exchange.hashby.policy();
        let choice = pick::Choice { policy, key, local, near: self.exchange.same_node };
        let usable = |candidate: &Candidate, even_silent: bool| {
            let untried = tried != Some(candidate.destination());
            let route = untried.then(|| self.route_to(*candidate, local)).flatten();
            route.filter(|(_, silent)| even_silent || !silent).is_some()
        };
        let choose = |even_silent| pick::pick(candidates, choice, |candidate| usable(candidate, even_silent));
        let chosen = choose(false).or_else(|| choose(true));
        match chosen.and_then(|chosen| self.route_to(*chosen, local)) {
            Some((route, _)) => Resolution::Routed(route),
            None => Resolution::Unreachable,
        }
    }

    /// The resolution of a recipient that is not in the tables: it may be expected to reconnect.
    pub(super) fn missed(&self, absentee: impl FnOnce() -> Absentee) -> Resolution {
        self.grace.wait(absentee, Instant::now()).map_or(Resolution::Absent, Resolution::InGrace)
    }

    /// The key of a geminio peer's requests, as in the reference, also over IPv6.
    pub(crate) fn pick_key_as_before(&self, id: u64, remote: SocketAddr) -> u64 {
        match self.exchange.hashby.key_source() {
            KeySource::Address => pick::source::last_four(remote.ip()),
            KeySource::Id | KeySource::Random => self.pick_key(id, remote),
        }
    }

    /// The key of a callback about an edge, as in the reference, so that each service gets the callbacks of the same
    /// edges as before. Random for an edge whose id is not known yet.
    pub(crate) fn callback_key(&self, method: &str, edge: u64, addr: &str) -> u64 {
        match addr.parse() {
            _ if method == GET_EDGE_ID => self.chance(),
            Ok(remote) => self.pick_key_as_before(edge, remote),
            Err(_) => edge,
        }
    }

    /// A random key.
    pub(crate) fn chance(&self) -> u64 {
        pick::mix(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// The key of a caller's requests.
    pub(crate) fn pick_key(&self, id: u64, remote: SocketAddr) -> u64 {
        match self.exchange.hashby.key_source() {
            KeySource::Address => pick::source::key(remote.ip()),
            KeySource::Random => self.chance(),
            KeySource::Id => id,
        }
    }

    /// The route to a service session if it can be reached now, and whether it has missed a keepalive.
    fn route_to(&self, chosen: Candidate, local: NodeId) -> Option<(Route, bool)> {
        let destination = chosen.destination();
        let (node, receiver, silent) = if chosen.node == local {
            let entry = self.sessions.get(chosen.session.0)?;
            (None, Receiver::Session(entry.handle), entry.silent)
        } else {
            let link = self.peers.calls(chosen.node, chosen.epoch)?;
            (Some(chosen.node), Receiver::Link(link), self.peers.is_silent(chosen.node))
        };
        (!receiver.is_closed()).then_some((Route { node, receiver, destination: Some(destination) }, silent))
    }
}

#[cfg(test)]
mod tests {
    use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE};

    use std::sync::Arc;

    use super::*;
    use crate::config::{HashBy, NodeConfig};

    fn node(hashby: HashBy) -> Arc<Router> {
        let mut config = NodeConfig::default();
        config.exchange.hashby = hashby;
        crate::server::assemble::Components::new(Arc::new(config)).router
    }

    #[test]
    fn callbacks_have_the_keys_of_calls() {
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
