//! Calls, messages and streams in both directions, on one node and across nodes, and their errors.

use std::time::Duration;

use crate::bulk;
use crate::support::bare::Bare;
use crate::support::{Bed, PATIENCE, patient, until};
use limes_sdk::{Bytes, Edge, Kind, Service};
use limes_wire::Code;
use limes_wire::frame::{Call, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Calls that one connection may have in flight.
const CALLS: usize = 256;

#[tokio::test(flavor = "multi_thread")]
async fn calls_messages_and_streams_work_and_fail_exactly() {
    let bed = Bed::start_with(3, |config| {
        patient(config);
        config.limits.calls = CALLS;
    })
    .await;
    both_ways_on_one_node_and_across_nodes(&bed).await;
    errors_are_immediate_and_exact(&bed).await;
    a_dropped_call_is_cancelled_at_its_handler(&bed).await;
    cancelled_calls_release_their_slots(&bed).await;
    bulk::a_stream_to_a_slow_reader_arrives_whole_and_gateways_stay_small(&bed, bulk::BLOCKS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200 MiB: cargo test -p limes-node --test clusters two_hundred -- --ignored"]
async fn two_hundred_mebibytes_to_a_slow_reader() {
    let bed = Bed::start(3).await;
    bulk::a_stream_to_a_slow_reader_arrives_whole_and_gateways_stay_small(&bed, bulk::MANY_BLOCKS).await;
}

async fn calls(edge: &Edge, service: &Service) {
    assert_eq!(edge.call("echo", "up").await.unwrap(), "up");
    assert_eq!(service.call(edge.id(), "echo", "down").await.unwrap(), "down");
    let big = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(edge.call("echo", big.clone()).await.unwrap(), big);
}

async fn messages(edge: &Edge, service: &Service) {
    let (taken, ()) = tokio::join!(edge.publish("alarms", "fire"), async {
        let message = service.receive().await.unwrap();
        assert_eq!(
            (message.topic.as_str(), &message.body[..], message.peer),
            ("alarms", &b"fire"[..], edge.id())
        );
        message.done();
    });
    taken.unwrap();
    let (refused, ()) = tokio::join!(service.publish(edge.id(), "orders", "jump"), async {
        edge.receive().await.unwrap().error("no legs");
    });
    let refused = refused.unwrap_err();
    assert_eq!((refused.kind(), refused.text()), (Kind::Application, "no legs"));
}

async fn streams(edge: &Edge, service: &Service) {
    let mut near = edge.open_stream("greeter", "meta").await.unwrap();
    let mut far = service.accept_stream().await.unwrap();
    assert_eq!((far.peer, &far.meta[..]), (edge.id(), &b"meta"[..]));
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = Vec::new();
    far.stream.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"question");
    far.stream.write_all(b"answer").await.unwrap();
    far.stream.shutdown().await.unwrap();
    text.clear();
    near.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"answer");

    let mut near = service.open_stream(edge.id(), "tcp", "").await.unwrap();
    let far = edge.accept_stream().await.unwrap();
    assert_eq!(far.name, "tcp");
    far.stream.reset("changed my mind").await;
    let error = near.read_to_end(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

async fn both_ways_on_one_node_and_across_nodes(bed: &Bed) {
    for (edge_node, service_node) in [(1, 1), (1, 3), (2, 1)] {
        let edge = bed.edge(edge_node).await;
        let service = bed.service(service_node, "greeter").await;
        service.subscribe(["alarms"]).await.unwrap();
        let all = async {
            calls(&edge, &service).await;
            messages(&edge, &service).await;
            streams(&edge, &service).await;
        };
        timeout(PATIENCE, all).await.expect("stuck");
        edge.close().await;
        service.close().await;
        // In the next round there must be one service of this name.
        until("the service is gone", || async {
            (bed.figure(service_node, "services").await == Some(0)).then_some(())
        })
        .await;
    }
}

async fn errors_are_immediate_and_exact(bed: &Bed) {
    let edge = bed.edge(1).await;
    let service = bed.service(3, "greeter").await;
    service
        .register("slow", |_| async {
            tokio::time::sleep(PATIENCE).await;
            Ok(Bytes::new())
        })
        .await
        .unwrap();
    let error = edge.call("no-such-method", "").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_run()), (Kind::NoMethod, false));
    let error = service.call(4_711, "echo", "").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_run()), (Kind::NoEdge, false));
    let error = service.call(edge.id(), "no-such-method", "").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_run()), (Kind::NoMethod, false));
    let error = edge.publish("no-such-topic", "").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_run()), (Kind::NoService, false));
    let error = edge.open_stream("no-such-service", "").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoService, "{error}");
    let error = service.open_stream(4_711, "tcp", "").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoEdge, "{error}");
    let error = edge.call_within("slow", "", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_run()), (Kind::Timeout, true));
}

async fn a_dropped_call_is_cancelled_at_its_handler(bed: &Bed) {
    /// Notes that the handler's future was dropped.
    struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let edge = bed.edge(2).await;
    let service = bed.service(3, "greeter").await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    service
        .register("long", move |_| {
            let (tell, begin) = (tell.clone(), begin.clone());
            async move {
                let _dropped = Dropped(tell);
                let _ = begin.send(());
                std::future::pending().await
            }
        })
        .await
        .unwrap();
    let call = tokio::spawn(async move { edge.call("long", "").await });
    timeout(PATIENCE, begun.recv()).await.expect("the handler begins");
    call.abort();
    timeout(PATIENCE, told.recv()).await.expect("the handler is dropped");
}

/// Across nodes, for a method that does not answer and for one that no service has registered.
async fn cancelled_calls_release_their_slots(bed: &Bed) {
    let service = bed.service(3, "greeter").await;
    service.register("never", |_| std::future::pending()).await.unwrap();
    let mut edge = Bare::edge(&bed.edges(2)).await;
    for id in 0..4 * CALLS as u64 {
        let method = if id % 2 == 0 { "never" } else { "unregistered" };
        let call = Call { id, deadline: PATIENCE, peer: 0, method: method.into(), body: Bytes::new() };
        edge.send(Frame::Call(call)).await;
        edge.send(Frame::Cancel { id }).await;
    }
    // Some were refused while others were still being cancelled.
    let busy = |frame: &Frame| matches!(frame, Frame::Error(error) if error.code == Code::BUSY);
    loop {
        match edge.call(0, "echo", PATIENCE).await {
            Frame::Reply(_) => break,
            frame => assert!(busy(&frame), "{frame:?}"),
        }
    }
    service.close().await;
}
