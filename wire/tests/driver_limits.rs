//! What the driver does with a peer that is slow, silent, hostile or gone. Time is virtual.
#![cfg(feature = "tokio")]

mod driver_support;

use std::time::Duration;

use bytes::Bytes;
use driver_support::*;
use limes_wire::conn::MAGIC;
use limes_wire::driver::{Mailbox, PushError};
use limes_wire::frame::{Frame, GoAway, Reply};
use limes_wire::limits::{self, Limits};
use limes_wire::{By, Code, Conn};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

fn reply(id: u64, bytes: usize) -> Frame {
    Frame::Reply(Reply { id, body: Bytes::from(vec![0; bytes]) })
}

#[tokio::test(start_paused = true)]
async fn peer_that_never_reads_is_disconnected_and_senders_get_busy() {
    let (mut server, _far) = bare_server(4_096).await;
    let began = Instant::now();
    let mut taken = 0;
    // The connection takes messages until its output is over the soft limit, then the mailbox fills up.
    while taken < 100 << 20 && server.mailbox.push(Do::Send(reply(1, 10_000)), 10_000).is_ok() {
        taken += 10_000;
        tokio::task::yield_now().await;
    }
    let bound = limits::OUTPUT_SOFT_MAX + limits::MAILBOX_BYTES_MAX + 100_000;
    assert!(taken < bound, "{taken} bytes were taken for a peer that does not read");
    let (reason, leftover) = server.closed().await;
    assert_eq!((reason.code, reason.by), (Code::LIMIT, By::Us));
    assert!(leftover > 700, "messages that were never handled come back");
    assert!(began.elapsed() >= limits::STALL && began.elapsed() < limits::STALL * 2);
    assert!(matches!(server.mailbox.push(Do::Send(reply(1, 1)), 1), Err(PushError::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn peer_that_sends_calls_but_never_reads_is_not_read_either() {
    let (mut server, mut far) = bare_server(4_096).await;
    let ask = encode(call(1, vec![0; 60_000]));
    let mut sent = 0;
    let flood = async {
        while sent < 100 << 20 && far.write_all(&ask).await.is_ok() {
            sent += ask.len();
        }
    };
    let ((reason, _), ()) = tokio::join!(server.closed(), flood);
    assert_eq!(reason.code, Code::LIMIT);
    assert!(sent < limits::OUTPUT_HARD_MAX + 200_000, "{sent} bytes were answered into memory");
}

#[tokio::test(start_paused = true)]
async fn slow_reader_is_not_disconnected() {
    let (server, mut far) = bare_server(4_096).await;
    for id in 0..20 {
        server.send(reply(id, 100_000));
    }
    let (mut got, mut bytes) = (0, vec![0; 4_096]);
    while got < 20 * 100_000 {
        tokio::time::sleep(limits::STALL / 10).await;
        far.write_all(&encode(Frame::Pong { nonce: 0 })).await.unwrap();
        got += far.read(&mut bytes).await.unwrap();
    }
    assert!(!server.mailbox.is_closed());
}

#[tokio::test(start_paused = true)]
async fn incomplete_handshake_is_ended_in_time() {
    let mut cut = MAGIC.to_vec();
    cut.extend(encode(Frame::Hello(Box::default())));
    for keep in [0, 3, MAGIC.len(), MAGIC.len() + 5, cut.len() - 1] {
        let (near, mut far) = duplex(4_096);
        let mut server = Peer::server(near);
        let began = Instant::now();
        far.write_all(&cut[..keep]).await.unwrap();
        let (reason, _) = server.closed().await;
        assert_eq!((reason.code, reason.by), (Code::HANDSHAKE_TIMEOUT, By::Us));
        assert!(began.elapsed() < limits::HANDSHAKE + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_reported_and_ends_the_connection() {
    let (mut server, far) = bare_server(4_096).await;
    let began = Instant::now();
    assert!(matches!(server.next().await, Called::Silence(true)));
    assert!(began.elapsed() >= limits::KEEPALIVE && began.elapsed() < limits::KEEPALIVE * 2);
    let (reason, _) = server.closed().await;
    assert_eq!(reason.code, Code::KEEPALIVE);
    assert!(began.elapsed() < limits::KEEPALIVE * 2 + Duration::from_secs(1));
    drop(far);
}

/// Sends a call, pausing before its last byte, and reads the reply.
async fn send_slowly(
    far: &mut tokio::io::DuplexStream,
    bytes: usize,
    pause: Duration,
) -> std::io::Result<()> {
    let ask = encode(call(1, vec![0; bytes]));
    let (most, last) = ask.split_at(ask.len() - 1);
    far.write_all(most).await?;
    tokio::time::sleep(pause).await;
    far.write_all(last).await?;
    let mut reply = vec![0; encode(reply(1, bytes)).len()];
    far.read_exact(&mut reply).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn unfinished_large_frame_ends_the_connection_when_memory_is_short() {
    let (mut server, mut far) = bare_server(4_096).await;
    let second = Duration::from_secs(1);
    // While there is memory, a slow frame is accepted.
    send_slowly(&mut far, 1 << 20, limits::KEEPALIVE / 2).await.unwrap();
    server.full.store(true, std::sync::atomic::Ordering::Relaxed);
    // Fast frames are accepted, however many they are, and so are small ones.
    for _ in 0..10 {
        send_slowly(&mut far, 1 << 20, second / 2).await.unwrap();
    }
    send_slowly(&mut far, 1_000, limits::KEEPALIVE / 2).await.unwrap();
    server.full.store(false, std::sync::atomic::Ordering::Relaxed);
    let full = server.full.clone();
    let (broken, (reason, _)) = tokio::join!(send_slowly(&mut far, 1 << 20, second * 9), async {
        tokio::time::sleep(second * 5).await;
        full.store(true, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        let closed = server.closed().await;
        assert!(began.elapsed() <= second, "asked once a second");
        closed
    });
    broken.unwrap_err();
    assert_eq!((reason.code, reason.by), (Code::LIMIT, By::Us));
    assert!(reason.text.contains("limits.memory"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let (mut client, mut server) = pair(4_096).await;
    tokio::time::sleep(limits::KEEPALIVE * 100).await;
    let began = Instant::now();
    client.send(call(1, "still there"));
    assert!(matches!(client.frame().await, Frame::Reply(_)));
    server.send(call(2, "you too"));
    assert!(matches!(server.frame().await, Frame::Reply(_)));
    assert!(began.elapsed().is_zero(), "a message wakes its receiver at once");
}

#[tokio::test(start_paused = true)]
async fn handler_is_woken_at_the_earliest_requested_time() {
    let (mut client, _server) = pair(4_096).await;
    let began = Instant::now();
    for after in [9, 3, 6] {
        assert!(client.mailbox.push_always(Do::WakeAt(now() + Duration::from_secs(after))));
    }
    assert!(matches!(client.next().await, Called::Timeout));
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn peers_go_away_is_read_although_writing_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpSocket::new_v4().unwrap();
    near.set_recv_buffer_size(1 << 20).unwrap();
    let (near, far) = tokio::join!(near.connect(listener.local_addr().unwrap()), listener.accept());
    let (mut client, mut far) = (Peer::client(near.unwrap()), far.unwrap().0);
    let mut hello = [0; 64];
    assert!(far.read(&mut hello).await.unwrap() > MAGIC.len());
    far.write_all(&encode(Frame::Welcome(Box::default()))).await.unwrap();
    assert!(matches!(client.next().await, Called::Welcome(_)));
    // All of it is in the client's socket before its task runs, and then the connection is reset.
    for id in 0..5 {
        far.write_all(&encode(reply(id, 30_000))).await.unwrap();
    }
    far.write_all(&encode(Frame::GoAway(GoAway::new(Code::KICKED, "out")))).await.unwrap();
    client.send(reply(1, 1));
    far.set_zero_linger().unwrap();
    drop(far);
    let (reason, _) = client.closed().await;
    assert_eq!((reason.code, reason.by, &*reason.text), (Code::KICKED, By::Peer, "out"));
}

#[tokio::test(start_paused = true)]
async fn closing_connection_is_read_until_the_peer_closes_or_time_is_up() {
    for closes in [true, false] {
        let (mut server, mut far) = bare_server(4_096).await;
        assert!(server.mailbox.push_always(Do::Close(GoAway::new(Code::KICKED, "out"))));
        let (reason, _) = server.closed().await;
        assert_eq!((reason.code, reason.by), (Code::KICKED, By::Us));
        far.write_all(&vec![0; 100_000]).await.expect("what the peer still sends must not be rejected");
        let mut last = Vec::new();
        far.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, encode(Frame::GoAway(GoAway::new(Code::KICKED, "out"))));
        let began = Instant::now();
        if closes {
            drop(far);
        }
        server.task.await.unwrap();
        assert_eq!(began.elapsed() >= limits::LINGER, !closes);
        assert!(began.elapsed() < limits::LINGER * 2);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_closes_without_a_go_away_is_reported_as_transport() {
    let (mut server, far) = bare_server(4_096).await;
    drop(far);
    let (reason, _) = server.closed().await;
    assert_eq!((reason.code, reason.by), (Code::GONE, By::Transport));
}

#[tokio::test(start_paused = true)]
async fn handler_learns_the_end_after_a_panic_and_after_an_abort() {
    let (mut client, mut server) = pair(4_096).await;
    assert!(client.mailbox.push_always(Do::Panic));
    client.send(reply(1, 1));
    let (reason, leftover) = client.closed().await;
    assert_eq!((reason.code, leftover), (Code::INTERNAL, 1));
    assert!(client.mailbox.is_closed());
    assert_eq!(server.closed().await.0.by, By::Transport);

    let (mut client, _server) = pair(4_096).await;
    client.task.abort();
    assert_eq!(client.closed().await.0.code, Code::INTERNAL);
    assert!(client.calls.recv().await.is_none(), "the handler learns the end once");
}

#[test]
fn mailbox_full_by_bytes_still_takes_control_messages() {
    let mailbox = Mailbox::new();
    assert!(mailbox.push(0, limits::MAILBOX_BYTES_MAX + 1).is_ok());
    assert!(matches!(mailbox.push(1, 0), Err(PushError::Full(1))));
    assert!(mailbox.push_always(2));
}

/// Sends the bytes in pieces and waits for the end of the connection, which must come whatever they are.
async fn throw(open: bool, pieces: Vec<Vec<u8>>) {
    let (mut server, mut far) = if open {
        bare_server(1 << 16).await
    } else {
        let (near, far) = duplex(1 << 16);
        (Peer::start(near, Conn::server(now(), Limits::default())), far)
    };
    for piece in pieces {
        if far.write_all(&piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Keeps reading, so that only the bytes decide.
    let mut sink = vec![0; 1 << 16];
    let drain = async { while far.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
    let ((reason, _), ()) = tokio::join!(server.closed(), drain);
    let expected = [Code::PROTOCOL, Code::TOO_LARGE, Code::KEEPALIVE, Code::HANDSHAKE_TIMEOUT, Code::VERSION];
    assert!(expected.contains(&reason.code) || reason.by == By::Peer, "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn random_bytes_end_the_connection_and_nothing_else(
        open: bool,
        kind in 0u8..0x30,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        let mut pieces = pieces;
        pieces[0].insert(0, kind);
        runtime.block_on(throw(open, pieces));
    }
}
