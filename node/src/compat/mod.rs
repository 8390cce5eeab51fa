//! The reference's APIs for clients and scripts beside the data plane: its control plane and its
//! directory, each gRPC and REST on one port. Any node answers for the whole cluster.
//!
//! [`control`] and [`discovery`] translate requests to operations of [`crate::control`] and to reads of the
//! tables behind a read barrier. [`rest`] offers their gRPC methods over HTTP: by the descriptors of
//! `limes-api` it decodes a query string as a request and writes the answer as JSON.

pub(crate) mod control;
pub(crate) mod discovery;
mod list;
mod rest;
