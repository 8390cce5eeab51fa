//! What a welcomed edge may send against the protocol, and whether its connection is closed for it.

use bytes::Bytes;
use limes_wire::frame::{Frame, Names, Reply};

use super::raw::{encode, yamux};

/// One kind of bytes.
pub(crate) struct Violation {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// The node closes the connection; what is merely useless is ignored.
    pub(crate) closes: bool,
}

/// All of them.
pub(crate) fn all() -> Vec<Violation> {
    let cut = |what, bytes| Violation { what, bytes, closes: true };
    let kept = |what, bytes| Violation { what, bytes, closes: false };
    let mut all = vec![
        kept("cancels of unknown ids", (0..50_000).flat_map(|id| encode(Frame::Cancel { id })).collect()),
        kept("answers to unknown ids", (0..20_000).flat_map(|id| encode(reply(id))).collect()),
        cut("a second hello", encode(Frame::Hello(Box::default()))),
        cut("a welcome", encode(Frame::Welcome(Box::default()))),
        cut("an edge that registers", encode(Frame::Register(Names { id: 1, names: vec!["x".into()] }))),
        cut("a frame of nodes", vec![0x80, 0, 0, 0, 0, 0, 0, 0]),
        cut("an unknown frame", vec![0x7f, 0, 0, 0, 0, 0, 0, 0]),
        cut("a body of 4 GiB", vec![0x10, 0, 0, 22, 0xff, 0xff, 0xff, 0xff]),
        cut("a head that is too short", vec![0x10, 0, 0, 1, 0, 0, 0, 0, 7]),
        kept("pings", (0..20_000).flat_map(|nonce| encode(Frame::Ping { nonce })).collect()),
    ];
    all.extend(of_yamux());
    all
}

fn reply(id: u64) -> Frame {
    Frame::Reply(Reply { id, body: Bytes::new() })
}

fn of_yamux() -> Vec<Violation> {
    let cut = |what, bytes: Vec<u8>| Violation { what, bytes, closes: true };
    let kept = |what, bytes: Vec<u8>| Violation { what, bytes, closes: false };
    let open = yamux(0, 1, 1, 0);
    let record = |kind: u8, len: u32| [&[kind][..], &len.to_be_bytes()].concat();
    vec![
        cut("a stream with the gateway's number", yamux(0, 1, 2, 0)),
        cut("a stream opened twice", [open.clone(), open.clone()].concat()),
        kept("data of unknown streams", (0..5_000).flat_map(|n| data(2 * n + 1, b"x")).collect()),
        kept("credit of unknown streams", (0..5_000).flat_map(|n| yamux(1, 0, n, 1)).collect()),
        cut(
            "too much credit",
            [open.clone(), (0..10).flat_map(|_| yamux(1, 0, 1, u32::MAX)).collect()].concat(),
        ),
        cut("more than the window", [open.clone(), data(1, &vec![3; 900 << 10])].concat()),
        cut("a yamux frame of 4 GiB", yamux(0, 1, 1, u32::MAX)),
        cut("a yamux frame of no type", yamux(9, 0, 1, 0)),
        kept("resets in every state", (0..2_000).flat_map(resets).collect()),
        kept("a record of 4 GiB", [open.clone(), data(1, &record(3, u32::MAX))].concat()),
        kept(
            "an end before an open",
            [open.clone(), data(1, &[&record(4, 8)[..], &[0; 8]].concat())].concat(),
        ),
        kept("an open that never comes", [open.clone(), data(1, &record(1, 100))].concat()),
        kept("more streams than are allowed", (0..3_000).flat_map(|n| yamux(0, 1, 2 * n + 1, 0)).collect()),
        cut("a GoAway of yamux", yamux(3, 0, 0, 2)),
    ]
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    [yamux(0, 0, stream, bytes.len() as u32), bytes.to_vec()].concat()
}

fn resets(n: u32) -> Vec<u8> {
    let stream = 2 * n + 1;
    let reset = || yamux(1, 8, stream, 0);
    match n % 4 {
        0 => [yamux(0, 1, stream, 0), reset()].concat(),
        1 => [reset(), yamux(0, 1, stream, 0), reset()].concat(),
        2 => [yamux(0, 5, stream, 0), reset(), reset()].concat(),
        _ => [yamux(1, 1, stream, 0), data(stream, &[1, 0, 0, 0, 3]), reset()].concat(),
    }
}
