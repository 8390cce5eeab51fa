//! The configuration of the Raft member, derived from the node's settings.

use limes_raft::{Config, PeerAddr, RaftMetrics};
use limes_routing::NodeAddrs;
use tracing::warn;

use crate::accept;
use crate::config::{Addr, NodeConfig};

/// The Raft member's configuration; the member records its metrics through these handles.
pub(crate) fn raft_config(config: &NodeConfig, metrics: RaftMetrics) -> Config {
    let addresses = config.addresses();
    let mut initial: Vec<PeerAddr> = config
        .cluster
        .initial
        .iter()
        .map(|member| PeerAddr { name: member.name.clone(), addr: member.addr.to_string() })
        .collect();
    if initial.is_empty() {
        initial.push(PeerAddr { name: config.cluster.name.clone(), addr: addresses.mesh.to_string() });
    }
    Config {
        dir: config.data.clone(),
        name: config.cluster.name.clone(),
        addrs: NodeAddrs {
            mesh: addresses.mesh.to_string(),
            edges: advertised("edgebound", &addresses.edges),
            services: advertised("servicebound", &addresses.services),
            control: advertised("controlplane", &addresses.control),
        },
        initial,
        timing: config.cluster.timing(),
        metrics,
    }
}

/// The address that other nodes and clients get for a port. As in the reference, an unspecified address is
/// replaced by one of this machine's.
fn advertised(section: &str, addr: &Addr) -> String {
    let addr = addr.clone().dialable(accept::own_address);
    if addr.is_unspecified() {
        warn!(%addr, "cannot advertise an address that peers can dial; set {section}.listen.advertised_addr");
    }
    addr.to_string()
}
