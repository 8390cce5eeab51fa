//! Answering other members.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::client::{MESSAGE_MAX, WINDOW};
use super::proto::raft_server::{Raft, RaftServer};
use super::proto::{
    ChangeReply, ChangeRequest, FoundReply, FoundRequest, IdentifyReply, IdentifyRequest, JoinReply,
    JoinRequest, Member as Acquainted, Packet, Position, ReadRequest,
};
use crate::bootstrap::pre_boot::Door;
use crate::config::SNAPSHOT_TIME;
use crate::consensus::member::Member;
use crate::storage::codec::{Encode, decode, encode};
use crate::storage::member_cache::{Acquaintance, Known};
use crate::types::{self, Data, Snapshot, SnapshotMeta, Vote};
use limes_routing::NodeId;

/// Largest snapshot that is taken, in bytes.
const SNAPSHOT_MAX: usize = 4 << 30;
/// Requests at once on a connection. A member has a few on each of its lanes; a stranger could leave any number
/// unfinished, each with a part of a message.
const REQUESTS: u32 = 64;

/// A connection that the mesh port hands over.
pub trait Incoming: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static {}

impl<IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static> Incoming for IO {}

/// What the server answers from.
struct Service {
    name: String,
    door: Arc<Door>,
}

/// Serves the connections that the mesh port hands over, until their sender is dropped.
/// `alive` is how often a silent connection is asked for a sign of life by the other side.
pub(crate) async fn serve<IO: Incoming>(
    name: String,
    door: Arc<Door>,
    alive: Duration,
    incoming: mpsc::Receiver<IO>,
) {
    let silence = alive * 5;
    let server = RaftServer::new(Service { name, door })
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let sockets = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    let builder = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(REQUESTS)
        // No member waits for longer.
        .timeout(SNAPSHOT_TIME)
        .http2_keepalive_interval(Some(silence))
        .http2_keepalive_timeout(Some(silence));
    if let Err(error) = { builder }.add_service(server).serve_with_incoming(sockets).await {
        tracing::error!(%error, "raft's server has stopped");
    }
}

fn answer(value: &impl Encode) -> Result<Response<Packet>, Status> {
    Ok(Response::new(Packet { body: encode(value), ..Packet::default() }))
}

fn meaningless(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl Service {
    /// A member that has not read its disk says nothing of itself: "no cluster" would be taken for an answer.
    fn has_read(&self) -> Result<(), Status> {
        let ready = self.door.has_read();
        ready.then_some(()).ok_or_else(|| Status::unavailable("this member is still reading its disk"))
    }

    /// The member, if the question is for its cluster.
    fn member(&self, cluster: &[u8]) -> Result<&Arc<Member>, Status> {
        let member =
            self.door.member().ok_or_else(|| Status::unavailable("this member is still starting"))?;
        if cluster == member.identity.cluster {
            Ok(member)
        } else {
            Err(Status::permission_denied("this node belongs to another cluster"))
        }
    }

    /// The member that one of Raft's own messages is for. One that came back under a new number lives
    /// where its old number did: were it to answer for that, a vote would be given twice, and a leader
    /// would see a log that went back. The same holds for an old copy of a member's directory.
    fn addressed(&self, packet: &Packet) -> Result<&Arc<Member>, Status> {
        let member = self.member(&packet.cluster)?;
        if packet.to != member.identity.node {
            return Err(Status::unavailable(format!("here is member {}", member.identity.node)));
        }
        if let Ok(boot) = <[u8; 16]>::try_from(packet.boot.as_ref())
            && !member.identity.has_lived(boot)
        {
            member.outdated.send_replace(true);
            return Err(Status::unavailable("this member's directory is an old copy"));
        }
        Ok(member)
    }

    /// As [`Service::addressed`], with the message.
    fn raft<T: Encode>(&self, packet: Packet) -> Result<(&types::Raft, T), Status> {
        let member = self.addressed(&packet)?;
        Ok((&member.raft, decode(packet.body).map_err(meaningless)?))
    }

    /// As [`Service::raft`], for whoever asks for a vote: a member that was removed gets none.
    fn candidate<T: Encode>(&self, packet: Packet) -> Result<(&types::Raft, T), Status> {
        let member = self.addressed(&packet)?;
        let (from, node) = (packet.from, NodeId(packet.from));
        let removed = member.shared.read(|tables| {
            tables.cluster().is_some()
                && tables.revision().0 >= from
                && tables.members().all(|member| member.node != node)
        });
        if removed {
            return Err(Status::permission_denied(format!("member {from} was removed from the cluster")));
        }
        self.raft(packet)
    }
}

fn acquainted(member: Acquaintance) -> Acquainted {
    let Acquaintance { node, name, mesh, voter, boot } = member;
    Acquainted { node, name, mesh, voter, boot }
}

#[tonic::async_trait]
impl Raft for Service {
    async fn identify(&self, request: Request<IdentifyRequest>) -> Result<Response<IdentifyReply>, Status> {
        let IdentifyRequest { cluster, node, .. } = request.into_inner();
        self.has_read()?;
        let mut reply = IdentifyReply { name: self.name.clone(), ..IdentifyReply::default() };
        let known = if let Some(member) = self.door.member() {
            reply.cluster = Bytes::copy_from_slice(&member.identity.cluster);
            reply.node = member.identity.node;
            if let Some((leader, addr)) = member.leader() {
                reply.leader = leader;
                reply.leader_addr = addr;
            }
            if cluster == reply.cluster {
                reply.acknowledged = member.acknowledged_by(node).map_or(0, |index| index + 1);
            }
            reply.unused = reply.leader == 0 && !member.raft.is_initialized().await.unwrap_or(true);
            member.shared.read(Known::of)
        } else if let Some(identity) = self.door.identity() {
            reply.cluster = Bytes::copy_from_slice(&identity.cluster);
            reply.node = identity.node;
            reply.unused = self.door.is_unused();
            self.door.known()
        } else {
            reply.lost = self.door.has_lost();
            Known::default()
        };
        reply.made = known.made;
        reply.revision = known.revision;
        reply.members = known.members.into_iter().map(acquainted).collect();
        Ok(Response::new(reply))
    }

    async fn found(&self, request: Request<FoundRequest>) -> Result<Response<FoundReply>, Status> {
        let FoundRequest { cluster, node } = request.into_inner();
        let cluster = cluster.as_ref().try_into().map_err(|_| Status::invalid_argument("no cluster id"))?;
        self.has_read()?;
        self.door.found(cluster, node).map_err(Status::failed_precondition)?;
        Ok(Response::new(FoundReply {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let JoinRequest { cluster, name, mesh, nonce } = request.into_inner();
        let member = self.member(&cluster)?;
        let nonce = nonce.as_ref().try_into().map_err(|_| Status::invalid_argument("no nonce"))?;
        let node = member.admit(&name, &mesh, nonce).await.map_err(Status::unavailable)?;
        Ok(Response::new(JoinReply { node }))
    }

    async fn append(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.raft(request.into_inner())?;
        answer(&raft.append_entries(message).await.map_err(failed)?)
    }

    async fn vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.candidate(request.into_inner())?;
        answer(&raft.vote(message).await.map_err(failed)?)
    }

    async fn pre_vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.candidate(request.into_inner())?;
        answer(&raft.pre_vote(message).await.map_err(failed)?)
    }

    async fn transfer_leader(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.raft(request.into_inner())?;
        answer(&raft.handle_transfer_leader(message).await.map_err(failed)?)
    }

    async fn snapshot(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packet>, Status> {
        let mut packets = request.into_inner();
        let first = packets.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let member = self.addressed(&first)?;
        let mut head = first.body;
        let vote = Vote::get(&mut head).map_err(meaningless)?;
        let meta: SnapshotMeta = decode(head).map_err(meaningless)?;
        let mut body = BytesMut::new();
        let collect = async {
            while let Some(packet) = packets.message().await? {
                if body.len() + packet.body.len() > SNAPSHOT_MAX {
                    return Err(Status::resource_exhausted("a snapshot larger than 4 GiB"));
                }
                body.extend_from_slice(&packet.body);
            }
            Ok(())
        };
        tokio::time::timeout(SNAPSHOT_TIME, collect)
            .await
            .map_err(|_| Status::deadline_exceeded("the snapshot took too long"))??;
        let body = body.freeze();
        if body.len() as u64 != first.bytes || crc32c::crc32c(&body) != first.checksum {
            tracing::warn!(
                from = first.from,
                bytes = body.len(),
                "a snapshot came damaged: it is refused, and will be sent again"
            );
            return Err(Status::data_loss("the snapshot came damaged"));
        }
        let snapshot = Snapshot { meta, snapshot: Cursor::new(body) };
        answer(&member.raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?)
    }

    async fn propose(&self, request: Request<Packet>) -> Result<Response<Position>, Status> {
        let Packet { body, cluster, .. } = request.into_inner();
        let member = self.member(&cluster)?;
        let written =
            tokio::time::timeout(member.timing.append(), member.raft.client_write(Data(body))).await;
        let written = written.map_err(|_| Status::deadline_exceeded("no quorum"))?;
        let written = written.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(Position { index: written.log_id.index }))
    }

    async fn read_index(&self, request: Request<ReadRequest>) -> Result<Response<Position>, Status> {
        let member = self.member(&request.into_inner().cluster)?;
        let index = member.read_index_here().await.map_err(Status::failed_precondition)?;
        Ok(Response::new(Position { index }))
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<ChangeReply>, Status> {
        let request = request.into_inner();
        let member = self.member(&request.cluster)?;
        member.change(request.verb(), &request.name).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(ChangeReply {}))
    }
}
