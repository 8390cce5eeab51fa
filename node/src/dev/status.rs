//! Queries of a node's metrics port.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::http;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A node's own view, from `/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// The leader that it follows or is.
    pub leader: Option<String>,
    /// How many members vote.
    pub voters: usize,
    /// The other fields.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// What the nodes of a ready cluster agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The leader's name.
    pub leader: String,
    /// How many members vote.
    pub voters: usize,
}

/// A node's own view; `None` if it does not answer with a status.
pub(super) async fn query(metrics: &str) -> Option<Status> {
    let answer = http::get(metrics, "/status", TIMEOUT).await.ok()?;
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).ok())?
}

/// Whether a node reports that it is ready.
pub(super) async fn is_ready(metrics: &str) -> bool {
    http::get(metrics, "/readyz", TIMEOUT).await.is_ok_and(|answer| answer.status == 200)
}

/// Whether a node answers at all.
pub(super) async fn is_alive(metrics: &str) -> bool {
    http::get(metrics, "/healthz", TIMEOUT).await.is_ok()
}

/// The leader that most of them name; `None` on a tie.
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
    fn leader_is_the_one_that_most_nodes_name() {
        assert_eq!(leader(&statuses(&[None, Some("node-2"), Some("node-2")])), Some("node-2"));
        assert_eq!(leader(&statuses(&[Some("node-1"), Some("node-2"), Some("node-2")])), Some("node-2"));
    }

    #[test]
    fn tie_has_no_leader() {
        assert_eq!(leader(&statuses(&[Some("node-1"), Some("node-2")])), None);
    }

    #[test]
    fn nodes_without_leader_have_none() {
        assert_eq!(leader(&statuses(&[None])), None);
    }
}
