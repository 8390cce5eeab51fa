//! The settings of a node, and their keys.

use std::path::PathBuf;

use super::addr::Addr;
use super::cluster::Cluster;
use super::keyword::{HashBy, Level};
use super::limits::Limits;
use super::listen::{Bound, Bypass, Control, Discovery, Edgebound, Listen, Network};
use super::setting::{Settings, Visitor};

/// Every setting of a node. The reference's keys keep their names and places; keys that only limes has
/// are below `data`, `cluster`, `limits`, `metrics` and `discovery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The folder of the node's data.
    pub data: PathBuf,
    /// The cluster that the node belongs to.
    pub cluster: Cluster,
    /// The port for edges.
    pub edgebound: Edgebound,
    /// The port for services.
    pub servicebound: Bound,
    /// The port for metrics and health.
    pub metrics: Bound,
    /// The control plane.
    pub controlplane: Control,
    /// The directory that cluster clients of the reference ask.
    pub discovery: Discovery,
    /// How a service is selected.
    pub exchange: Exchange,
    /// Limits that peers must keep.
    pub limits: Limits,
    /// Settings of the process.
    pub daemon: Daemon,
    /// Logging.
    pub log: Log,
    pub(super) observability: Observability,
    pub(super) control_plane: ControlPlane,
}

/// How a service is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The selection policy.
    pub hashby: HashBy,
    /// Whether an unknown name is looked up again without regard to case.
    pub ignore_case: bool,
    /// Whether services that are connected to the same node are preferred.
    pub same_node: bool,
}

/// Settings of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Daemon {
    /// The reference's key for the name of a node; used if `cluster.name` is not set.
    pub frontier_id: Option<String>,
    /// File that holds the process id while the node runs.
    pub pid_file: Option<PathBuf>,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The lowest severity that is logged, unless `LIMES_LOG` sets a filter.
    pub level: Level,
}

/// The reference's block for the metrics address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Observability {
    pub(super) addr: Option<Addr>,
}

/// The listener in a file of the reference's directory server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ControlPlane {
    listen: OldListen,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OldListen {
    network: Network,
    addr: Option<Addr>,
}

impl NodeConfig {
    /// The address of the directory in a file of the reference's directory server.
    pub(super) fn directory(&self) -> Option<Addr> {
        self.control_plane.listen.addr.clone()
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            data: "./limes-data".into(),
            cluster: Cluster::default(),
            edgebound: Edgebound {
                listen: Listen::local(30012).with_tls(),
                edgeid_alloc_when_no_idservice_on: true,
                bypass_enable: false,
                bypass: Bypass::default(),
            },
            servicebound: Bound { listen: Listen::local(30011).with_tls() },
            metrics: Bound { listen: Listen::local(9091) },
            controlplane: Control {
                enable: true,
                listen: Listen::local(30010),
                read_only: false,
                insecure: false,
            },
            discovery: Discovery { enable: true, listen: Listen::local(40011), upstream: None },
            exchange: Exchange { hashby: HashBy::EdgeId, same_node: false, ignore_case: false },
            limits: Limits::default(),
            daemon: Daemon::default(),
            log: Log { level: Level::Info },
            observability: Observability::default(),
            control_plane: ControlPlane::default(),
        }
    }
}

impl Settings for NodeConfig {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "data",
            "Folder of this node's data; in a file, relative to the file's folder.",
            &mut self.data,
        );
        v.section("cluster", "This node and the cluster that it belongs to.", &mut self.cluster);
        v.section("edgebound", "The port for edges.", &mut self.edgebound);
        v.section("servicebound", "The port for services.", &mut self.servicebound);
        v.section(
            "metrics",
            "The port that serves /metrics, /healthz, /readyz and /status.",
            &mut self.metrics,
        );
        v.section(
            "controlplane",
            "The control plane, gRPC and REST: lists edges and services, and kicks them.",
            &mut self.controlplane,
        );
        v.section(
            "discovery",
            "The directory for cluster clients of the reference, gRPC and REST. It is read-only and may be open.",
            &mut self.discovery,
        );
        v.section(
            "exchange",
            "How one of several services with the same method or topic is selected.",
            &mut self.exchange,
        );
        v.section("limits", "Limits that peers must keep.", &mut self.limits);
        v.section("daemon", "Settings of the process.", &mut self.daemon);
        v.section("log", "Logging, to stderr.", &mut self.log);
        v.section("observability", "The reference's key for metrics.listen.addr.", &mut self.observability);
        v.section(
            "control_plane",
            "The key for discovery.listen.addr in a file of the reference's directory server.",
            &mut self.control_plane,
        );
        v.ignored("frontier_plane", "nodes do not register with a directory server");
        v.ignored("frontier_manager", "nodes do not register with a directory server");
        v.ignored("dao", "the cluster itself stores presence");
        v.ignored("frontlas", "a limes cluster needs no directory server");
        v.ignored("redis", "the cluster itself stores presence");
        v.unsupported("mqm", "a message queue");
    }
}

impl Settings for Exchange {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("hashby", HashBy::HELP, &mut self.hashby);
        v.leaf(
            "ignore_case",
            "Whether an unknown method or service name is looked up again without regard to the case of ASCII letters, as in \
             the reference. The receiver gets it as it was written.",
            &mut self.ignore_case,
        );
        v.leaf(
            "same_node",
            "Whether services that are connected to the same node are preferred; the others get calls only if there is none.",
            &mut self.same_node,
        );
    }
}

impl Settings for Daemon {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "frontier_id",
            "The reference's key for the name of a node; cluster.name takes precedence.",
            &mut self.frontier_id,
        );
        v.leaf(
            "pid_file",
            "File that holds the process id while the node runs; empty: none.",
            &mut self.pid_file,
        );
        v.ignored("rlimit", "systemd or the container sets the limit on open files");
        v.ignored("pprof", "there is no Go runtime to profile");
    }
}

impl Settings for Log {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "level",
            "debug, info, warn or error; the variable LIMES_LOG sets a filter per module.",
            &mut self.level,
        );
        v.ignored("output", "logs go to stderr");
        v.ignored("format", "logs are text");
        v.ignored("file", "logs go to stderr");
    }
}

impl Settings for ControlPlane {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.section("listen", "", &mut self.listen);
    }
}

impl Settings for OldListen {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("network", "The transport; tcp is the only one.", &mut self.network);
        v.leaf("addr", "host:port of the directory.", &mut self.addr);
        v.ignored("advertised_addr", "the address of the directory is not advertised");
        v.unsupported("tls", "TLS");
    }
}

impl Settings for Observability {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("addr", "host:port of the metrics.", &mut self.addr);
        v.ignored("enable", "metrics and health are always served");
    }
}
