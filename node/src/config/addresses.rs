//! The addresses under which other nodes and clients reach this node.

use super::addr::Addr;
use super::cluster::Member;
use super::listen::Listen;
use super::node::NodeConfig;

/// The addresses that a node advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// For edges.
    pub edges: Addr,
    /// For services.
    pub services: Addr,
    /// For other nodes.
    pub mesh: Addr,
    /// For operators.
    pub control: Addr,
    /// For cluster clients of the reference.
    pub discovery: Addr,
    /// For metrics and health.
    pub metrics: Addr,
}

impl NodeConfig {
    /// The addresses that others dial. For each listener: its `advertised_addr`, else the host
    /// `cluster.advertise`, else the bound host unless it is unspecified, else the host of this node's
    /// entry in `cluster.initial`.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            edges: self.advertised(&self.edgebound.listen),
            services: self.advertised(&self.servicebound.listen),
            mesh: self.founder().cloned().unwrap_or_else(|| self.advertised(&self.cluster.listen)),
            control: self.advertised(&self.controlplane.listen),
            discovery: self.advertised(&self.discovery.listen),
            metrics: self.advertised(&self.metrics.listen),
        }
    }

    /// This node's address in the list of founders.
    fn founder(&self) -> Option<&Addr> {
        let own = |member: &&Member| member.name == self.cluster.name;
        self.cluster.initial.iter().find(own).map(|member| &member.addr)
    }

    fn advertised(&self, listen: &Listen) -> Addr {
        if let Some(addr) = &listen.advertised_addr {
            return addr.clone();
        }
        let port = listen.addr.port();
        match (&self.cluster.advertise, self.founder()) {
            (Some(host), _) => Addr::new(host, port),
            (None, Some(founder)) if listen.addr.is_unspecified() => Addr::new(founder.host(), port),
            _ => listen.addr.clone(),
        }
    }
}
