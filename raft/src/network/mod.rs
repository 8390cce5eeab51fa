//! RPCs between members: gRPC on the mesh port.
//!
//! Each peer has separate connections for heartbeats and votes, for the log, for snapshots, and for requests
//! (proposals and reads that are forwarded to the leader, and all that bootstrap and membership ask), so that
//! none of them delays another. This module knows the wire and the clients; the service that answers is
//! implemented above, in `replica`.

mod client;
mod message;
mod peer;
mod server;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
pub(crate) mod proto {
    tonic::include_proto!("limes.raft.v1");
}

pub(crate) use client::{Clients, RpcError};
pub(crate) use message::{AdminRequest, InvalidRequest, PeerIdentity, PeerInfo, nonce};
pub(crate) use peer::{BootNonces, Factory};
pub use server::Incoming;
pub(crate) use server::serve;
