//! Surveys: asking a list of peers who they are.

use crate::config::{Config, PeerAddr};
use crate::network::{Clients, PeerInfo};
use crate::storage::member_cache::MemberCache;

/// The answers of some peers by their names, and the peers that did not answer.
pub(crate) struct Survey {
    pub(crate) answers: Vec<(String, PeerInfo)>,
    pub(crate) silent: Vec<String>,
}

/// Asks all peers but this node at the same time. `me` is this member's number, if it has one: then the
/// answers say what the peers know of it.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn survey(
    config: &Config,
    clients: &Clients,
    peers: &[PeerAddr],
    me: Option<u64>,
) -> Survey {
    let others = peers.iter().filter(|peer| peer.name != config.name);
    let requests = others.map(|peer| async move {
        let me = me.map(|node| (node, config.name.as_str()));
        let answer = async { clients.requests(&peer.addr)?.identify(me).await };
        (peer, answer.await)
    });
    let mut survey = Survey { answers: Vec::new(), silent: Vec::new() };
    for (peer, answer) in futures::future::join_all(requests).await {
        match answer {
            Ok(info) if info.name == peer.name => survey.answers.push((peer.name.clone(), info)),
            Ok(info) => survey.silent.push(format!("{} (at its address is {})", peer.name, info.name)),
            Err(_) => survey.silent.push(peer.name.clone()),
        }
    }
    survey
}

/// The addresses of known members that the configuration does not list.
pub(crate) fn unlisted_peers(config: &Config, cache: &MemberCache) -> Vec<PeerAddr> {
    let peers = cache.members.iter().map(|member| (member.name.clone(), member.mesh.clone()));
    let peers = peers.map(|(name, addr)| PeerAddr { name, addr });
    let mut peers: Vec<_> = peers.filter(|peer| !config.initial.contains(peer)).collect();
    peers.dedup();
    peers
}
