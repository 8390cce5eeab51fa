//! What the fuzz targets do with their bytes; the corpora are replayed with it as ordinary tests.
#![allow(dead_code, clippy::disallowed_methods, reason = "each target uses one; a run needs a start time")]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use limes_wire::frame::{Frame, HEADER, Header, Hello, Role, Welcome};
use limes_wire::geminio;
use limes_wire::limits::Limits;
use limes_wire::stream::{RECORD_HEAD, RecordHead};
use limes_wire::{Conn, Event};

/// Reads bytes as a frame and as a record; what can be read is written as it was read.
pub(crate) fn decode(data: &[u8]) {
    if let Some(header) = data.first_chunk::<HEADER>() {
        let header = Header::decode(*header);
        let rest = Bytes::copy_from_slice(&data[HEADER..]);
        let head = usize::from(header.head).min(rest.len());
        let body = (header.body as usize).min(rest.len() - head);
        let parts = (rest.slice(..head), rest.slice(head..head + body));
        if let Ok(Some(frame)) = Frame::decode(header, parts.0, parts.1) {
            let mut again = BytesMut::new();
            let body = frame.clone().encode(&mut again);
            let header = again.first_chunk::<HEADER>().map(|header| Header::decode(*header));
            let head = again.freeze().slice(HEADER..);
            let read = header.map(|header| Frame::decode(header, head, body));
            assert_eq!(read, Some(Ok(Some(frame))));
        }
    }
    if let Some(head) = data.first_chunk::<RECORD_HEAD>()
        && let Ok(head) = RecordHead::decode(*head)
    {
        let rest = &data[RECORD_HEAD..];
        let _ = head.record(Bytes::copy_from_slice(&rest[..head.len.min(rest.len())]));
    }
}

/// The first byte chooses the side; then each byte an operation, with the bytes behind it.
pub(crate) fn conn_ops(data: &[u8]) {
    let mut now = Instant::now();
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut conn = match first % 3 {
        0 => Conn::server(now, Limits::default()),
        1 => Conn::client(Hello::default(), now, Limits::default()),
        _ => Conn::client(Hello { role: Role::Node, ..Hello::default() }, now, Limits::default()),
    };
    let mut input = BytesMut::new();
    while let Some((operation, more)) = rest.split_first() {
        rest = more;
        match operation % 8 {
            0..4 => {
                let Some((len, more)) = rest.split_first() else { return };
                let (bytes, more) = more.split_at(usize::from(*len).min(more.len()));
                input.extend_from_slice(bytes);
                rest = more;
                loop {
                    let _ = conn.need(&input);
                    match conn.next(now, &mut input) {
                        Ok(Some(Event::Hello(_))) => conn.welcome(Welcome::default()),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
            }
            4 => conn.send(Frame::Ping { nonce: 1 }),
            5 => {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = conn.chunks(&mut slices);
                let shown: usize = slices[..count].iter().map(|slice| slice.len()).sum();
                conn.advance(shown.min(usize::from(*operation)));
            }
            6 => {
                now += Duration::from_millis(u64::from(*operation) * 100);
                if conn.handle_timeout(now).is_err() {
                    return;
                }
            }
            _ => assert!(conn.poll_timeout() + Duration::from_secs(3_600) > now),
        }
    }
}

/// Reads bytes as a packet of the geminio protocol; what can be read is written as it was read.
pub(crate) fn geminio_decode(data: &[u8]) {
    let Some(header) = data.first_chunk::<{ geminio::HEADER }>() else { return };
    let Ok(header) = geminio::Header::decode(*header) else { return };
    let body = &data[geminio::HEADER..];
    let body = Bytes::copy_from_slice(&body[..header.len.min(body.len())]);
    let Ok(packet) = geminio::Packet::decode(header, body) else { return };
    let mut again = BytesMut::new();
    let Ok(payload) = packet.encode(&mut again) else { return };
    again.extend_from_slice(&payload);
    let header = again.first_chunk::<{ geminio::HEADER }>().copied().unwrap_or_default();
    let read = geminio::Header::decode(header).map(|header| {
        assert_eq!(header.len, again.len() - geminio::HEADER);
        geminio::Packet::decode(header, again.split_off(geminio::HEADER).freeze())
    });
    assert_eq!(read, Ok(Ok(packet)));
}

/// Each byte an operation on the gateway's side of a geminio connection, with the bytes behind it.
pub(crate) fn geminio_ops(mut rest: &[u8]) {
    let mut now = Instant::now();
    let mut conn = geminio::Conn::server(now, Limits::default());
    let mut input = BytesMut::new();
    let mut last = 0;
    while let Some((operation, more)) = rest.split_first() {
        rest = more;
        match operation % 8 {
            0..4 => {
                let Some((len, more)) = rest.split_first() else { return };
                let (bytes, more) = more.split_at(usize::from(*len).min(more.len()));
                input.extend_from_slice(bytes);
                rest = more;
                loop {
                    let _ = conn.need(&input);
                    match conn.next(now, &mut input) {
                        Ok(Some(geminio::Event::Hello(hello))) if hello.client == Some(13) => {
                            conn.refuse(13, "no");
                        }
                        Ok(Some(geminio::Event::Hello(_))) => conn.welcome(7),
                        Ok(Some(geminio::Event::Opening { session, .. })) => last = session,
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
            }
            4 => match operation / 8 {
                0 => drop(conn.offer(now, "peer".to_owned(), Bytes::new()).map(|session| last = session)),
                1 => drop(conn.accept(last)),
                2 => drop(conn.send(now, last, 1, geminio::StreamPacket::Data(Bytes::from_static(b"data")))),
                3 => conn.dismiss(now, last),
                _ => drop(conn.send(now, 1, 2, geminio::StreamPacket::RegisterAck(String::new()))),
            },
            5 => {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = conn.chunks(&mut slices);
                let shown: usize = slices[..count].iter().map(|slice| slice.len()).sum();
                conn.advance(shown.min(usize::from(*operation)));
            }
            6 => {
                now += Duration::from_millis(u64::from(*operation) * 100);
                if conn.handle_timeout(now).is_err() {
                    return;
                }
            }
            _ => assert!(conn.poll_timeout() + Duration::from_secs(3_600) > now),
        }
    }
}
