//! `controlplane.ClusterService` and `controlplane.Health`: the directory in which cluster clients of the
//! reference find nodes and edges. Read-only.

mod frontiers;
mod lists;
mod routes;
mod service;
mod upstream;

pub(crate) use routes::rest;
pub(crate) use service::Discovery;
