//! openraft's view of the other members.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};

use super::client::{Clients, Purpose, RpcError, within};
use super::proto::Packet;
use crate::config::SNAPSHOT_TIME;
use crate::storage::codec::{Encode, decode, encode};
use crate::types::{Node, Snapshot, SnapshotData, TypeConfig, Vote};

/// Bytes of a snapshot in one packet.
const CHUNK: usize = 256 << 10;

/// The newest boot of each member that this member knows of.
pub(crate) trait BootNonces: Send + Sync {
    /// The boot nonce of a member; `None` if it is not known.
    fn newest_boot(&self, node: u64) -> Option<[u8; 16]>;
}

/// Makes the clients that openraft asks for.
pub(crate) struct Factory {
    pub(crate) clients: Clients,
    /// This member's number.
    pub(crate) me: u64,
    pub(crate) boots: Arc<dyn BootNonces>,
}

impl Factory {
    fn peer(&self, to: u64, node: &Node, append: Purpose) -> Peer {
        let (clients, boots) = (self.clients.clone(), self.boots.clone());
        Peer { clients, me: self.me, boots, to, addr: node.addr.clone(), append }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, to: u64, node: &Node) -> Peer {
        self.peer(to, node, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, to: u64, node: &Node) -> Peer {
        self.peer(to, node, Purpose::Votes)
    }
}

/// One other member.
pub(crate) struct Peer {
    clients: Clients,
    me: u64,
    boots: Arc<dyn BootNonces>,
    to: u64,
    addr: String,
    /// The connection of appends: the log's, or that of heartbeats.
    append: Purpose,
}

/// The kinds of Raft's own messages.
#[derive(Clone, Copy)]
enum Message {
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Peer {
    fn packet(&self, body: Bytes) -> Packet {
        let boot = self.boots.newest_boot(self.to);
        Packet {
            body,
            cluster: self.clients.cluster(),
            to: self.to,
            from: self.me,
            boot: boot.map_or_else(Bytes::new, |boot| Bytes::copy_from_slice(&boot)),
            ..Packet::default()
        }
    }

    async fn send<Q, A>(
        &self,
        message: Message,
        request: &Q,
        limit: Duration,
    ) -> Result<A, RPCError<TypeConfig>>
    where
        Q: Encode,
        A: Encode,
    {
        self.exchange(message, request, limit).await.map_err(|error| {
            let any = AnyError::error(error.to_string());
            if error.is_unreachable() {
                RPCError::Unreachable(Unreachable::new(&any))
            } else {
                RPCError::Network(NetworkError::new(&any))
            }
        })
    }

    async fn exchange<Q, A>(&self, message: Message, request: &Q, limit: Duration) -> Result<A, RpcError>
    where
        Q: Encode,
        A: Encode,
    {
        let purpose = if matches!(message, Message::Append) { self.append } else { Purpose::Votes };
        let mut raft = self.clients.client(&self.addr, purpose)?;
        let packet = self.packet(encode(request));
        let answer = match message {
            Message::Append => within(limit, raft.append(packet)).await,
            Message::Vote => within(limit, raft.vote(packet)).await,
            Message::PreVote => within(limit, raft.pre_vote(packet)).await,
            Message::TransferLeader => within(limit, raft.transfer_leader(packet)).await,
        }?;
        Ok(decode(answer.body)?)
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, RpcError> {
        let mut raft = self.clients.client(&self.addr, Purpose::Snapshots)?;
        let body = snapshot.snapshot.into_inner();
        let mut head = BytesMut::new();
        vote.put(&mut head);
        snapshot.meta.put(&mut head);
        let mut head = self.packet(head.freeze());
        (head.checksum, head.bytes) = (crc32c::crc32c(&body), body.len() as u64);
        let packets = std::iter::once(head).chain(chunks(body));
        let answer = within(SNAPSHOT_TIME, raft.snapshot(futures::stream::iter(packets))).await?;
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
        // openraft's limit is a heartbeat's interval: too short for an append, which waits for a disk.
        let limit =
            if self.append == Purpose::Log { self.clients.timing.append() } else { option.hard_ttl() };
        self.send(Message::Append, &rpc, limit).await
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
        // Any failure counts as unreachable: openraft backs off then, and retries other errors at once.
        let unreachable = |error: RpcError| {
            let any = AnyError::error(error.to_string());
            StreamingError::Unreachable(Unreachable::new(&any))
        };
        tokio::select! {
            answer = self.send_snapshot(vote, snapshot) => answer.map_err(unreachable),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

/// The bytes of a snapshot in packets, without copying them.
fn chunks(mut body: Bytes) -> impl Iterator<Item = Packet> {
    std::iter::from_fn(move || {
        let chunk = body.split_to(CHUNK.min(body.len()));
        (!chunk.is_empty()).then(|| Packet { body: chunk, ..Packet::default() })
    })
}
