//! Where a node listens.

use serde_norway::Value;

use super::addr::Addr;
use super::setting::{Leaf, Settings, Visitor, scalar};
use super::tls::{DialTls, Tls};

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it binds.
    pub addr: Addr,
    /// What others dial, if it is not `addr`.
    pub advertised_addr: Option<Addr>,
    /// TLS, on the ports of edges and services.
    pub tls: Tls,
    network: Network,
    /// Whether this version speaks TLS here.
    takes_tls: bool,
}

impl Listen {
    /// A listener on loopback.
    pub(super) fn local(port: u16) -> Self {
        Listen {
            addr: Addr::new("127.0.0.1", port),
            advertised_addr: None,
            tls: Tls::default(),
            network: Network::Tcp,
            takes_tls: false,
        }
    }

    /// The same, for edges or services.
    pub(super) fn with_tls(self) -> Self {
        Listen { takes_tls: true, ..self }
    }
}

impl Settings for Listen {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        self.visit_addresses(v);
        if self.takes_tls {
            v.section("tls", "TLS on this port.", &mut self.tls);
        } else {
            v.unsupported("tls", "TLS on this port");
        }
    }
}

/// A listener that nobody binds: what it lacks does not matter.
struct Idle<'a>(&'a mut Listen);

impl Settings for Idle<'_> {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        self.0.visit_addresses(v);
        v.ignored("tls", "this port is not served");
    }
}

impl Listen {
    fn visit_addresses<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("network", "The transport; tcp is the only one.", &mut self.network);
        v.leaf(
            "addr",
            "host:port to bind. Beyond loopback write an address of this machine, 0.0.0.0 for all of IPv4, or no host for \
             all there are.",
            &mut self.addr,
        );
        v.leaf(
            "advertised_addr",
            "host:port that others dial, if it differs; empty: worked out.",
            &mut self.advertised_addr,
        );
    }
}

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Whether it is served.
    pub enable: bool,
    /// Where.
    pub listen: Listen,
    /// Whether only what changes nothing is served.
    pub read_only: bool,
    /// Whether it may be served whole beyond loopback without TLS.
    pub insecure: bool,
}

impl Control {
    /// Whether anybody beyond this machine could use it.
    pub(super) fn is_open(&self) -> bool {
        self.enable && !self.listen.addr.is_loopback()
    }
}

impl Settings for Control {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("enable", "Whether it is served.", &mut self.enable);
        if self.enable {
            v.section("listen", "", &mut self.listen);
        } else {
            v.section("listen", "", &mut Idle(&mut self.listen));
        }
        v.leaf("read_only", "Whether only what changes nothing is served.", &mut self.read_only);
        v.leaf(
            "insecure",
            "Whether all of it may be served beyond loopback without TLS, to whoever can reach it.",
            &mut self.insecure,
        );
    }
}

/// A block that holds a listener and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Where.
    pub listen: Listen,
}

impl Settings for Bound {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.section("listen", "", &mut self.listen);
    }
}

/// Where edges connect, and how they get their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edgebound {
    /// Where.
    pub listen: Listen,
    /// Whether limes allots edge ids while no service offers `get_edge_id`.
    pub edgeid_alloc_when_no_idservice_on: bool,
    /// Whether connections that are of no dialect of ours are passed on.
    pub bypass_enable: bool,
    /// To whom.
    pub bypass: Bypass,
}

impl Settings for Edgebound {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.section("listen", "", &mut self.listen);
        v.leaf(
            "edgeid_alloc_when_no_idservice_on",
            "Whether edges get an id from limes while no service offers get_edge_id; otherwise they are refused.",
            &mut self.edgeid_alloc_when_no_idservice_on,
        );
        v.leaf(
            "bypass_enable",
            "Whether connections that begin like neither dialect are passed on to another gateway, byte by byte.",
            &mut self.bypass_enable,
        );
        v.section("bypass", "That gateway.", &mut self.bypass);
    }
}

/// Another gateway, for connections that are not for this one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bypass {
    /// Its addresses; each connection takes one by chance.
    pub addrs: Vec<Addr>,
    /// TLS towards it.
    pub tls: DialTls,
    network: Network,
}

impl Settings for Bypass {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("network", "The transport; tcp is the only one.", &mut self.network);
        v.leaf(
            "addrs",
            "Its addresses: [host:port, ...]; each connection takes one by chance.",
            &mut self.addrs,
        );
        v.section("tls", "TLS towards it.", &mut self.tls);
        v.ignored("advertised_addr", "nobody is told where the bypass leads");
    }
}

/// In the environment: `host:port,host:port`.
impl Leaf for Vec<Addr> {
    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Addr::from_text).collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Sequence(entries) => {
                entries.iter().map(|entry| scalar(entry).and_then(|text| Addr::from_text(&text))).collect()
            }
            Value::Null => Ok(Vec::new()),
            _ => Err("is no list; write [host:port, ...]".into()),
        }
    }

    fn to_yaml(&self) -> String {
        let entries: Vec<String> = self.iter().map(|addr| format!("\"{addr}\"")).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// The directory for the reference's cluster clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Whether it is served.
    pub enable: bool,
    /// Where.
    pub listen: Listen,
    /// The reference's directory, while both systems run side by side.
    pub upstream: Option<Addr>,
}

impl Settings for Discovery {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("enable", "Whether it is served.", &mut self.enable);
        v.section("listen", "", &mut self.listen);
        v.leaf(
            "upstream",
            "host:port of the reference's directory (40011 there) while both systems run side by side: its nodes are \
             listed too, and it is asked for edges that are not connected here. Empty: there is none.",
            &mut self.upstream,
        );
    }
}

/// The transport of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Network {
    #[default]
    Tcp,
}

impl Leaf for Network {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Network::Tcp),
            "udp" => Err("udp is not supported; limes speaks tcp".into()),
            other => Err(format!("{other:?} is no transport that limes knows; tcp is")),
        }
    }

    fn to_yaml(&self) -> String {
        "tcp".into()
    }
}
