//! Requests to other members.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::message::{AdminRequest, PeerInfo};
use super::proto::raft_client::RaftClient;
use super::proto::{FoundRequest, IdentifyRequest, JoinRequest, Packet, ReadRequest};
use crate::config::{CONNECT_TIME, Timing};
use crate::storage::codec::DecodeError;

/// Bytes of the largest message: a payload of 2 MiB, or one larger entry, which is a batch.
pub(super) const MESSAGE_MAX: usize = 32 << 20;
/// The HTTP/2 window in bytes: large enough for a payload to pass without waiting for the receiver.
pub(super) const WINDOW: u32 = 8 << 20;

/// Why a request to another member failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// No answer within the limit; the request may have been executed.
    #[error("no answer in time")]
    Timeout,
    /// The member refused the request, or could not be reached.
    #[error("{}", .0.message())]
    Status(#[from] Status),
    /// The address cannot be parsed.
    #[error("invalid address: {0}")]
    Address(#[source] tonic::transport::Error),
    /// The answer cannot be decoded.
    #[error("invalid answer: {0}")]
    Decode(#[from] DecodeError),
}

impl RpcError {
    /// Whether the request was certainly not executed.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            RpcError::Status(status) => status.code() == Code::Unavailable,
            RpcError::Address(_) => true,
            RpcError::Timeout | RpcError::Decode(_) => false,
        }
    }
}

/// What a connection is for. Each purpose has its own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Heartbeats, votes and leader transfers.
    Votes,
    Log,
    Snapshots,
    Requests,
}

/// Connections to members, by address and purpose. A connection is set up at its first use and
/// re-established by itself. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Clients {
    /// The cluster that requests are meant for; `None` before this node belongs to one.
    cluster: Option<[u8; 16]>,
    pub(super) timing: Timing,
    channels: Arc<Mutex<HashMap<(String, Purpose), Channel>>>,
}

impl Clients {
    pub(crate) fn new(cluster: Option<[u8; 16]>, timing: Timing) -> Self {
        Clients { cluster, timing, channels: Arc::default() }
    }

    /// The cluster id as the wire has it: zeros where there is none.
    pub(super) fn cluster(&self) -> Bytes {
        Bytes::copy_from_slice(&self.cluster.unwrap_or_default())
    }

    /// A client of the member at an address. Does not connect yet.
    ///
    /// # Errors
    /// [`RpcError::Address`].
    pub(super) fn client(&self, addr: &str, purpose: Purpose) -> Result<RaftClient<Channel>, RpcError> {
        let mut channels = self.channels.lock();
        let key = (addr.to_owned(), purpose);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{addr}"))
                    .map_err(RpcError::Address)?
                    .connect_timeout(CONNECT_TIME)
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .http2_keep_alive_interval(self.timing.keep_alive())
                    .keep_alive_timeout(self.timing.keep_alive())
                    .keep_alive_while_idle(true)
                    .tcp_nodelay(true);
                let channel = endpoint.connect_lazy();
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX))
    }

    /// A client for requests to the member at an address.
    ///
    /// # Errors
    /// [`RpcError::Address`].
    pub(crate) fn requests(&self, addr: &str) -> Result<Client, RpcError> {
        let raft = self.client(addr, Purpose::Requests)?;
        Ok(Client { raft, cluster: self.cluster(), timing: self.timing })
    }
}

/// A client for requests to one member.
///
/// Every request has a limit ([`RpcError::Timeout`]). A request that is dropped may be executed anyway.
pub(crate) struct Client {
    raft: RaftClient<Channel>,
    cluster: Bytes,
    timing: Timing,
}

/// Waits for an answer within a limit.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcError> {
    match timeout(limit, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(RpcError::Timeout),
    }
}

impl Client {
    /// Asks the node who it is. `me` is the number and the name of this member, if it has them: then the
    /// answer also says what the node knows of it.
    pub(crate) async fn identify(&mut self, me: Option<(u64, &str)>) -> Result<PeerInfo, RpcError> {
        let (node, name) = me.unwrap_or((0, ""));
        let request = IdentifyRequest { cluster: self.cluster.clone(), node, name: name.into() };
        Ok(within(self.timing.rpc(), self.raft.identify(request)).await?.into())
    }

    /// Gives a founder its number in a new cluster.
    pub(crate) async fn found(&mut self, cluster: [u8; 16], node: u64) -> Result<(), RpcError> {
        let request = FoundRequest { cluster: Bytes::copy_from_slice(&cluster), node };
        within(self.timing.rpc(), self.raft.found(request)).await.map(drop)
    }

    /// Asks the leader to add this node to the cluster; returns its number.
    pub(crate) async fn join(&mut self, name: &str, mesh: &str, nonce: [u8; 16]) -> Result<u64, RpcError> {
        let request = JoinRequest {
            cluster: self.cluster.clone(),
            name: name.into(),
            mesh: mesh.into(),
            nonce: Bytes::copy_from_slice(&nonce),
        };
        Ok(within(self.timing.append() * 2, self.raft.join(request)).await?.node)
    }

    /// Asks the leader to append a batch to the log; returns its index.
    pub(crate) async fn propose(&mut self, batch: Bytes) -> Result<u64, RpcError> {
        let packet = Packet { body: batch, cluster: self.cluster.clone(), ..Packet::default() };
        Ok(within(self.timing.append(), self.raft.propose(packet)).await?.index)
    }

    /// Asks the leader for the index that a linearizable read must wait for.
    pub(crate) async fn read_index(&mut self) -> Result<u64, RpcError> {
        let request = ReadRequest { cluster: self.cluster.clone() };
        Ok(within(self.timing.rpc(), self.raft.read_index(request)).await?.index)
    }

    /// Asks the leader for an operation on the members.
    pub(crate) async fn change(&mut self, request: &AdminRequest) -> Result<(), RpcError> {
        let request = request.to_wire(self.cluster.clone());
        within(self.timing.change(), self.raft.change(request)).await.map(drop)
    }
}
