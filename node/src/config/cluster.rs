//! Settings of the cluster that a node belongs to.

use std::path::PathBuf;
use std::time::Duration;

use limes_raft::Timing;
use serde_norway::Value;

use super::addr::Addr;
use super::listen::Listen;
use super::setting::{Leaf, Settings, Visitor, entries, quoted, scalar};
use super::value_error::ValueError;

/// This node's identity, the founders of its cluster, and the cluster's timing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// This node's name.
    pub name: String,
    /// Where the other nodes connect: Raft, and traffic between nodes.
    pub listen: Listen,
    /// The founders; empty: this node alone.
    pub initial: Vec<Member>,
    /// The host under which others reach this node.
    pub advertise: Option<String>,
    /// Whether the mesh may go beyond loopback without TLS.
    pub insecure: bool,
    /// Interval of the leader's heartbeats and of pings between nodes.
    pub heartbeat: Duration,
    /// How long a follower waits for the leader before it stands for election.
    pub election: Election,
    /// Silence after which a node is declared down; `None`: 12 heartbeats.
    pub down_after: Option<Duration>,
    /// When an isolated node closes edges of the reference's protocol.
    pub isolated_close: IsolatedClose,
    /// How long the rows of a node that is down are kept for it to resume.
    pub suspend_grace: Duration,
    /// How long a node that is stopping waits for work in flight.
    pub drain_grace: Duration,
}

/// The range from which a follower draws its election timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// The shortest timeout.
    pub min: Duration,
    /// The longest timeout, which is also the leader's lease.
    pub max: Duration,
}

/// A founder of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its mesh address as others dial it.
    pub addr: Addr,
}

/// When an isolated node closes edges whose clients cannot look for another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolatedClose {
    /// After this long, if another node is known to hold the quorum.
    After(Duration),
    /// Never.
    Never,
    /// At once.
    Always,
}

impl Default for Cluster {
    fn default() -> Self {
        let timing = Timing::default();
        Cluster {
            name: "node-1".into(),
            listen: Listen::local(30013),
            initial: Vec::new(),
            advertise: None,
            insecure: false,
            heartbeat: timing.heartbeat,
            election: Election { min: timing.election_min, max: timing.election_max },
            down_after: None,
            isolated_close: IsolatedClose::After(Duration::from_secs(60)),
            suspend_grace: Duration::from_secs(30),
            drain_grace: Duration::from_secs(30),
        }
    }
}

impl Cluster {
    /// The timing that Raft uses.
    pub fn timing(&self) -> Timing {
        Timing { heartbeat: self.heartbeat, election_min: self.election.min, election_max: self.election.max }
    }

    /// Silence after which a node is declared down.
    pub fn down_after(&self) -> Duration {
        self.down_after.unwrap_or(self.heartbeat * 12)
    }
}

impl Settings for Election {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("min", "The shortest timeout; several heartbeats.", &mut self.min);
        v.leaf(
            "max",
            "The longest timeout; electing a new leader takes two to four times as long.",
            &mut self.max,
        );
    }
}

impl Settings for Cluster {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("name", "This node's name, unique in the cluster and the same at each start.", &mut self.name);
        v.section(
            "listen",
            "Where the other nodes connect: Raft, and traffic between nodes.",
            &mut self.listen,
        );
        v.leaf(
            "initial",
            "The 1, 3 or 5 nodes that found the cluster, the same list on each: [{name: node-1, addr: \"host:30013\"}, ...]. \
             A node that is not listed joins those that are. When other nodes have been promoted, list them too, on every \
             node: a node that has lost its data asks the listed ones. Empty: this node is a cluster of its own.",
            &mut self.initial,
        );
        v.leaf(
            "advertise",
            "Host under which other nodes and clients reach this node; empty: derived from the listeners.",
            &mut self.advertise,
        );
        v.leaf(
            "insecure",
            "Whether nodes may talk beyond loopback without TLS. This version has no mesh TLS: set it on a network that you \
             trust.",
            &mut self.insecure,
        );
        v.leaf(
            "heartbeat",
            "Interval of the leader's heartbeats and of pings between nodes; the same on every node.",
            &mut self.heartbeat,
        );
        v.section(
            "election",
            "How long a follower waits for the leader before it stands for election; the same on every node.",
            &mut self.election,
        );
        v.leaf(
            "down_after",
            "Silence after which a node is declared down; empty: 12 heartbeats.",
            &mut self.down_after,
        );
        v.leaf(
            "isolated_close",
            "When a node without quorum closes edges whose clients cannot look for another node: a duration, never or always.",
            &mut self.isolated_close,
        );
        v.leaf(
            "suspend_grace",
            "How long the sessions of a node that is declared down are kept for it to resume.",
            &mut self.suspend_grace,
        );
        v.leaf(
            "drain_grace",
            "How long a node that is stopping waits for work in flight.",
            &mut self.drain_grace,
        );
    }
}

impl Leaf for PathBuf {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() { Err(ValueError::Empty { wanted: "a path" }) } else { Ok(text.into()) }
    }

    fn to_yaml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Leaf for IsolatedClose {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "never" => Ok(IsolatedClose::Never),
            "always" => Ok(IsolatedClose::Always),
            text => Duration::from_text(text)
                .map(IsolatedClose::After)
                .map_err(|error| error.or_keywords("never or always")),
        }
    }

    fn to_yaml(&self) -> String {
        match self {
            IsolatedClose::After(time) => time.to_yaml(),
            IsolatedClose::Never => "never".into(),
            IsolatedClose::Always => "always".into(),
        }
    }
}

/// In the file a list of `{name, addr}`; in the environment `node-1=host:port,node-2=host:port`.
impl Leaf for Vec<Member> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let member = |entry: &str| {
            let parts = entry.split_once('=');
            let (name, addr) = parts.ok_or_else(|| ValueError::syntax(entry, "name=host:port"))?;
            Ok(Member { name: name.to_owned(), addr: Addr::from_text(addr)? })
        };
        entries(text).map(member).collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::Sequence(entries) => entries.iter().map(member).collect(),
            Value::String(text) => Self::from_text(text),
            _ => Err(ValueError::Kind {
                found: "is not a list",
                wanted: "write [{name: node-1, addr: \"host:30013\"}, ...]",
            }),
        }
    }

    fn to_yaml(&self) -> String {
        let entry =
            |member: &Member| format!("{{name: {}, addr: \"{}\"}}", quoted(&member.name), member.addr);
        format!("[{}]", self.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}

fn member(value: &Value) -> Result<Member, ValueError> {
    let block = value.as_mapping().ok_or(ValueError::Entry { form: "{name, addr}" })?;
    let part = |key: &'static str| {
        let value = block.get(key).ok_or(ValueError::MissingKey { key })?;
        scalar(value).map_err(|error| error.in_field(key))
    };
    if let Some(key) = block.keys().filter_map(Value::as_str).find(|key| !["name", "addr"].contains(key)) {
        return Err(ValueError::UnknownKey { key: key.to_owned(), known: "name, addr" });
    }
    Ok(Member { name: part("name")?, addr: Addr::from_text(&part("addr")?)? })
}
