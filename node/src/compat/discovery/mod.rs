//! `controlplane.ClusterService` and `controlplane.Health`: where the reference's cluster clients
//! find nodes and edges. Read-only.

mod calls;
mod frontiers;
mod lists;
mod routes;

use super::reader::Reader;

pub(super) use routes::rest;

/// The directory.
pub(super) struct Discovery {
    reader: Reader,
}

impl Discovery {
    pub(super) fn new(reader: Reader) -> Self {
        Discovery { reader }
    }
}
