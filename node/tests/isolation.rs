//! A node that has lost the others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use limes_sdk::{Edge, State};
use support::{Bed, callable, until};
use tokio::sync::watch;

#[tokio::test]
async fn a_node_alone_serves_whom_it_has_refuses_newcomers_and_sends_its_clients_elsewhere() {
    let bed = Bed::start(3).await;
    let service = bed.service(1, "greeter").await;
    let edge = bed.edge(1).await;
    let id = edge.id();
    assert_eq!(edge.call("echo", "before").await.unwrap(), "before");
    for other in [2, 3] {
        bed.cluster.stop_signal(other).unwrap();
    }
    until("it says that it is alone", || async { bed.log(1).contains("no quorum: this node").then_some(()) })
        .await;
    for _ in 0..100 {
        assert_eq!(edge.call("echo", "there").await.unwrap(), "there");
        assert_eq!(service.call(id, "echo", "back").await.unwrap(), "back");
    }
    let newcomer = Edge::builder().address(bed.edges(1)).connect_timeout(Duration::from_secs(5)).connect();
    assert!(newcomer.await.is_err(), "nobody can agree to a newcomer");
    until("it is told why", || async { bed.log(1).contains("NO_QUORUM by us").then_some(()) }).await;
    for other in [2, 3] {
        bed.cluster.cont_signal(other).unwrap();
    }
    let elsewhere = |state: watch::Receiver<State>| matches!(&*state.borrow(), State::Connected(node) if node != "node-1");
    until("the edge has gone elsewhere", || async { elsewhere(edge.state()).then_some(()) }).await;
    until("the service has gone elsewhere", || async { elsewhere(service.state()).then_some(()) }).await;
    assert_eq!(edge.id(), id, "it has kept its id");
    callable(&service, id).await;
    assert_eq!(edge.call("echo", "after").await.unwrap(), "after");
    bed.edge(1).await;
}
