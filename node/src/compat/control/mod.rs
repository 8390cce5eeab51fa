//! `controlplane.ControlPlane`: edges and services of the whole cluster, to look at and to kick.

mod calls;
mod edges;
mod kick;
mod routes;
mod services;

use std::sync::Arc;

use crate::control::reader::Reader;
use crate::router::edge_methods::EdgeMethods;
use crate::router::peers::PeerTable;

pub(super) use routes::rest;

/// The control plane.
pub(super) struct Control {
    reader: Reader,
    /// The methods of edges on this node.
    edge_methods: Arc<EdgeMethods>,
    /// The other nodes, which know those of theirs.
    peers: Arc<PeerTable>,
    /// Nobody may be kicked through this listener.
    read_only: bool,
}

impl Control {
    pub(super) fn new(
        reader: Reader,
        edge_methods: Arc<EdgeMethods>,
        peers: Arc<PeerTable>,
        read_only: bool,
    ) -> Self {
        Control { reader, edge_methods, peers, read_only }
    }
}

/// The seconds of a row's milliseconds.
fn seconds(at_ms: u64) -> i64 {
    i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX)
}

/// A filter that was given: an empty one is none.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Whether `part` is somewhere in `text`, ASCII letters of either case alike.
fn contains(text: &str, part: &str) -> bool {
    text.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}
