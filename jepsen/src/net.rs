//! The network between the nodes of one folder: a proxy in front of each node's mesh port.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::proxy::{Fate, Proxy};

/// First byte of a native connection: the beginning of its magic.
const NATIVE: u8 = b'L';
/// First byte of a Raft connection: the beginning of the HTTP/2 preface.
const RAFT: u8 = b'P';

/// A proxy in front of each node's mesh port. Nodes are counted from 1, as in their names.
#[derive(Debug)]
pub struct Net {
    proxies: Vec<Proxy>,
}

impl Net {
    /// Proxies for so many nodes, whose folders are in `folder`; the caller sets the target of each.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(folder: &Path, nodes: usize) -> Result<Net, Error> {
        let mut net = Net { proxies: Vec::new() };
        for _ in 0..nodes {
            let folder = folder.to_owned();
            let clients = move || (1..=nodes).filter_map(|node| Some((node, pid(&folder, node)?))).collect();
            net.proxies.push(Proxy::start_with("", Arc::new(clients)).await?);
        }
        Ok(net)
    }

    /// The proxies, in the order of the nodes.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Lets nothing through between these nodes and the others, nor among these, like a network that drops their
    /// packets.
    pub fn cut_off(&self, nodes: &[usize]) {
        for (proxy, node) in self.proxies.iter().zip(1..) {
            let (is_inside, nodes) = (nodes.contains(&node), nodes.to_vec());
            let is_from_inside =
                move |client: Option<usize>| client.is_some_and(|node| nodes.contains(&node));
            proxy.rule(move |through| match is_inside || is_from_inside(through.client) {
                true => Fate::Freeze,
                false => Fate::Pass,
            });
        }
    }

    /// Freezes the links for calls and streams that `node` opens to others; its Raft connections pass.
    pub fn hold_links_of(&self, node: usize) {
        for proxy in &self.proxies {
            proxy.rule(move |through| match through.client == Some(node) && through.first == Some(NATIVE) {
                true => Fate::Freeze,
                false => Fate::Pass,
            });
        }
    }

    /// Freezes the Raft connections between `node` and the others; their links pass.
    pub fn hold_raft_of(&self, node: usize) {
        for (proxy, at) in self.proxies.iter().zip(1..) {
            proxy.rule(move |through| {
                let is_between = at == node || through.client == Some(node);
                if is_between && through.first == Some(RAFT) { Fate::Freeze } else { Fate::Pass }
            });
        }
    }

    /// Lets everything through again, frozen bytes first.
    pub fn heal(&self) {
        self.proxies.iter().for_each(|proxy| proxy.all(Fate::Pass));
    }
}

/// The process of a node, from its pid file.
fn pid(folder: &Path, node: usize) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join(format!("node-{node}/limes.pid"))).ok()?;
    text.trim().parse().ok()
}
