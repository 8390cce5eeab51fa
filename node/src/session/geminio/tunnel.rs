//! Calls and messages inside a stream whose ends both speak geminio. Between the two sessions the bytes of such a stream
//! are frames: the packet's type, its id, a length, and its body without the session id.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_wire::geminio::{BODY_MAX, Word};

/// The accept record with which the opened side announces frames.
pub(super) const ACCEPT: &[u8] = b"geminio frames 1";
/// Type, packet id, length.
const HEAD: usize = 13;

/// The bytes of a stream are not the frames that its other end announced.
#[derive(Debug, thiserror::Error)]
#[error("the bytes of the stream are no frames")]
pub(super) struct NoFrame;

/// Encodes a packet as a frame.
pub(super) fn encode(id: u64, word: &Word) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(word.kind());
    out.put_u64(id);
    out.put_u32(0);
    let payload = word.encode(&mut out);
    out.extend_from_slice(&payload);
    let len = (out.len() - HEAD) as u32;
    out[9..HEAD].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

/// Takes a frame from the front; `Ok(None)`: more bytes are needed.
///
/// # Errors
/// The bytes are no frame, or one that the peer could not read.
pub(super) fn decode(input: &mut BytesMut) -> Result<Option<(u64, Word)>, NoFrame> {
    if input.len() < HEAD {
        return Ok(None);
    }
    let mut head = &input[..HEAD];
    let (kind, id, len) = (head.get_u8(), head.get_u64(), head.get_u32() as usize);
    if len > BODY_MAX || !Word::is_kind(kind) {
        return Err(NoFrame);
    }
    if input.len() < HEAD + len {
        input.reserve(HEAD + len - input.len());
        return Ok(None);
    }
    input.advance(HEAD);
    let word = Word::decode(kind, input.split_to(len).freeze()).map_err(|_| NoFrame)?;
    Ok(Some((id, word)))
}

#[cfg(test)]
mod tests {
    use limes_wire::geminio::MessageData;

    use super::*;

    #[test]
    fn packets_are_read_whatever_their_fragmentation() {
        let call = MessageData { key: "m".into(), custom: "c".into(), ..MessageData::default() };
        let words = [Word::Request(call), Word::Data(vec![7; 3_000].into()), Word::Cancel(1)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| encode(5, word)).collect();
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            input.put_u8(byte);
            while let Some((5, word)) = decode(&mut input).unwrap() {
                read.push(word);
            }
        }
        assert_eq!(read, words);
    }

    #[test]
    fn frames_that_the_peer_could_not_read_are_refused() {
        for (kind, len) in [(0x31_u8, 0_u32), (0x61, u32::MAX), (0x71, 2), (0x73, 1)] {
            let mut input = BytesMut::new();
            input.put_u8(kind);
            input.put_u64(1);
            input.put_u32(len);
            input.put_bytes(b'x', 2);
            assert!(decode(&mut input).is_err(), "{kind:#x}");
        }
    }
}
