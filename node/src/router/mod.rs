//! Routing of requests and streams: message types, the route of a request, selection among services, and
//! what this node knows about sessions anywhere.

mod address;
mod command;
pub(crate) mod context;
pub(crate) mod edge_methods;
pub(crate) mod edge_routes;
pub(crate) mod geminio_stream;
pub(crate) mod grace;
pub(crate) mod message;
pub(crate) mod ordering;
mod outcome;
pub(crate) mod peers;
pub(crate) mod registry;
pub(crate) mod resolve;
pub(crate) mod select;
pub(crate) mod service_index;
mod shards;
pub(crate) mod stream_backlog;
pub(crate) mod stream_header;
pub(crate) mod streams;
