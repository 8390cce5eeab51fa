//! How others reach this node.

use super::addr::Addr;
use super::listen::Listen;
use super::node::NodeConfig;

/// The addresses that a node makes known.
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
    /// For old cluster clients.
    pub discovery: Addr,
    /// For metrics and health.
    pub metrics: Addr,
}

impl NodeConfig {
    /// What this node tells others to dial: a listener's `advertised_addr`, else the host
    /// `cluster.advertise`, else the bound host unless that stands for every address, else the host
    /// that the founders' list gives for this node.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            edges: self.reach(&self.edgebound.listen),
            services: self.reach(&self.servicebound.listen),
            mesh: self.founder().cloned().unwrap_or_else(|| self.reach(&self.cluster.listen)),
            control: self.reach(&self.controlplane.listen),
            discovery: self.reach(&self.discovery.listen),
            metrics: self.reach(&self.metrics.listen),
        }
    }

    /// This node's entry among the founders.
    fn founder(&self) -> Option<&Addr> {
        let own = |member: &&super::Member| member.name == self.cluster.name;
        self.cluster.initial.iter().find(own).map(|member| &member.addr)
    }

    fn reach(&self, listen: &Listen) -> Addr {
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
