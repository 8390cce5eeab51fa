//! Clients of a node that drains.

use limes_api::discovery::ListFrontiersRequest;
use limes_api::discovery::cluster_service_client::ClusterServiceClient;
use limes_wire::geminio::{Body, Packet, SessionData};

use super::peer::Peer;
use super::{go, go_program};
use crate::support::{Bed, PATIENCE, until};

/// Such a service leaves when it asks again where the nodes are: the name of the node leads elsewhere at
/// once. An edge that cannot leave because of a stream is served as long.
#[tokio::test]
async fn a_leaving_node_serves_its_clients_until_they_leave() {
    let (bed, program) = tokio::join!(Bed::start(3), go_program("a Go edge that leaves a stopping node"));
    let mut service = Peer::service(&bed, 2, "stays").await;
    let edge = bed.edge(1).await;
    let caller = bed.service(1, "caller").await;
    let ((mut busy, busy_id), stream) = tokio::join!(busy_edge(&bed), caller.accept_stream());
    let mut moves = program.map(|program| go(program, "moves", &bed, &[1, 2]));
    if let Some(moves) = &mut moves {
        moves.until("moving").await;
    }
    bed.cluster.terminate(2).unwrap();
    the_name_leads_elsewhere(&bed).await;
    let call = edge.call_within("stays", "x", PATIENCE);
    let (answer, ()) = tokio::join!(call, service.answer("still"));
    assert_eq!(answer.unwrap(), "still");
    let call = caller.call_within(busy_id, "any", "x", PATIENCE);
    let (answer, ()) = tokio::join!(call, busy.answer("here"));
    assert_eq!(answer.unwrap(), "here");
    if let Some(mut moves) = moves {
        // The last line is printed when the edge was called at another node.
        let lines = moves.finish().await;
        assert!(lines.last().is_some_and(|line| line.ends_with(", 0 failed")), "{lines:#?}");
    }
    caller.close().await;
    drop((service, busy, stream));
    bed.cluster.node(2).ended().await;
}

async fn the_name_leads_elsewhere(bed: &Bed) {
    let directory = bed.cluster.node(1).addresses().discovery;
    let directory = ClusterServiceClient::connect(format!("http://{directory}")).await.unwrap();
    let own = bed.services(2);
    until("the name of the node leads elsewhere", || {
        let (mut directory, own) = (directory.clone(), own.clone());
        async move {
            let all = directory.list_frontiers(ListFrontiersRequest::default()).await.ok()?.into_inner();
            assert_eq!(all.frontiers.len(), 3);
            all.frontiers.iter().all(|node| node.advertised_sb_addr != own).then_some(())
        }
    })
    .await;
}

/// An edge on node 2 with a stream to the service "caller" that stays open, and its id.
async fn busy_edge(bed: &Bed) -> (Peer, u64) {
    let mut busy = Peer::edge(&bed.edges(2), "busy").await;
    let id = busy.accepted().await;
    let (negotiate, data) = (1 << 62, SessionData { peer: "caller".into(), ..SessionData::default() });
    busy.send(2, Body::Session { acquire: true, negotiate, data }).await;
    let Packet { body: Body::SessionAck { .. }, .. } = busy.packet().await else { panic!("no stream") };
    (busy, id)
}
