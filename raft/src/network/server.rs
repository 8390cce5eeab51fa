//! Answering other members.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::client::{MESSAGE_MAX, WINDOW};
use super::proto::raft_server::{Raft, RaftServer};
use super::proto::{
    ChangeReply, ChangeRequest, FoundReply, FoundRequest, IdentifyReply, IdentifyRequest, JoinReply,
    JoinRequest, Packet, Position, ReadRequest,
};
use crate::bootstrap::Founding;
use crate::member::Member;
use crate::settings::SNAPSHOT_TIME;
use crate::types::{self, Data, Snapshot, SnapshotMeta, Vote};

/// Largest snapshot that is taken, in bytes.
const SNAPSHOT_MAX: usize = 4 << 30;

/// What the server answers from; the member comes once it has an identity.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) founding: Arc<Founding>,
    pub(crate) member: Arc<OnceLock<Arc<Member>>>,
    /// How often a silent connection is asked for a sign of life by the other side.
    pub(crate) alive: Duration,
}

/// Serves the connections that the mesh port hands over, until their sender is dropped.
pub(crate) async fn serve(service: Service, incoming: mpsc::Receiver<TcpStream>) {
    let silence = service.alive * 5;
    let server = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let sockets = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    let builder = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(silence))
        .http2_keepalive_timeout(Some(silence));
    if let Err(error) = { builder }.add_service(server).serve_with_incoming(sockets).await {
        tracing::error!(%error, "raft's server has stopped");
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    bincode::deserialize(body).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn answer(value: &impl Serialize) -> Result<Response<Packet>, Status> {
    let body = bincode::serialize(value).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Packet { body: body.into(), cluster: Bytes::new(), to: 0 }))
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl Service {
    /// The member, if the question is for its cluster.
    fn member(&self, cluster: &[u8]) -> Result<&Arc<Member>, Status> {
        let member = self.member.get().ok_or_else(|| Status::unavailable("this member is still starting"))?;
        if cluster == member.identity.cluster {
            Ok(member)
        } else {
            Err(Status::permission_denied("this node belongs to another cluster"))
        }
    }

    /// The raft that one of Raft's own messages is for, and the message. A member that came back
    /// under a new number lives where its old number did: were it to answer for that, a vote would
    /// be given twice, and a leader would see a log that went back.
    fn raft<T: DeserializeOwned>(&self, packet: &Packet) -> Result<(&types::Raft, T), Status> {
        let member = self.member(&packet.cluster)?;
        if packet.to != member.identity.node {
            return Err(Status::unavailable(format!("here is member {}", member.identity.node)));
        }
        Ok((&member.raft, decode(&packet.body)?))
    }
}

#[tonic::async_trait]
impl Raft for Service {
    async fn identify(&self, _: Request<IdentifyRequest>) -> Result<Response<IdentifyReply>, Status> {
        let mut reply = IdentifyReply { name: self.name.clone(), ..IdentifyReply::default() };
        if let Some(member) = self.member.get() {
            reply.cluster = Bytes::copy_from_slice(&member.identity.cluster);
            reply.node = member.identity.node;
            reply.made = member.shared.read(|tables| tables.cluster().is_some());
            if let Some((leader, addr)) = member.leader() {
                reply.leader = leader;
                reply.leader_addr = addr;
            }
        } else if let Some(identity) = self.founding.identity() {
            reply.cluster = Bytes::copy_from_slice(&identity.cluster);
            reply.node = identity.node;
        }
        Ok(Response::new(reply))
    }

    async fn found(&self, request: Request<FoundRequest>) -> Result<Response<FoundReply>, Status> {
        let FoundRequest { cluster, node } = request.into_inner();
        let cluster = cluster.as_ref().try_into().map_err(|_| Status::invalid_argument("no cluster id"))?;
        self.founding.found(cluster, node).map_err(Status::failed_precondition)?;
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
        let (raft, message) = self.raft(request.get_ref())?;
        answer(&raft.append_entries(message).await.map_err(failed)?)
    }

    async fn vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.raft(request.get_ref())?;
        answer(&raft.vote(message).await.map_err(failed)?)
    }

    async fn pre_vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.raft(request.get_ref())?;
        answer(&raft.pre_vote(message).await.map_err(failed)?)
    }

    async fn transfer_leader(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.raft(request.get_ref())?;
        answer(&raft.handle_transfer_leader(message).await.map_err(failed)?)
    }

    async fn snapshot(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packet>, Status> {
        let mut packets = request.into_inner();
        let first = packets.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let (raft, (vote, meta)): (_, (Vote, SnapshotMeta)) = self.raft(&first)?;
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
        let snapshot = Snapshot { meta, snapshot: Cursor::new(body.freeze()) };
        answer(&raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?)
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
