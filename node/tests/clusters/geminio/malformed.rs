//! Packets that violate the protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Bed, PATIENCE};

/// The header of a packet and its id, 1.
fn head(kind: u8, len: u32) -> Vec<u8> {
    [&[1, kind, 0, 0, 0, 0, 0, 0, 0, 1][..], &len.to_be_bytes()].concat()
}

/// Fixed parts that are too short, bodies that are too long, and unknown types; as the first packet of a
/// connection and behind a valid one.
fn packets() -> Vec<Vec<u8>> {
    let conn = [head(1, 12), vec![0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"{}".to_vec()].concat();
    let mut packets: Vec<Vec<u8>> = vec![
        head(0x02, 0),
        head(0x31, 0),
        head(0x01, 3),
        [head(0x01, 9), vec![0; 20]].concat(),
        head(0x01, u32::MAX),
        head(0x51, 10 << 20),
        [head(0x01, 12), vec![0x18; 10], b"{]".to_vec()].concat(),
        [1, 0xff].repeat(40),
        [conn.clone(), conn.clone()].concat(),
    ];
    for (kind, len) in
        [(0x12, 0), (0x31, 9), (0x41, 0), (0x42, 7), (0x73, 8), (0x71, 7), (0x99, 0), (0x61, 0x00a0_0001)]
    {
        packets.push([conn.clone(), head(kind, len), vec![0; len.min(64) as usize]].concat());
    }
    packets
}

#[tokio::test]
async fn malformed_packets_close_only_their_own_connection() {
    let bed = Bed::start(1).await;
    let (edge, service) = (bed.edge(1).await, bed.service(1, "victim").await);
    service.register("alive", |call| async move { Ok(call.body) }).await.unwrap();
    let packets = packets();
    // At the same time: some connections are closed only when the time for the handshake is over.
    let ends = packets.iter().flat_map(|packet| {
        [bed.edges(1), bed.services(1)].map(|addr| {
            let edge = &edge;
            async move {
                let mut socket = TcpStream::connect(&addr).await.unwrap();
                socket.write_all(packet).await.unwrap();
                // An end or an error: the node may reset a connection that it has not read to its end.
                let closed = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
                assert!(closed.is_ok(), "{:x?} leaves its connection open", &packet[..14.min(packet.len())]);
                assert_eq!(edge.call_within("alive", "alive", PATIENCE).await.unwrap(), "alive");
            }
        })
    });
    futures::future::join_all(ends).await;
}
