//! What services are asked and told about edges; that they are told also when the edge's node died is in
//! `failures`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use limes_sdk::{ConnectError, Edge, Failed};
use support::{Bed, PATIENCE};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_told_of_ends_and_decides_ids_and_who_may_come() {
    let bed = Bed::start(3).await;
    the_end_of_an_edge_is_told(&bed).await;
    a_service_decides_ids_and_who_may_come(&bed).await;
}

async fn the_end_of_an_edge_is_told(bed: &Bed) {
    let (_service, mut gone) = bed.mourner(2).await;
    let edge = bed.edge(1).await;
    let id = edge.id();
    edge.close().await;
    assert_eq!(timeout(PATIENCE, gone.recv()).await.expect("told"), Some(id));
}

async fn a_service_decides_ids_and_who_may_come(bed: &Bed) {
    let service = bed.service(3, "doorman").await;
    service.on_get_edge_id(|edge| async move { Ok(1_000 + edge.meta.len() as u64) }).await.unwrap();
    service
        .on_edge_online(|edge| async move {
            if &edge.meta[..] == b"burglar" { Err(Failed::new("not you")) } else { Ok(()) }
        })
        .await
        .unwrap();
    let edge = Edge::builder()
        .address(bed.edges(1))
        .meta("guest")
        .connect_timeout(PATIENCE)
        .connect()
        .await
        .unwrap();
    assert_eq!(edge.id(), 1_005);
    let refused = Edge::builder().address(bed.edges(2)).meta("burglar").connect().await;
    match refused {
        Err(ConnectError::Refused { text, .. }) => assert!(text.contains("not you"), "{text}"),
        other => panic!("not refused: {other:?}"),
    }
}
