//! Asking other members.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::proto::change_request::Verb;
use super::proto::raft_client::RaftClient;
use super::proto::{
    ChangeRequest, FoundRequest, IdentifyReply, IdentifyRequest, JoinRequest, Packet, ReadRequest,
};
use crate::config::{CONNECT_TIME, SNAPSHOT_TIME, Timing};
use crate::consensus::state_machine::Shared;
use crate::storage::codec::{DecodeError, Encode, decode, encode};
use crate::storage::member_cache::Known;
use crate::types::{Node, Snapshot, SnapshotData, TypeConfig, Vote};

/// Bytes of a snapshot in one packet.
const CHUNK: usize = 256 << 10;
/// Largest message that a member takes: a payload's bytes (2 MiB), or one entry, which is a batch.
pub(super) const MESSAGE_MAX: usize = 32 << 20;
/// A window that lets a payload pass without waiting for the receiver.
pub(super) const WINDOW: u32 = 8 << 20;

/// Why a question to another member has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    #[error("no answer in time")]
    Timeout,
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error("not an address: {0}")]
    Address(String),
    #[error("an answer without meaning: {0}")]
    Decode(#[from] DecodeError),
}

impl RpcError {
    /// Whether the question certainly was not heard.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            RpcError::Status(status) => status.code() == Code::Unavailable,
            RpcError::Address(_) => true,
            _ => false,
        }
    }
}

/// What a connection is for; each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Votes,
    Log,
    Snapshots,
    Asks,
}

/// Connections to members by address and lane: made once, remade by themselves.
#[derive(Clone)]
pub(crate) struct Clients {
    cluster: [u8; 16],
    timing: Timing,
    channels: Arc<Mutex<HashMap<(String, Lane), Channel>>>,
}

impl Clients {
    pub(crate) fn new(cluster: [u8; 16], timing: Timing) -> Self {
        Clients { cluster, timing, channels: Arc::default() }
    }

    /// A client of the member at an address.
    pub(crate) fn to(&self, addr: &str, lane: Lane) -> Result<Client, RpcError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (addr.to_owned(), lane);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{addr}"))
                    .map_err(|error| RpcError::Address(error.to_string()))?
                    .connect_timeout(CONNECT_TIME)
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .http2_keep_alive_interval(self.timing.alive())
                    .keep_alive_timeout(self.timing.alive())
                    .keep_alive_while_idle(true)
                    .tcp_nodelay(true);
                let channel = endpoint.connect_lazy();
                channels.insert(key, channel.clone());
                channel
            }
        };
        let raft = RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        Ok(Client { raft, cluster: Bytes::copy_from_slice(&self.cluster), timing: self.timing })
    }

    /// A client for questions.
    pub(crate) fn ask(&self, addr: &str) -> Result<Client, RpcError> {
        self.to(addr, Lane::Asks)
    }
}

/// A client of one member.
pub(crate) struct Client {
    raft: RaftClient<Channel>,
    cluster: Bytes,
    timing: Timing,
}

async fn limit<T>(
    time: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcError> {
    match timeout(time, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(RpcError::Timeout),
    }
}

impl Client {
    /// Who are you?
    pub(crate) async fn identify(&mut self) -> Result<IdentifyReply, RpcError> {
        self.know(0, "").await
    }

    /// Who are you, and what do you know of me?
    pub(crate) async fn know(&mut self, node: u64, name: &str) -> Result<IdentifyReply, RpcError> {
        let request = IdentifyRequest { cluster: self.cluster.clone(), node, name: name.into() };
        limit(self.timing.rpc(), self.raft.identify(request)).await
    }

    /// You are this founder.
    pub(crate) async fn found(&mut self, cluster: [u8; 16], node: u64) -> Result<(), RpcError> {
        let request = FoundRequest { cluster: Bytes::copy_from_slice(&cluster), node };
        limit(self.timing.rpc(), self.raft.found(request)).await.map(drop)
    }

    /// Let me in; gives my number.
    pub(crate) async fn join(&mut self, name: &str, mesh: &str, nonce: [u8; 16]) -> Result<u64, RpcError> {
        let request = JoinRequest {
            cluster: self.cluster.clone(),
            name: name.into(),
            mesh: mesh.into(),
            nonce: Bytes::copy_from_slice(&nonce),
        };
        Ok(limit(self.timing.append() * 2, self.raft.join(request)).await?.node)
    }

    /// Put this batch into the log; gives its index.
    pub(crate) async fn propose(&mut self, batch: Bytes) -> Result<u64, RpcError> {
        let packet = Packet { body: batch, cluster: self.cluster.clone(), ..Packet::default() };
        Ok(limit(self.timing.append(), self.raft.propose(packet)).await?.index)
    }

    /// What must a linearizable read wait for?
    pub(crate) async fn read_index(&mut self) -> Result<u64, RpcError> {
        let request = ReadRequest { cluster: self.cluster.clone() };
        Ok(limit(self.timing.rpc(), self.raft.read_index(request)).await?.index)
    }

    /// Promote, remove or hand over.
    pub(crate) async fn change(&mut self, verb: Verb, name: &str) -> Result<(), RpcError> {
        let request = ChangeRequest { cluster: self.cluster.clone(), verb: verb.into(), name: name.into() };
        limit(self.timing.change(), self.raft.change(request)).await.map(drop)
    }
}

/// Makes openraft's connections.
pub(crate) struct Factory {
    pub(crate) clients: Clients,
    pub(crate) me: u64,
    pub(crate) shared: Arc<Shared>,
    /// What was known at the start.
    pub(crate) known: Arc<Known>,
}

impl Factory {
    fn peer(&self, to: u64, node: &Node, append: Lane) -> Peer {
        let (clients, shared, known) = (self.clients.clone(), self.shared.clone(), self.known.clone());
        Peer { clients, me: self.me, shared, known, to, addr: node.addr.clone(), append }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, to: u64, node: &Node) -> Peer {
        self.peer(to, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, to: u64, node: &Node) -> Peer {
        self.peer(to, node, Lane::Votes)
    }
}

/// openraft's view of another member.
pub(crate) struct Peer {
    clients: Clients,
    me: u64,
    shared: Arc<Shared>,
    known: Arc<Known>,
    to: u64,
    addr: String,
    append: Lane,
}

/// Which of Raft's own messages it is.
#[derive(Clone, Copy)]
enum Message {
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Peer {
    fn packet(&self, body: Bytes) -> Packet {
        Packet {
            body,
            cluster: Bytes::copy_from_slice(&self.clients.cluster),
            to: self.to,
            from: self.me,
            boot: self.shared.read(|tables| self.known.boot(tables, self.to)),
            ..Packet::default()
        }
    }

    async fn send<Q, A>(
        &self,
        message: Message,
        request: &Q,
        time: Duration,
    ) -> Result<A, RPCError<TypeConfig>>
    where
        Q: Encode,
        A: Encode,
    {
        self.exchange(message, request, time).await.map_err(|error| {
            let any = AnyError::error(error.to_string());
            if error.is_unreachable() {
                RPCError::Unreachable(Unreachable::new(&any))
            } else {
                RPCError::Network(NetworkError::new(&any))
            }
        })
    }

    async fn exchange<Q, A>(&self, message: Message, request: &Q, time: Duration) -> Result<A, RpcError>
    where
        Q: Encode,
        A: Encode,
    {
        let lane = if matches!(message, Message::Append) { self.append } else { Lane::Votes };
        let mut client = self.clients.to(&self.addr, lane)?;
        let packet = self.packet(encode(request));
        let raft = &mut client.raft;
        let answer = match message {
            Message::Append => limit(time, raft.append(packet)).await,
            Message::Vote => limit(time, raft.vote(packet)).await,
            Message::PreVote => limit(time, raft.pre_vote(packet)).await,
            Message::TransferLeader => limit(time, raft.transfer_leader(packet)).await,
        }?;
        Ok(decode(answer.body)?)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // The limit that comes with it is a heartbeat's: too short for a disk.
        let time = if self.append == Lane::Log { self.clients.timing.append() } else { option.hard_ttl() };
        self.send(Message::Append, &rpc, time).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.send(Message::Vote, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.send(Message::PreVote, &rpc, option.hard_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.send(Message::TransferLeader, &rpc, self.clients.timing.rpc()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let unreachable = |error: RpcError| {
            let any = AnyError::error(error.to_string());
            StreamingError::Unreachable(Unreachable::new(&any))
        };
        let send = async {
            let mut client = self.clients.to(&self.addr, Lane::Snapshots)?;
            let body = snapshot.snapshot.into_inner();
            let mut head = BytesMut::new();
            vote.put(&mut head);
            snapshot.meta.put(&mut head);
            let mut head = self.packet(head.freeze());
            (head.checksum, head.bytes) = (crc32c::crc32c(&body), body.len() as u64);
            let packets = std::iter::once(head).chain(chunks(body));
            let answer = limit(SNAPSHOT_TIME, client.raft.snapshot(futures::stream::iter(packets))).await?;
            Ok::<_, RpcError>(decode(answer.body)?)
        };
        tokio::select! {
            answer = send => answer.map_err(unreachable),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

/// A snapshot's bytes in packets, none of them copied.
fn chunks(mut body: Bytes) -> impl Iterator<Item = Packet> {
    std::iter::from_fn(move || {
        let chunk = body.split_to(CHUNK.min(body.len()));
        (!chunk.is_empty()).then(|| Packet { body: chunk, ..Packet::default() })
    })
}
