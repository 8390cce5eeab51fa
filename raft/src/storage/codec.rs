//! The encoding of openraft's types on disk and between members: big-endian integers, 32-bit lengths, a
//! tag byte for each alternative.
//!
//! The order of fields is the format. It changes only together with a format number in front: the kind of a
//! log record, the version of a snapshot, the name of the gRPC service. An unknown tag is an error and is
//! never skipped, because other members may know it and act on it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::types::{Data, Entry, LogId, Membership, Node, SnapshotMeta, StoredMembership, TypeConfig, Vote};

/// Why bytes cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("truncated")]
    Short,
    #[error("{0} bytes too many")]
    Trailing(usize),
    #[error("text is not UTF-8")]
    NotText,
    #[error("invalid membership: {0}")]
    Membership(String),
    /// Written by another version.
    #[error("{0} {1} is not known to this version")]
    Unknown(&'static str, u8),
}

/// A type with one fixed encoding.
pub(crate) trait Encode: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut BytesMut);

    /// Takes one value from the front.
    fn get(from: &mut Bytes) -> Result<Self, DecodeError>;
}

/// The encoding of a value.
pub(crate) fn encode(value: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    value.put(&mut out);
    out.freeze()
}

/// Decodes the one value that `bytes` hold. Payloads in it are slices of `bytes`, not copies.
///
/// # Errors
/// The bytes hold something else, or more than one value.
pub(crate) fn decode<T: Encode>(mut bytes: Bytes) -> Result<T, DecodeError> {
    let value = T::get(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(bytes.len())) }
}

impl Encode for u8 {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(*self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        from.try_get_u8().map_err(|_| DecodeError::Short)
    }
}

impl Encode for u32 {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(*self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        from.try_get_u32().map_err(|_| DecodeError::Short)
    }
}

impl Encode for u64 {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(*self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        from.try_get_u64().map_err(|_| DecodeError::Short)
    }
}

impl Encode for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unknown("flag", other)),
        }
    }
}

impl Encode for Bytes {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        let len = u32::get(from)? as usize;
        if len > from.len() { Err(DecodeError::Short) } else { Ok(from.split_to(len)) }
    }
}

impl Encode for String {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        String::from_utf8(Bytes::get(from)?.into()).map_err(|_| DecodeError::NotText)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        if bool::get(from)? { T::get(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        let count = u32::get(from)? as usize;
        // Each item takes at least a byte: no memory is reserved for items that cannot follow.
        let mut items = Vec::with_capacity(count.min(from.len()).min(1_024));
        for _ in 0..count {
            items.push(T::get(from)?);
        }
        Ok(items)
    }
}

macro_rules! records {
    ($($type:ty { $($field:ident),* })*) => {$(
        impl Encode for $type {
            fn put(&self, out: &mut BytesMut) {
                $(self.$field.put(out);)*
            }

            fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
                $(let $field = Encode::get(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}

records! {
    LeaderId<u64, u64> { term, node_id }
    Vote { leader_id, committed }
    Entry { log_id, payload }
    SnapshotMeta { last_log_id, last_membership }
    AppendEntriesRequest<TypeConfig> { vote, prev_log_id, entries, leader_commit }
    VoteRequest<TypeConfig> { vote, last_log_id, leadership_transfer }
    VoteResponse<TypeConfig> { vote, vote_granted, last_log_id }
    SnapshotResponse<TypeConfig> { vote }
}

impl Encode for LogId {
    fn put(&self, out: &mut BytesMut) {
        self.leader_id.put(out);
        self.index.put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(LogId::new(Encode::get(from)?, Encode::get(from)?))
    }
}

impl Encode for EntryPayload<Data, u64, Node> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            EntryPayload::Blank => out.put_u8(0),
            EntryPayload::Normal(Data(batch)) => {
                out.put_u8(1);
                batch.put(out);
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(2);
                membership.put(out);
            }
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(EntryPayload::Blank),
            1 => Ok(EntryPayload::Normal(Data(Bytes::get(from)?))),
            2 => Ok(EntryPayload::Membership(Membership::get(from)?)),
            other => Err(DecodeError::Unknown("kind of entry", other)),
        }
    }
}

impl Encode for Membership {
    fn put(&self, out: &mut BytesMut) {
        let configs = self.get_joint_config();
        out.put_u32(configs.len() as u32);
        for config in configs {
            config.iter().copied().collect::<Vec<u64>>().put(out);
        }
        out.put_u32(self.nodes().count() as u32);
        for (id, node) in self.nodes() {
            id.put(out);
            node.addr.put(out);
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        let configs: Vec<Vec<u64>> = Encode::get(from)?;
        let configs: Vec<BTreeSet<u64>> = configs.into_iter().map(BTreeSet::from_iter).collect();
        let mut nodes = BTreeMap::new();
        for _ in 0..u32::get(from)? {
            nodes.insert(u64::get(from)?, Node::new(String::get(from)?));
        }
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|error| DecodeError::Membership(error.to_string()))
    }
}

impl Encode for StoredMembership {
    fn put(&self, out: &mut BytesMut) {
        self.log_id().put(out);
        self.membership().put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(StoredMembership::new(Encode::get(from)?, Encode::get(from)?))
    }
}

impl Encode for AppendEntriesResponse<TypeConfig> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            AppendEntriesResponse::Success => out.put_u8(0),
            AppendEntriesResponse::PartialSuccess(matched) => {
                out.put_u8(1);
                matched.put(out);
            }
            AppendEntriesResponse::Conflict => out.put_u8(2),
            AppendEntriesResponse::HigherVote(vote) => {
                out.put_u8(3);
                vote.put(out);
            }
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(AppendEntriesResponse::Success),
            1 => Ok(AppendEntriesResponse::PartialSuccess(Encode::get(from)?)),
            2 => Ok(AppendEntriesResponse::Conflict),
            3 => Ok(AppendEntriesResponse::HigherVote(Encode::get(from)?)),
            other => Err(DecodeError::Unknown("answer to an append", other)),
        }
    }
}

impl Encode for TransferLeaderRequest<TypeConfig> {
    fn put(&self, out: &mut BytesMut) {
        self.from_leader().put(out);
        self.to_node_id().put(out);
        self.last_log_id().copied().put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(TransferLeaderRequest::new(Encode::get(from)?, Encode::get(from)?, Encode::get(from)?))
    }
}

impl Encode for TransferLeaderResponse<TypeConfig> {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Ok(()) => out.put_u8(0),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                out.put_u8(1);
                expected.put(out);
                actual.put(out);
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                out.put_u8(2);
                expected.put(out);
                actual.put(out);
            }
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(Ok(())),
            1 => Ok(Err(TransferLeaderError::VoteChanged {
                expected: Encode::get(from)?,
                actual: Encode::get(from)?,
            })),
            2 => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: Encode::get(from)?,
                actual: Encode::get(from)?,
            })),
            other => Err(DecodeError::Unknown("answer to a transfer", other)),
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
