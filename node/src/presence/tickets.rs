//! Resume tickets: how an edge proves on any node that an id was given to it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac};
use limes_routing::EdgeId;
use sha2::Sha256;

/// How long a ticket is good for, in seconds: 30 days. Each connect brings a new one.
const LIFE_S: u64 = 30 * 24 * 3_600;
/// Version, cluster, edge, expiry.
const BODY: usize = 1 + 16 + 8 + 8;
const TAG: usize = 32;
const VERSION: u8 = 1;

/// Makes a ticket for an edge, signed with the cluster's newest key.
pub(crate) fn issue(key: &[u8], cluster: [u8; 16], edge: EdgeId, now_s: u64) -> Bytes {
    let mut ticket = BytesMut::with_capacity(BODY + TAG);
    ticket.put_u8(VERSION);
    ticket.put_slice(&cluster);
    ticket.put_u64(edge.0);
    ticket.put_u64(now_s.saturating_add(LIFE_S));
    if let Some(tag) = sign(key, &ticket) {
        ticket.put_slice(&tag.finalize().into_bytes());
    }
    ticket.freeze()
}

/// The edge that a ticket names, if one of the keys signed it, it is of this cluster and has not
/// expired.
pub(crate) fn verify<'a>(
    keys: impl IntoIterator<Item = &'a [u8]>,
    cluster: [u8; 16],
    ticket: &[u8],
    now_s: u64,
) -> Option<EdgeId> {
    if ticket.len() != BODY + TAG {
        return None;
    }
    let (mut body, tag) = ticket.split_at(BODY);
    let signed = keys.into_iter().any(|key| sign(key, body).is_some_and(|mac| mac.verify_slice(tag).is_ok()));
    if !signed || body.get_u8() != VERSION || body[..16] != cluster {
        return None;
    }
    body.advance(16);
    let edge = EdgeId(body.get_u64());
    (now_s < body.get_u64()).then_some(edge)
}

fn sign(key: &[u8], body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).ok()?;
    mac.update(body);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [u8; 16] = [7; 16];

    #[test]
    fn names_its_edge_until_it_expires() {
        let ticket = issue(b"key", CLUSTER, EdgeId(42), 1_000);
        let keys: [&[u8]; 2] = [b"newer", b"key"];
        assert_eq!(verify(keys, CLUSTER, &ticket, 1_001), Some(EdgeId(42)));
        assert_eq!(verify(keys, CLUSTER, &ticket, 1_000 + LIFE_S), None);
    }

    #[test]
    fn another_cluster_key_or_byte_is_refused() {
        let ticket = issue(b"key", CLUSTER, EdgeId(42), 1_000);
        let keys: [&[u8]; 1] = [b"key"];
        let other: [&[u8]; 1] = [b"other"];
        assert_eq!(verify(keys, [8; 16], &ticket, 1_001), None);
        assert_eq!(verify(other, CLUSTER, &ticket, 1_001), None);
        for at in 0..ticket.len() {
            let mut forged = ticket.to_vec();
            forged[at] ^= 1;
            assert_eq!(verify(keys, CLUSTER, &forged, 1_001), None, "byte {at}");
        }
        assert_eq!(verify(keys, CLUSTER, &ticket[..10], 1_001), None);
    }
}
