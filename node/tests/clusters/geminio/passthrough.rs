//! Connections of other protocols, which a node passes to another gateway (`edgebound.bypass`).

use limes_node::config::Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::peer::Peer;
use crate::support::{self, Bed, PATIENCE};

/// Stands for another gateway: sends back what it has read, in capitals.
async fn shout(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut text = vec![0; 1024];
            while let Ok(len @ 1..) = socket.read(&mut text).await {
                text[..len].make_ascii_uppercase();
                socket.write_all(&text[..len]).await.unwrap();
            }
        });
    }
}

/// A node that passes other protocols to another gateway.
async fn bed() -> Bed {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    tokio::spawn(shout(other));
    Bed::start_with(1, move |config| {
        support::patient(config);
        config.edgebound.bypass_enable = true;
        config.edgebound.bypass.addrs = vec![Addr::new("127.0.0.1", port)];
    })
    .await
}

#[tokio::test]
async fn other_protocols_are_passed_to_the_other_gateway() {
    let bed = bed().await;
    // The last two begin almost like the native protocol and like geminio.
    for (sent, wanted) in [("get /", "GET /"), ("LINK me", "LINK ME"), ("\x01\x02x", "\x01\x02X")] {
        let mut socket = TcpStream::connect(bed.edges(1)).await.unwrap();
        // In two pieces: the first alone does not decide which protocol it is.
        let (first, rest) = sent.split_at(1);
        socket.write_all(first.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = vec![0; wanted.len()];
        timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), wanted);
        socket.shutdown().await.unwrap();
        let end = timeout(PATIENCE, socket.read(&mut answer)).await.expect("the end is passed on").unwrap();
        assert_eq!(end, 0);
    }
}

#[tokio::test]
async fn both_protocols_are_served_beside_the_passthrough() {
    let bed = bed().await;
    let native = bed.edge(1).await;
    let mut geminio = Peer::edge(&bed.edges(1), "x").await;
    assert!(geminio.accepted().await > 0);
    native.close().await;
}
