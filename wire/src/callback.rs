//! The calls that a gateway makes to services about edges: reserved method names and their bodies (PROTOCOL 6.3).
//!
//! A service that registers one of these names provides the callback.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_bytes};
use crate::limits;

/// Asks for the id of an edge; the reply's body is the id in eight bytes, big-endian.
pub const GET_EDGE_ID: &str = "get_edge_id";
/// An edge is connecting; an error refuses it.
pub const EDGE_ONLINE: &str = "edge_online";
/// An edge has disconnected.
pub const EDGE_OFFLINE: &str = "edge_offline";

/// Whether a method is one of these, which edges may not call.
pub fn is_reserved(method: &str) -> bool {
    matches!(method, GET_EDGE_ID | EDGE_ONLINE | EDGE_OFFLINE)
}

/// The body of all three callbacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EdgeFacts {
    /// The edge's id; 0 in [`GET_EDGE_ID`].
    pub edge: u64,
    /// The edge's meta, from its hello.
    pub meta: Bytes,
    /// The edge's address, as the gateway sees it.
    pub addr: String,
}

impl EdgeFacts {
    /// The body in its wire form.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(12 + self.meta.len() + self.addr.len());
        out.put_u64(self.edge);
        put_bytes(&mut out, &self.meta);
        put_bytes(&mut out, self.addr.as_bytes());
        out.freeze()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// The body is malformed.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader(body);
        let edge = reader.u64()?;
        let meta = reader.bytes("meta", limits::META_MAX)?;
        let addr = reader.str("address", limits::NAME_MAX)?.to_string();
        Ok(EdgeFacts { edge, meta, addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_decoded_and_truncated_ones_are_refused() {
        let facts = EdgeFacts { edge: 9, meta: Bytes::from_static(b"m"), addr: "10.0.0.1:5".into() };
        let body = facts.encode();
        assert_eq!(EdgeFacts::decode(body.clone()), Ok(facts));
        for cut in 0..body.len() {
            assert!(EdgeFacts::decode(body.slice(..cut)).is_err());
        }
    }

    #[test]
    fn longest_meta_is_not_cut() {
        let meta = Bytes::from(vec![7; limits::META_MAX]);
        let facts = EdgeFacts { edge: 9, meta, addr: "[::1]:5".into() };
        assert_eq!(EdgeFacts::decode(facts.encode()), Ok(facts));
    }
}
