//! The network between the nodes of one folder: a proxy in front of each node's mesh.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::proxy::{Fate, Proxy};

/// A proxy in front of each node's mesh. Nodes are counted from 1, as in their names.
#[derive(Debug)]
pub struct Net {
    proxies: Vec<Proxy>,
}

impl Net {
    /// Proxies for so many nodes, whose folders are in `folder`; each must be told its target.
    ///
    /// # Errors
    /// No ports are free.
    pub async fn start(folder: &Path, nodes: usize) -> io::Result<Net> {
        let mut net = Net { proxies: Vec::new() };
        for _ in 0..nodes {
            let place = folder.to_owned();
            let known = move |node| Some((node, pid(&place, node)?));
            let clients = Arc::new(move || (1..=nodes).filter_map(&known).collect());
            net.proxies.push(Proxy::start_with("", clients).await?);
        }
        Ok(net)
    }

    /// The proxies, in the order of the nodes.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Nothing gets through between these nodes and the others, nor among these, as in a network that
    /// drops their packets.
    pub fn cut_off(&self, nodes: &[usize]) {
        for (proxy, node) in self.proxies.iter().zip(1..) {
            let (is_cut, cut) = (nodes.contains(&node), nodes.to_vec());
            let from_cut = move |client: Option<usize>| client.is_some_and(|node| cut.contains(&node));
            proxy.rule(move |through| match is_cut || from_cut(through.client) {
                true => Fate::Freeze,
                false => Fate::Pass,
            });
        }
    }

    /// Of what `node` connects to others, Raft passes; links for calls and streams do not come up.
    pub fn hold_links_of(&self, node: usize) {
        for proxy in &self.proxies {
            // The native protocol begins with an L, Raft's HTTP/2 with a P.
            proxy.rule(move |through| match through.client == Some(node) && through.first == b'L' {
                true => Fate::Freeze,
                false => Fate::Pass,
            });
        }
    }

    /// Raft does not get through between `node` and the others; what they say to each other beside it does.
    pub fn hold_raft_of(&self, node: usize) {
        for (proxy, at) in self.proxies.iter().zip(1..) {
            proxy.rule(move |through| {
                let between = at == node || through.client == Some(node);
                if between && through.first == b'P' { Fate::Freeze } else { Fate::Pass }
            });
        }
    }

    /// All passes again, what came meanwhile first.
    pub fn heal(&self) {
        self.proxies.iter().for_each(|proxy| proxy.all(Fate::Pass));
    }
}

/// A node's process, as it has noted it itself.
fn pid(folder: &Path, node: usize) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join(format!("node-{node}/limes.pid"))).ok()?;
    text.trim().parse().ok()
}
