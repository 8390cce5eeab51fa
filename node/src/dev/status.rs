//! What a node says about itself on its metrics port.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::http;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A node's own view, from `/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// The leader that it follows or is.
    pub leader: Option<String>,
    /// How many members vote.
    pub voters: usize,
    /// Everything else that it says.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// A cluster whose running nodes are ready and agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The leader's name.
    pub leader: String,
    /// How many members vote.
    pub voters: usize,
}

/// Asks a node how it is; nothing if it does not answer sensibly.
pub(super) async fn ask(metrics: &str) -> Option<Status> {
    let answer = http::get(metrics, "/status", PATIENCE).await.ok()?;
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).ok())?
}

/// Whether a node calls itself ready.
pub(super) async fn is_ready(metrics: &str) -> bool {
    http::get(metrics, "/readyz", PATIENCE).await.is_ok_and(|answer| answer.status == 200)
}

/// Whether a node answers at all.
pub(super) async fn is_alive(metrics: &str) -> bool {
    http::get(metrics, "/healthz", PATIENCE).await.is_ok()
}

/// The leader that most of them name, if no other is named as often.
pub(super) fn leader(statuses: &[Status]) -> Option<&str> {
    let mut votes = BTreeMap::new();
    for leader in statuses.iter().filter_map(|status| status.leader.as_deref()) {
        *votes.entry(leader).or_insert(0) += 1;
    }
    let most = *votes.values().max()?;
    let mut first = votes.into_iter().filter(|(_, count)| *count == most);
    let (leader, _) = first.next()?;
    first.next().is_none().then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(leaders: &[Option<&str>]) -> Vec<Status> {
        let status = |leader: &Option<&str>| Status {
            node: "node-1".into(),
            leader: leader.map(str::to_owned),
            voters: 3,
            more: BTreeMap::new(),
        };
        leaders.iter().map(status).collect()
    }

    #[test]
    fn a_leader_needs_more_names_than_any_other() {
        assert_eq!(leader(&statuses(&[None, Some("node-2"), Some("node-2")])), Some("node-2"));
        assert_eq!(leader(&statuses(&[Some("node-1"), Some("node-2"), Some("node-2")])), Some("node-2"));
        assert_eq!(leader(&statuses(&[Some("node-1"), Some("node-2")])), None);
        assert_eq!(leader(&statuses(&[None])), None);
    }
}
