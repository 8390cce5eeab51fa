//! What services are asked and told about edges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use limes_sdk::{ConnectError, Edge, Failed, Service};
use support::{Bed, PATIENCE, callable};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// A service that tells of the edges that have gone.
async fn mourner(bed: &Bed, node: usize) -> (Service, UnboundedReceiver<u64>) {
    let service = bed.service(node, "mourner").await;
    let (tell, gone) = unbounded_channel();
    service
        .on_edge_offline(move |edge| {
            let _ = tell.send(edge.edge);
            async { Ok(()) }
        })
        .await
        .unwrap();
    (service, gone)
}

#[tokio::test]
async fn a_service_decides_ids_and_who_may_come() {
    let bed = Bed::start(3).await;
    let service = bed.service(3, "doorman").await;
    service.on_get_edge_id(|edge| async move { Ok(1_000 + edge.meta.len() as u64) }).await.unwrap();
    service
        .on_edge_online(|edge| async move {
            if &edge.meta[..] == b"burglar" { Err(Failed::new("not you")) } else { Ok(()) }
        })
        .await
        .unwrap();
    let edge = Edge::builder().address(bed.edges(1)).meta("guest").connect().await.unwrap();
    assert_eq!(edge.id(), 1_005);
    let refused = Edge::builder().address(bed.edges(2)).meta("burglar").connect().await;
    match refused {
        Err(ConnectError::Refused { text, .. }) => assert!(text.contains("not you"), "{text}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_an_edge_is_told() {
    let bed = Bed::start(3).await;
    let (_service, mut gone) = mourner(&bed, 2).await;
    let edge = bed.edge(1).await;
    let id = edge.id();
    edge.close().await;
    assert_eq!(timeout(PATIENCE, gone.recv()).await.expect("told"), Some(id));
}

#[tokio::test]
async fn the_end_of_an_edge_is_told_also_when_its_node_died() {
    let bed = Bed::start_with(3, |config| {
        support::patient(config);
        config.cluster.suspend_grace = Duration::from_secs(2);
    })
    .await;
    let (_, home, other) = bed.roles().await;
    let (service, mut gone) = mourner(&bed, other).await;
    let edge = bed.edge(home).await;
    let id = edge.id();
    callable(&service, id).await;
    bed.cluster.kill9(home).await.unwrap();
    edge.close().await;
    let told = timeout(PATIENCE, gone.recv()).await.expect("told");
    assert_eq!(told, Some(id));
}
