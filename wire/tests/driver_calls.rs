//! Calls through the driver: what is sent arrives whole, in order, in few writes.
#![cfg(feature = "tokio")]

mod driver_support;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use driver_support::*;
use limes_wire::frame::{Frame, Reply};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[tokio::test]
async fn ten_thousand_calls_are_answered_in_order_both_ways() {
    let (near, far) = sockets().await;
    let (mut client, mut server) = greet(near, far).await;
    const CALLS: u64 = 10_000;
    for id in 0..CALLS {
        client.send(call(id, id.to_be_bytes().to_vec()));
        server.send(call(id, vec![9; (id % 700) as usize]));
    }
    for id in 0..CALLS {
        let body = id.to_be_bytes().to_vec().into();
        assert_eq!(client.frame().await, Frame::Reply(Reply { id, body }));
        let body = vec![9; (id % 700) as usize].into();
        assert_eq!(server.frame().await, Frame::Reply(Reply { id, body }));
    }
}

#[tokio::test]
async fn frames_cut_into_single_bytes_are_put_together() {
    let (mut client, _server) = pair(1).await;
    client.send(call(1, vec![1; 100]));
    client.send(call(2, vec![2; 3_000]));
    assert_eq!(client.frame().await, Frame::Reply(Reply { id: 1, body: vec![1; 100].into() }));
    assert_eq!(client.frame().await, Frame::Reply(Reply { id: 2, body: vec![2; 3_000].into() }));
}

#[tokio::test]
async fn the_largest_frames_cross_each_other() {
    // Both ends send more than either queues: writing must not keep them from reading.
    let (mut client, mut server) = pair(64 << 10).await;
    let reply = |id: u64| Frame::Reply(Reply { id, body: vec![id as u8; 16 << 20].into() });
    for id in 0..4 {
        client.send(reply(id));
        server.send(reply(id));
    }
    for id in 0..4 {
        assert!(client.frame().await == reply(id));
        assert!(server.frame().await == reply(id));
    }
}

/// A transport that counts its writes and the slices in them.
struct Counting {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
    largest: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let largest = bufs.iter().map(|buf| buf.len()).max().unwrap_or(0);
        self.largest.fetch_max(largest, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn counting() -> (Peer, Peer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (near, far) = tokio::io::duplex(64 << 20);
    let (writes, largest) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let near = Counting { inner: near, writes: writes.clone(), largest: largest.clone() };
    let (mut client, mut server) = (Peer::client(near), Peer::server(far));
    assert!(matches!(server.next().await, Called::Hello(_)));
    assert!(matches!(client.next().await, Called::Welcome(_)));
    (client, server, writes, largest)
}

#[tokio::test]
async fn messages_that_wait_together_are_written_at_once() {
    let (mut client, _server, writes, _) = counting().await;
    let before = writes.load(Ordering::Relaxed);
    // One thread, no await: the task sees all of it together.
    for id in 0..400 {
        client.send(call(id, vec![1; 64]));
    }
    for _ in 0..400 {
        client.frame().await;
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
}

#[tokio::test]
async fn a_large_body_is_a_slice_of_its_own() {
    let (mut client, _server, writes, largest) = counting().await;
    let before = writes.load(Ordering::Relaxed);
    client.send(call(1, vec![1; 16 << 20]));
    client.frame().await;
    assert_eq!(largest.load(Ordering::Relaxed), 16 << 20);
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
}
