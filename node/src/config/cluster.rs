//! The cluster that a node belongs to.

use std::path::PathBuf;
use std::time::Duration;

use serde_norway::Value;

use super::addr::Addr;
use super::setting::{Leaf, Settings, Visitor, quoted, scalar};

/// Who this node is, where it keeps its data and who founds the cluster with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// This node's name.
    pub name: String,
    /// The folder of its data.
    pub dir: PathBuf,
    /// The founders; empty: this node alone.
    pub initial: Vec<Member>,
    /// The host by which others reach this node.
    pub advertise: Option<String>,
    /// Whether the mesh may go beyond loopback without TLS.
    pub insecure: bool,
    /// What becomes of old-protocol edges of an isolated node.
    pub isolated_close: IsolatedClose,
    /// How long the rows of a dead node are kept for it to resume.
    pub suspend_grace: Duration,
    /// How long a node that is told to stop waits for what is in flight.
    pub drain_grace: Duration,
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
        Cluster {
            name: "node-1".into(),
            dir: "./limes-data".into(),
            initial: Vec::new(),
            advertise: None,
            insecure: false,
            isolated_close: IsolatedClose::After(Duration::from_secs(60)),
            suspend_grace: Duration::from_secs(30),
            drain_grace: Duration::from_secs(30),
        }
    }
}

impl Settings for Cluster {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("name", "This node's name, unique in the cluster and the same at each start.", &mut self.name);
        v.leaf("dir", "Folder of this node's data; in a file, relative to the file's folder.", &mut self.dir);
        v.leaf(
            "initial",
            "The 1, 3 or 5 nodes that found the cluster, the same list on each: [{name: node-1, addr: \"host:30013\"}, ...]. \
             A node that is not in it joins those that are. Empty: this node is a cluster of its own.",
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
