//! The cluster that a node belongs to.

use std::path::PathBuf;
use std::time::Duration;

use limes_raft::Timing;
use serde_norway::Value;

use super::addr::Addr;
use super::listen::Listen;
use super::setting::{Leaf, Settings, Visitor, quoted, scalar};

/// Who this node is, who founds the cluster with it, and how patient they are with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// This node's name.
    pub name: String,
    /// Where the other nodes connect: Raft, and traffic between nodes.
    pub listen: Listen,
    /// The founders; empty: this node alone.
    pub initial: Vec<Member>,
    /// The host by which others reach this node.
    pub advertise: Option<String>,
    /// Whether the mesh may go beyond loopback without TLS.
    pub insecure: bool,
    /// How often the leader makes itself heard, and nodes ping each other.
    pub heartbeat: Duration,
    /// How long a follower bears silence before it stands for election.
    pub election: Election,
    /// How long a node is silent before it is declared down; nothing: 12 heartbeats.
    pub down_after: Option<Duration>,
    /// What becomes of old-protocol edges of an isolated node.
    pub isolated_close: IsolatedClose,
    /// How long the rows of a dead node are kept for it to resume.
    pub suspend_grace: Duration,
    /// How long a node that is told to stop waits for what is in flight.
    pub drain_grace: Duration,
}

/// The shortest and the longest silence after which a follower stands for election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// The shortest.
    pub min: Duration,
    /// The longest, and the leader's lease.
    pub max: Duration,
}

/// A founder: its name, and where its mesh listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its mesh address as others dial it.
    pub addr: Addr,
}

/// When an isolated node closes edges that cannot look for another node by themselves.
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
    /// How soon members notice each other's silence.
    pub fn timing(&self) -> Timing {
        Timing { heartbeat: self.heartbeat, election_min: self.election.min, election_max: self.election.max }
    }

    /// How long a node is silent before it is declared down.
    pub fn down_after(&self) -> Duration {
        self.down_after.unwrap_or(self.heartbeat * 12)
    }
}

impl Settings for Election {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("min", "The shortest silence; several heartbeats.", &mut self.min);
        v.leaf("max", "The longest; a new leader takes two to four times as long.", &mut self.max);
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
             A node that is not in it joins those that are. Once others have been promoted, list them too, on every node: a \
             node that has lost its data asks these. Empty: this node is a cluster of its own.",
            &mut self.initial,
        );
        v.leaf(
            "advertise",
            "Host by which the others and clients reach this node; empty: worked out.",
            &mut self.advertise,
        );
        v.leaf(
            "insecure",
            "Whether nodes may talk beyond loopback without TLS. This version has no mesh TLS: say true on a network you trust.",
            &mut self.insecure,
        );
        v.leaf(
            "heartbeat",
            "How often the leader makes itself heard and nodes ping each other; the same on every node.",
            &mut self.heartbeat,
        );
        v.section(
            "election",
            "How long a follower bears the leader's silence; the same on every node.",
            &mut self.election,
        );
        v.leaf(
            "down_after",
            "Silence after which a node is declared down; empty: 12 heartbeats.",
            &mut self.down_after,
        );
        v.leaf(
            "isolated_close",
            "When a node without quorum closes edges that cannot look elsewhere by themselves: a duration, never or always.",
            &mut self.isolated_close,
        );
        v.leaf(
            "suspend_grace",
            "How long the sessions of a node declared dead are kept for it to come back to.",
            &mut self.suspend_grace,
        );
        v.leaf("drain_grace", "How long a stopping node waits for what is in flight.", &mut self.drain_grace);
    }
}

impl Leaf for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is empty; a path is wanted".into()) } else { Ok(text.into()) }
    }

    fn to_yaml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Leaf for IsolatedClose {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(IsolatedClose::Never),
            "always" => Ok(IsolatedClose::Always),
            text => Duration::from_text(text)
                .map(IsolatedClose::After)
                .map_err(|why| format!("{why}, never or always")),
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
    fn from_text(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (name, addr) =
                    entry.split_once('=').ok_or_else(|| format!("{entry:?} is not name=host:port"))?;
                Ok(Member { name: name.to_owned(), addr: Addr::from_text(addr)? })
            })
            .collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Sequence(entries) => entries.iter().map(member).collect(),
            Value::String(text) => Self::from_text(text),
            _ => Err("is no list; write [{name: node-1, addr: \"host:30013\"}, ...]".into()),
        }
    }

    fn to_yaml(&self) -> String {
        let entry =
            |member: &Member| format!("{{name: {}, addr: \"{}\"}}", quoted(&member.name), member.addr);
        format!("[{}]", self.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}

fn member(value: &Value) -> Result<Member, String> {
    let block = value.as_mapping().ok_or("an entry is no {name, addr}")?;
    let part = |key: &str| {
        let value = block.get(key).ok_or_else(|| format!("an entry has no {key}"))?;
        scalar(value).map_err(|why| format!("{key} {why}"))
    };
    if let Some(key) = block.keys().filter_map(Value::as_str).find(|key| !["name", "addr"].contains(key)) {
        return Err(format!("an entry has an unknown key {key:?}; name and addr are known"));
    }
    Ok(Member { name: part("name")?, addr: Addr::from_text(&part("addr")?)? })
}
