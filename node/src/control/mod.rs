//! The control plane: the operations on the cluster, and `limes.v1`, the gRPC service that offers them.
//!
//! [`operations`] is the one place that reads the tables for operators and changes the cluster on their
//! behalf. Each front end translates its requests to operations and their errors to its own: [`service`]
//! does so for `limes.v1`, `compat` for the reference's control plane and directory. [`grpc`] has what every
//! gRPC port offers: health, reflection, and REST on the same port. [`status`] serves the metrics port.

pub(crate) mod descriptors;
pub(crate) mod error;
pub(crate) mod grpc;
pub(crate) mod health;
pub(crate) mod operations;
mod pages;
pub(crate) mod reader;
mod rows;
pub(crate) mod service;
pub(crate) mod status;
mod watch;
