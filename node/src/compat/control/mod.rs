//! `controlplane.ControlPlane`: lists the edges and services of the whole cluster, and kicks them.

mod edges;
mod filter;
mod routes;
mod service;
mod services;

pub(crate) use routes::rest;
pub(crate) use service::Control;
