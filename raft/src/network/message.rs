//! The messages of bootstrap and membership as types, and their conversion from and to the wire.
//!
//! proto3 has no optional integers here: the wire writes an unknown number as 0, and an unknown id or address
//! as empty. These conversions are the only place that knows.

use bytes::Bytes;

use super::proto::change_request::Verb;
use super::proto::{ChangeRequest, IdentifyReply, Member};
use crate::storage::member_cache::{CachedMember, MemberCache};

/// A 16-byte id or nonce; `None` if the wire holds none.
pub(crate) fn nonce(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

/// The cluster of a node and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
}

/// The answer of a node to the question who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    pub(crate) name: String,
    pub(crate) identity: Option<PeerIdentity>,
    /// The leader and its mesh address, if the node knows both.
    pub(crate) leader: Option<(u64, String)>,
    /// Whether its data was quarantined and it has no identity since.
    pub(crate) lost_data: bool,
    /// Whether it has an identity and an empty log: its cluster is still being founded.
    pub(crate) unused: bool,
    /// The members, and whether the cluster is made, as far as the node has read the log.
    pub(crate) members: MemberCache,
    /// The index up to which the asking member has acknowledged the log to this node, if this node leads.
    pub(crate) acknowledged: Option<u64>,
}

impl PeerInfo {
    pub(crate) fn cluster(&self) -> Option<[u8; 16]> {
        self.identity.map(|identity| identity.cluster)
    }

    /// Whether this is the answer of the member with this number.
    pub(crate) fn is_member(&self, node: u64) -> bool {
        self.identity.is_some_and(|identity| identity.node == node)
    }
}

impl From<PeerInfo> for IdentifyReply {
    fn from(info: PeerInfo) -> Self {
        let PeerInfo { name, identity, leader, lost_data, unused, members, acknowledged } = info;
        let (leader, leader_addr) = leader.unwrap_or_default();
        IdentifyReply {
            name,
            cluster: identity.map_or_else(Bytes::new, |identity| Bytes::copy_from_slice(&identity.cluster)),
            node: identity.map_or(0, |identity| identity.node),
            made: members.made,
            leader,
            leader_addr,
            lost: lost_data,
            unused,
            revision: members.revision,
            members: members.members.into_iter().map(Member::from).collect(),
            acknowledged: acknowledged.map_or(0, |index| index + 1),
        }
    }
}

impl From<IdentifyReply> for PeerInfo {
    fn from(reply: IdentifyReply) -> Self {
        let members = reply.members.into_iter().map(CachedMember::from).collect();
        PeerInfo {
            name: reply.name,
            identity: nonce(&reply.cluster).map(|cluster| PeerIdentity { cluster, node: reply.node }),
            leader: Some((reply.leader, reply.leader_addr)).filter(|(_, addr)| !addr.is_empty()),
            lost_data: reply.lost,
            unused: reply.unused,
            members: MemberCache { revision: reply.revision, made: reply.made, members },
            acknowledged: reply.acknowledged.checked_sub(1),
        }
    }
}

impl From<CachedMember> for Member {
    fn from(member: CachedMember) -> Self {
        let CachedMember { node, name, mesh, voter, boot } = member;
        let boot = boot.map_or_else(Bytes::new, |boot| Bytes::copy_from_slice(&boot));
        Member { node, name, mesh, voter, boot }
    }
}

impl From<Member> for CachedMember {
    fn from(member: Member) -> Self {
        let Member { node, name, mesh, voter, boot } = member;
        CachedMember { node, name, mesh, voter, boot: nonce(&boot) }
    }
}

/// An operation that an operator asks the leader for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminRequest {
    /// Make a learner a voter.
    Promote { name: String },
    /// Remove a member for good.
    Remove { name: String },
    /// Transfer the leadership to the named voter, or to any that is up.
    TransferLeader { to: Option<String> },
}

/// A request of another version: its verb is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this version does not know the request")]
pub(crate) struct InvalidRequest;

impl AdminRequest {
    pub(super) fn to_wire(&self, cluster: Bytes) -> ChangeRequest {
        let (verb, name) = match self {
            AdminRequest::Promote { name } => (Verb::Promote, name.clone()),
            AdminRequest::Remove { name } => (Verb::Remove, name.clone()),
            AdminRequest::TransferLeader { to } => (Verb::Transfer, to.clone().unwrap_or_default()),
        };
        ChangeRequest { cluster, verb: verb.into(), name }
    }
}

impl TryFrom<ChangeRequest> for AdminRequest {
    type Error = InvalidRequest;

    fn try_from(request: ChangeRequest) -> Result<Self, InvalidRequest> {
        let verb = request.verb();
        let name = request.name;
        match verb {
            Verb::Promote => Ok(AdminRequest::Promote { name }),
            Verb::Remove => Ok(AdminRequest::Remove { name }),
            Verb::Transfer => Ok(AdminRequest::TransferLeader { to: Some(name).filter(|to| !to.is_empty()) }),
            Verb::None => Err(InvalidRequest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_zero_and_empty_on_the_wire() {
        assert_eq!(IdentifyReply::from(PeerInfo::default()), IdentifyReply::default());
        assert_eq!(PeerInfo::from(IdentifyReply::default()), PeerInfo::default());
    }

    #[test]
    fn peer_info_survives_a_round_trip() {
        let member = CachedMember { node: 1, name: "a".into(), mesh: "b".into(), voter: true, boot: None };
        let info = PeerInfo {
            name: "node-1".into(),
            identity: Some(PeerIdentity { cluster: [7; 16], node: 1 }),
            leader: Some((1, "b".into())),
            lost_data: true,
            unused: true,
            members: MemberCache { revision: 9, made: true, members: vec![member] },
            acknowledged: Some(0),
        };
        assert_eq!(PeerInfo::from(IdentifyReply::from(info.clone())), info);
    }

    #[test]
    fn request_with_an_unknown_verb_is_refused() {
        let request = ChangeRequest { verb: 99, ..ChangeRequest::default() };
        assert_eq!(AdminRequest::try_from(request), Err(InvalidRequest));
    }
}
