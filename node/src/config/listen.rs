//! Settings of the listeners.

use serde_norway::Value;

use super::addr::Addr;
use super::setting::{Leaf, Settings, Visitor, entries, scalar};
use super::tls::{DialTls, Tls};
use super::value_error::ValueError;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address that it binds.
    pub addr: Addr,
    /// The address that others dial, if it differs from `addr`.
    pub advertised_addr: Option<Addr>,
    /// TLS, on the ports of edges and services.
    pub tls: Tls,
    network: Network,
    /// Whether this version supports TLS on this listener.
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

    /// A listener for edges or services, which supports TLS.
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

/// A listener that is not served, so that its TLS settings have no effect.
struct Unserved<'a>(&'a mut Listen);

impl Settings for Unserved<'_> {
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
             all addresses.",
            &mut self.addr,
        );
        v.leaf(
            "advertised_addr",
            "host:port that others dial, if it differs; empty: derived from addr.",
            &mut self.advertised_addr,
        );
    }
}

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Whether it is served.
    pub enable: bool,
    /// Its listener.
    pub listen: Listen,
    /// Whether only calls that change nothing are allowed.
    pub read_only: bool,
    /// Whether all of it may be served beyond loopback without TLS.
    pub insecure: bool,
}

impl Control {
    /// Whether other machines can reach it.
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
            v.section("listen", "", &mut Unserved(&mut self.listen));
        }
        v.leaf("read_only", "Whether only calls that change nothing are allowed.", &mut self.read_only);
        v.leaf(
            "insecure",
            "Whether all of it may be served beyond loopback without TLS, to any host that reaches it.",
            &mut self.insecure,
        );
    }
}

/// A block with a listener and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Its listener.
    pub listen: Listen,
}

impl Settings for Bound {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.section("listen", "", &mut self.listen);
    }
}

/// The port for edges, and how edges get their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edgebound {
    /// Its listener.
    pub listen: Listen,
    /// Whether limes allocates edge ids while no service offers `get_edge_id`.
    pub edgeid_alloc_when_no_idservice_on: bool,
    /// Whether connections of other protocols are forwarded to another gateway.
    pub bypass_enable: bool,
    /// That gateway.
    pub bypass: Bypass,
}

impl Settings for Edgebound {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.section("listen", "", &mut self.listen);
        v.leaf(
            "edgeid_alloc_when_no_idservice_on",
            "Whether limes allocates ids of edges while no service offers get_edge_id; otherwise edges are refused.",
            &mut self.edgeid_alloc_when_no_idservice_on,
        );
        v.leaf(
            "bypass_enable",
            "Whether connections that begin like neither protocol are forwarded to another gateway, byte by byte.",
            &mut self.bypass_enable,
        );
        v.section("bypass", "That gateway.", &mut self.bypass);
    }
}

/// Another gateway, which gets the connections of other protocols.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bypass {
    /// Its addresses; each connection goes to a random one.
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
            "Its addresses: [host:port, ...]; each connection goes to a random one.",
            &mut self.addrs,
        );
        v.section("tls", "TLS towards it.", &mut self.tls);
        v.ignored("advertised_addr", "the address of the bypass is not advertised");
    }
}

/// In the environment: `host:port,host:port`.
impl Leaf for Vec<Addr> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        entries(text).map(Addr::from_text).collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::Sequence(entries) => {
                entries.iter().map(|entry| scalar(entry).and_then(|text| Addr::from_text(&text))).collect()
            }
            Value::Null => Ok(Vec::new()),
            _ => Err(ValueError::Kind { found: "is not a list", wanted: "write [host:port, ...]" }),
        }
    }

    fn to_yaml(&self) -> String {
        let entries: Vec<String> = self.iter().map(|addr| format!("\"{addr}\"")).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// The directory that cluster clients of the reference ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Whether it is served.
    pub enable: bool,
    /// Its listener.
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
            "host:port of the reference's directory (40011 there) while both systems run side by side: this node lists \
             its nodes too, and asks it for edges that are not connected here. Empty: there is none.",
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
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "tcp" => Ok(Network::Tcp),
            "udp" => Err(ValueError::Unsupported { text: text.to_owned(), instead: "tcp" }),
            other => Err(ValueError::Keyword { text: other.to_owned(), known: "tcp".to_owned() }),
        }
    }

    fn to_yaml(&self) -> String {
        "tcp".into()
    }
}
