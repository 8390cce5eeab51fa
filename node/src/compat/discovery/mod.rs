//! `controlplane.ClusterService` and `controlplane.Health`: where the reference's cluster clients
//! find nodes and edges. Read-only.

mod calls;
mod frontiers;
mod lists;
mod routes;
mod upstream;

use std::sync::Arc;

use crate::config::Addr;
use crate::control::reader::Reader;
use crate::router::context::Router;
use upstream::Upstream;

pub(super) use routes::rest;

/// The directory.
pub(super) struct Discovery {
    reader: Reader,
    /// Knows which edges are expected to reconnect.
    router: Arc<Router>,
    /// The reference's directory, while both systems run.
    upstream: Option<Upstream>,
}

impl Discovery {
    /// Within a runtime only.
    ///
    /// # Errors
    /// The address of the old directory is none.
    pub(super) fn new(
        reader: Reader,
        router: Arc<Router>,
        upstream: Option<&Addr>,
    ) -> Result<Self, tonic::transport::Error> {
        let upstream = upstream.map(Upstream::new).transpose()?;
        Ok(Discovery { reader, router, upstream })
    }
}
