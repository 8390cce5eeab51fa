//! Every setting of a node.

use std::path::PathBuf;

use super::addr::Addr;
use super::choice::{HashBy, Level};
use super::cluster::Cluster;
use super::limits::Limits;
use super::listen::{Bound, Bypass, Control, Discovery, Edgebound, Listen, Network};
use super::setting::{Settings, Visitor};

/// Every setting of a node. The reference's keys keep their names and places; what is new sits
/// under `data`, `cluster`, `limits`, `metrics` and `discovery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The folder of its data.
    pub data: PathBuf,
    /// The cluster that it belongs to.
    pub cluster: Cluster,
    /// Where edges connect.
    pub edgebound: Edgebound,
    /// Where services connect.
    pub servicebound: Bound,
    /// Metrics and health.
    pub metrics: Bound,
    /// The control plane.
    pub controlplane: Control,
    /// Discovery as the reference's directory server offers it.
    pub discovery: Discovery,
    /// How a service is chosen.
    pub exchange: Exchange,
    /// What peers are allowed.
    pub limits: Limits,
    /// The process.
    pub daemon: Daemon,
    /// What is logged.
    pub log: Log,
    pub(super) observability: Observability,
    pub(super) control_plane: ControlPlane,
}

/// How a service is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// By what.
    pub hashby: HashBy,
    /// Whether a name that nobody has is looked up once more without regard to case.
    pub ignore_case: bool,
    /// Whether services that are connected to the same node come first.
    pub same_node: bool,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Daemon {
    /// The reference's name of a node: `cluster.name` if that is not given.
    pub frontier_id: Option<String>,
    /// Where the process id is kept while it runs.
    pub pid_file: Option<PathBuf>,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much, unless `LIMES_LOG` says it finer.
    pub level: Level,
}

/// The reference's place for the metrics address.
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
    /// Where a file of the reference's directory server has it listen.
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
        v.section("cluster", "Who this node is and which cluster it belongs to.", &mut self.cluster);
        v.section("edgebound", "Where edges connect.", &mut self.edgebound);
        v.section("servicebound", "Where services connect.", &mut self.servicebound);
        v.section("metrics", "Where /metrics, /healthz, /readyz and /status are served.", &mut self.metrics);
        v.section(
            "controlplane",
            "The control plane, gRPC and REST: edges and services, to look at and to kick.",
            &mut self.controlplane,
        );
        v.section(
            "discovery",
            "The directory for the reference's cluster clients, gRPC and REST. It changes nothing and may be open.",
            &mut self.discovery,
        );
        v.section(
            "exchange",
            "How one of several services with the same method or topic is chosen.",
            &mut self.exchange,
        );
        v.section("limits", "What peers are allowed.", &mut self.limits);
        v.section("daemon", "The process.", &mut self.daemon);
        v.section("log", "What is logged, to stderr.", &mut self.log);
        v.section("observability", "The reference's place for metrics.listen.addr.", &mut self.observability);
        v.section(
            "control_plane",
            "The place for discovery.listen.addr in a file of the reference's directory.",
            &mut self.control_plane,
        );
        v.ignored("frontier_plane", "nodes need no directory server to register with");
        v.ignored("frontier_manager", "nodes need no directory server to register with");
        v.ignored("dao", "presence is kept by the cluster itself");
        v.ignored("frontlas", "a limes cluster needs no directory server");
        v.ignored("redis", "presence is kept by the cluster itself");
        v.unsupported("mqm", "a message queue");
    }
}

impl Settings for Exchange {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("hashby", "edgeid, srcip, random or rendezvous.", &mut self.hashby);
        v.leaf(
            "ignore_case",
            "Whether a method or a service's name that nobody has is looked up once more without regard to the case of \
             ASCII letters, as the reference does it. The receiver still gets it as it was written.",
            &mut self.ignore_case,
        );
        v.leaf(
            "same_node",
            "Services that are connected to the same node come first; the others only if none is.",
            &mut self.same_node,
        );
    }
}

impl Settings for Daemon {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "frontier_id",
            "The reference's name of a node; cluster.name goes before it.",
            &mut self.frontier_id,
        );
        v.leaf(
            "pid_file",
            "File that holds the process id while the node runs; empty: none.",
            &mut self.pid_file,
        );
        v.ignored("rlimit", "limits on open files are set by what starts the process");
        v.ignored("pprof", "there is no Go runtime to profile");
    }
}

impl Settings for Log {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "level",
            "debug, info, warn or error; the variable LIMES_LOG says it per module.",
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
        v.ignored("advertised_addr", "nobody is told where the directory is");
        v.unsupported("tls", "TLS");
    }
}

impl Settings for Observability {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("addr", "host:port of the metrics.", &mut self.addr);
        v.ignored("enable", "metrics and health are always served");
    }
}
