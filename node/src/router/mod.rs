//! Routing of requests and streams: message types, the route of a request, selection among services, and
//! what this node knows about sessions anywhere.
//!
//! Start with [`message`], then [`resolve`]. [`topic_sink`] describes how to add a bridge to a message queue.

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
pub(crate) mod route;
pub(crate) mod select;
pub(crate) mod service_index;
mod shards;
pub(crate) mod stream_backlog;
pub(crate) mod stream_header;
pub(crate) mod streams;
mod task_handle;
pub(crate) mod topic_sink;
