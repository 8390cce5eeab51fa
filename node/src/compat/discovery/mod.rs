//! `controlplane.ClusterService` and `controlplane.Health`: where the reference's cluster clients
//! find nodes and edges. Read-only.

mod calls;
mod frontiers;
mod lists;
mod routes;
mod upstream;

use crate::control::reader::Reader;
use upstream::Upstream;

pub(super) use routes::rest;

/// The directory.
pub(super) struct Discovery {
    reader: Reader,
    /// The reference's directory, while both systems run.
    upstream: Option<Upstream>,
}

impl Discovery {
    /// Within a runtime only.
    ///
    /// # Errors
    /// The address of the old directory is none.
    pub(super) fn new(reader: Reader) -> Result<Self, tonic::transport::Error> {
        let upstream = reader.node().config.discovery.upstream.as_ref().map(Upstream::new).transpose()?;
        Ok(Discovery { reader, upstream })
    }
}
