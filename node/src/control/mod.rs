//! `limes.v1`: what operators see of the cluster, on the control port of any node.

mod calls;
pub(crate) mod context;
pub(crate) mod reader;
mod rows;
mod sink;
pub(crate) mod status;
mod watch;

pub(crate) use context::Limes;
