//! Several connections with one id.

use limes_sdk::{Bytes, Service};

use super::peer::Peer;
use crate::support::{Bed, PATIENCE};

/// A service that gives each edge the id 7000 plus the number in its meta.
pub(super) async fn service_of_ids(bed: &Bed, node: usize) -> Service {
    let service = bed.service(node, "ids").await;
    let give = |call: limes_sdk::Call| async move {
        let id: u64 = String::from_utf8_lossy(&call.body[10..12]).parse().unwrap_or(1);
        Ok(Bytes::copy_from_slice(&(7_000 + id).to_be_bytes()))
    };
    service.register("get_edge_id", give).await.unwrap();
    service
}

/// The reference's issue 107: there, such an edge is unreachable until the old connection ends.
#[tokio::test]
async fn an_edge_replaces_its_stale_connection() {
    let bed = Bed::start(3).await;
    let service = service_of_ids(&bed, 3).await;
    let mut old = Peer::edge(&bed.edges(1), "42").await;
    assert_eq!(old.accepted().await, 7_042);
    // From now on the old connection is open and silent.
    let mut new = Peer::edge(&bed.edges(1), "42").await;
    assert_eq!(new.accepted().await, 7_042);
    let call = service.call_within(7_042, "who", "x", PATIENCE);
    let (answer, ()) = tokio::join!(call, new.answer("new"));
    assert_eq!(answer.unwrap(), "new");
    // The node closes it without its help, before the silence of two heartbeats would.
    assert!(old.next().await.is_none());
}

#[tokio::test]
async fn two_services_are_granted_the_id_that_both_ask_for() {
    let bed = Bed::start(1).await;
    let mut services = Vec::new();
    for _ in 0..2 {
        let mut service = Peer::unnamed_service(&bed.services(1), 4_711).await;
        assert_eq!(service.accepted().await, 4_711);
        services.push(service);
    }
}
