//! `controlplane.ControlPlane`: lists the edges and services of the whole cluster, and kicks them.

mod edges;
mod filter;
mod routes;
mod service;
mod services;

pub(super) use routes::rest;
pub(super) use service::Control;
