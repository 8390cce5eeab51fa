//! What members say to each other: gRPC on the mesh port, with a connection of its own for
//! heartbeats and votes, for the log, for snapshots, and for forwarded proposals and reads.

mod client;
mod server;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
mod proto {
    tonic::include_proto!("limes.raft.v1");
}

pub(crate) use client::{Clients, Factory, RpcError};
pub(crate) use proto::change_request::Verb;
pub(crate) use proto::{IdentifyReply, Member as Acquainted};
pub use server::Incoming;
pub(crate) use server::serve;
