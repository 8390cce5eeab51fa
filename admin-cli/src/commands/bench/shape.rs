//! The options of a load.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{Origin, bytes, duration};

/// Size, direction and length of a load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Folder of a cluster that `limes dev` runs on this machine: the processes of its nodes are measured.
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// Which side begins an operation: edges, or the service.
    #[arg(long, value_enum, default_value = "edge")]
    pub(super) from: Origin,
    /// Connected edges.
    #[arg(long, default_value_t = 16)]
    pub(super) edges: usize,
    /// Requests, streams or connects in flight, over all edges.
    #[arg(long, default_value_t = 64)]
    pub(super) in_flight: usize,
    /// Bytes of a payload, or of one write to a stream: 64, 16KiB.
    #[arg(long, value_parser = bytes)]
    pub(super) size: Option<usize>,
    /// Length of the run: 5s, 500ms. A warm-up of a fifth of it comes first and is not counted.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub(super) duration: Duration,
    /// The edges' node; 2 is short for node-2. By default the first.
    #[arg(long, value_name = "NODE")]
    pub(super) edge_node: Option<String>,
    /// The service's node; by default that of the edges.
    #[arg(long, value_name = "NODE")]
    pub(super) service_node: Option<String>,
}

impl Shape {
    /// How many operations run at once: at least one.
    pub(super) fn workers(&self) -> usize {
        self.in_flight.max(1)
    }
}
