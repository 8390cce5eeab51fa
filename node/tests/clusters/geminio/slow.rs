//! Clients that do not read, and deadlines of clients whose clocks differ.

use std::time::{Duration, SystemTime};

use limes_sdk::Bytes;
use limes_wire::geminio::{Body, MessageData, Packet, SessionData, StreamPacket, Time};

use super::peer::Peer;
use super::takeover::service_of_ids;
use crate::support::{Bed, PATIENCE};

#[tokio::test]
async fn an_edge_that_does_not_read_does_not_hold_up_others() {
    let bed = Bed::start(3).await;
    let service = service_of_ids(&bed, 3).await;
    let mut other = Peer::edge(&bed.edges(1), "42").await;
    assert_eq!(other.accepted().await, 7_042);
    let mut deaf = Peer::edge(&bed.edges(1), "43").await;
    assert_eq!(deaf.accepted().await, 7_043);
    // Its queue fills.
    let big = Bytes::from(vec![7; 2 << 20]);
    let calls = (0..5).map(|_| service.call_within(7_043, "who", big.clone(), Duration::from_secs(1)));
    let stuck = futures::future::join_all(calls);
    let served = service.call_within(7_042, "who", "x", PATIENCE);
    let (stuck, served, ()) = tokio::join!(stuck, served, other.answer("here"));
    assert_eq!(served.unwrap(), "here");
    assert!(stuck.iter().all(Result::is_err), "{stuck:?}");
}

/// The service's connection is read on, so that its other requests do not wait.
#[tokio::test]
async fn a_stream_to_an_edge_that_does_not_read_is_closed() {
    let bed = Bed::start(1).await;
    let mut deaf = Peer::edge(&bed.edges(1), "deaf").await;
    let deaf_id = deaf.accepted().await.to_string();
    let mut service = Peer::service(&bed, 1, "bulk").await;
    let (negotiate, data) = (1 << 62, SessionData { peer: deaf_id, ..SessionData::default() });
    service.send(3, Body::Session { acquire: true, negotiate, data }).await;
    let Packet { id, body: Body::Session { negotiate: at, .. } } = deaf.packet().await else { panic!() };
    let taken = Body::SessionAck { negotiate: at, session: at, data: SessionData::default() };
    deaf.send(id, taken).await;
    let Packet { body: Body::SessionAck { session, .. }, .. } = service.packet().await else { panic!() };
    // More than the sockets on the way and the queue of a stream hold.
    let piece = Bytes::from(vec![7; 1 << 20]);
    for id in 0..64 {
        service.send(100 + id, Body::Stream(session, StreamPacket::Data(piece.clone()))).await;
    }
    let edge = bed.edge(1).await;
    let (answer, ()) = tokio::join!(edge.call_within("bulk", "x", PATIENCE), async {
        let (mut answered, mut dismissed) = (false, false);
        while !answered || !dismissed {
            match service.packet().await {
                Packet { id, body: Body::Stream(1, StreamPacket::Request(call)) } => {
                    service.respond(id, call, "read on").await;
                    answered = true;
                }
                Packet { body: Body::Dismiss { session: at, .. }, .. } => dismissed |= at == session,
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(answer.unwrap(), "read on");
    assert_eq!(bed.metric(1, "limes_slow_streams_total").await, 1);
}

/// Such a deadline means that the clocks differ.
#[tokio::test]
async fn a_call_whose_deadline_has_passed_on_arrival_is_served() {
    let bed = Bed::start(1).await;
    let _service = bed.service(1, "ids").await;
    let mut edge = Peer::edge(&bed.edges(1), "42").await;
    edge.accepted().await;
    let past = Some(Time::after(SystemTime::now() - Duration::from_secs(3_600), Duration::ZERO));
    let late = MessageData { key: "who".into(), deadline: past, ..MessageData::default() };
    edge.send(77, Body::Stream(1, StreamPacket::Request(late))).await;
    let Packet { id: 77, body: Body::Stream(1, StreamPacket::Response(answer)) } = edge.packet().await else {
        panic!()
    };
    assert_eq!((&answer.value[..], answer.error.as_str()), (&b"ids"[..], ""));
}
