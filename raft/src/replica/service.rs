//! The service that answers the RPCs of other members, before and after Raft runs.

use std::fmt::Display;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use limes_routing::NodeId;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::bootstrap::PreBoot;
use crate::config::SNAPSHOT_TIME;
use crate::consensus::member::Member;
use crate::consensus::state_machine;
use crate::membership::{admin, admit};
use crate::network::proto::raft_server::Raft;
use crate::network::proto::{
    ChangeReply, ChangeRequest, FoundReply, FoundRequest, IdentifyReply, IdentifyRequest, JoinReply,
    JoinRequest, Packet, Position, ReadRequest,
};
use crate::network::{AdminRequest, PeerIdentity, PeerInfo, nonce};
use crate::storage::codec::{Encode, decode, encode};
use crate::storage::member_cache::MemberCache;
use crate::types::{Data, Snapshot, SnapshotMeta, Vote};

/// Bytes of the largest snapshot that is accepted.
const SNAPSHOT_MAX: usize = 4 << 30;

/// Answers from the pre-boot state until the member runs.
pub(super) struct Service {
    name: String,
    pre_boot: Arc<PreBoot>,
    running: Arc<OnceLock<Arc<Member>>>,
}

fn answer(value: &impl Encode) -> Result<Response<Packet>, Status> {
    Ok(Response::new(Packet { body: encode(value), ..Packet::default() }))
}

fn invalid(error: impl Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn failed(error: impl Display) -> Status {
    Status::internal(error.to_string())
}

fn refused(error: impl Display) -> Status {
    Status::failed_precondition(error.to_string())
}

impl Service {
    pub(super) fn new(name: String, pre_boot: Arc<PreBoot>, running: Arc<OnceLock<Arc<Member>>>) -> Self {
        Service { name, pre_boot, running }
    }

    /// Refuses questions about this node until it has read its disk: "no cluster" would be a wrong answer.
    fn check_read(&self) -> Result<(), Status> {
        let ready = self.pre_boot.has_read();
        ready.then_some(()).ok_or_else(|| Status::unavailable("this member is still reading its disk"))
    }

    /// The running member, if the request is meant for its cluster.
    fn member(&self, cluster: &[u8]) -> Result<&Arc<Member>, Status> {
        let member =
            self.running.get().ok_or_else(|| Status::unavailable("this member is still starting"))?;
        if cluster == member.identity.cluster {
            Ok(member)
        } else {
            Err(Status::permission_denied("this node belongs to another cluster"))
        }
    }

    /// The member, if one of Raft's own messages is meant for it. A member that came back under a new number
    /// has the address of its old number. If it answered for the old number, it could vote twice, and a leader
    /// would see a log that shrank. The same holds for an old copy of a member's directory.
    fn addressed(&self, packet: &Packet) -> Result<&Arc<Member>, Status> {
        let member = self.member(&packet.cluster)?;
        if packet.to != member.identity.node {
            return Err(Status::unavailable(format!("this is member {}", member.identity.node)));
        }
        if nonce(&packet.boot).is_some_and(|boot| !member.identity.includes(boot)) {
            member.stale.send_replace(true);
            return Err(Status::unavailable("this member's directory is an old copy"));
        }
        Ok(member)
    }

    /// Raft and one of its own messages, from any member.
    fn message<T: Encode>(&self, packet: Packet) -> Result<(&state_machine::Raft, T), Status> {
        let member = self.addressed(&packet)?;
        Ok((&member.raft, decode(packet.body).map_err(invalid)?))
    }

    /// Raft and the message of a candidate: a removed member gets no vote.
    fn candidacy<T: Encode>(&self, packet: Packet) -> Result<(&state_machine::Raft, T), Status> {
        let member = self.addressed(&packet)?;
        let (from, node) = (packet.from, NodeId(packet.from));
        let removed = member.state.read(|tables| {
            tables.cluster().is_some()
                && tables.revision().0 >= from
                && tables.members().all(|member| member.node != node)
        });
        if removed {
            return Err(Status::permission_denied(format!("member {from} was removed from the cluster")));
        }
        self.message(packet)
    }

    /// The identity of this node before Raft runs.
    fn identify_pre_boot(&self) -> PeerInfo {
        let mut info = PeerInfo { name: self.name.clone(), ..PeerInfo::default() };
        match self.pre_boot.identity() {
            Some(identity) => {
                let (cluster, node) = (identity.cluster, identity.node);
                info.identity = Some(PeerIdentity { cluster, node });
                info.unused = self.pre_boot.is_unused();
                info.members = self.pre_boot.member_cache();
            }
            None => info.lost_data = self.pre_boot.has_lost_data(),
        }
        info
    }

    /// The identity of this member, and how far `asking`, a member of the same cluster, has acknowledged the log.
    async fn identify_running(&self, member: &Member, asking: Option<u64>) -> PeerInfo {
        let (cluster, node) = (member.identity.cluster, member.identity.node);
        let leader = member.leader();
        let initialized = leader.is_some() || member.raft.is_initialized().await.unwrap_or(true);
        PeerInfo {
            name: self.name.clone(),
            identity: Some(PeerIdentity { cluster, node }),
            leader,
            lost_data: false,
            unused: !initialized,
            members: member.state.read(MemberCache::of),
            acknowledged: asking.and_then(|node| member.acknowledged_by(node)),
        }
    }
}

#[tonic::async_trait]
impl Raft for Service {
    async fn identify(&self, request: Request<IdentifyRequest>) -> Result<Response<IdentifyReply>, Status> {
        let IdentifyRequest { cluster, node, .. } = request.into_inner();
        self.check_read()?;
        let info = match self.running.get() {
            Some(member) => {
                let asking = (cluster == member.identity.cluster[..]).then_some(node);
                self.identify_running(member, asking).await
            }
            None => self.identify_pre_boot(),
        };
        Ok(Response::new(info.into()))
    }

    async fn found(&self, request: Request<FoundRequest>) -> Result<Response<FoundReply>, Status> {
        let FoundRequest { cluster, node } = request.into_inner();
        let cluster = nonce(&cluster).ok_or_else(|| Status::invalid_argument("no cluster id"))?;
        self.check_read()?;
        self.pre_boot.accept_founding(cluster, node).map_err(refused)?;
        Ok(Response::new(FoundReply {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let JoinRequest { cluster, name, mesh, nonce: bytes } = request.into_inner();
        let member = self.member(&cluster)?;
        let nonce = nonce(&bytes).ok_or_else(|| Status::invalid_argument("no nonce"))?;
        let node = admit::admit(member, &name, &mesh, nonce).await;
        let node = node.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(JoinReply { node }))
    }

    async fn append(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.message(request.into_inner())?;
        answer(&raft.append_entries(message).await.map_err(failed)?)
    }

    async fn vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.candidacy(request.into_inner())?;
        answer(&raft.vote(message).await.map_err(failed)?)
    }

    async fn pre_vote(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.candidacy(request.into_inner())?;
        answer(&raft.pre_vote(message).await.map_err(failed)?)
    }

    async fn transfer_leader(&self, request: Request<Packet>) -> Result<Response<Packet>, Status> {
        let (raft, message) = self.message(request.into_inner())?;
        answer(&raft.handle_transfer_leader(message).await.map_err(failed)?)
    }

    async fn snapshot(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packet>, Status> {
        let mut packets = request.into_inner();
        let first = packets.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let member = self.addressed(&first)?;
        let mut head = first.body;
        let vote = Vote::get(&mut head).map_err(invalid)?;
        let meta: SnapshotMeta = decode(head).map_err(invalid)?;
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
        timeout(SNAPSHOT_TIME, collect)
            .await
            .map_err(|_| Status::deadline_exceeded("the snapshot took too long"))??;
        let body = body.freeze();
        if body.len() as u64 != first.bytes || crc32c::crc32c(&body) != first.checksum {
            tracing::warn!(
                from = first.from,
                bytes = body.len(),
                "a snapshot was damaged on the way: it is refused, and the leader will send it again"
            );
            return Err(Status::data_loss("the snapshot was damaged on the way"));
        }
        let snapshot = Snapshot { meta, snapshot: Cursor::new(body) };
        answer(&member.raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?)
    }

    async fn propose(&self, request: Request<Packet>) -> Result<Response<Position>, Status> {
        let Packet { body, cluster, .. } = request.into_inner();
        let member = self.member(&cluster)?;
        let written = timeout(member.timing.append(), member.raft.client_write(Data(body))).await;
        let written = written.map_err(|_| Status::deadline_exceeded("no quorum"))?;
        let written = written.map_err(refused)?;
        Ok(Response::new(Position { index: written.log_id.index }))
    }

    async fn read_index(&self, request: Request<ReadRequest>) -> Result<Response<Position>, Status> {
        let member = self.member(&request.into_inner().cluster)?;
        let index = member.read_index().await.map_err(refused)?;
        Ok(Response::new(Position { index }))
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<ChangeReply>, Status> {
        let request = request.into_inner();
        let member = self.member(&request.cluster)?;
        let request = AdminRequest::try_from(request).map_err(refused)?;
        admin::execute(member, request).await.map_err(refused)?;
        Ok(Response::new(ChangeReply {}))
    }
}
