//! The reference's control plane and directory, over gRPC, on any node.

use std::time::Duration;

use crate::support::program::output;
use crate::support::{self, Bed, brisk, until};
use limes_api::control::control_plane_client::ControlPlaneClient;
use limes_api::control::{
    GetEdgeRequest, KickEdgeRequest, KickServiceRequest, ListEdgesRequest, ListServiceRpCsRequest,
    ListServiceTopicsRequest, ListServicesRequest,
};
use limes_api::discovery::cluster_service_client::ClusterServiceClient;
use limes_api::discovery::cluster_service_server::{ClusterService, ClusterServiceServer};
use limes_api::discovery::health_client::HealthClient;
use limes_api::discovery::{
    self, GetEdgeByIdRequest, GetEdgesCountRequest, GetFrontierByEdgeIdRequest, HealthCheckRequest,
    ListFrontiersRequest,
};
use limes_node::config::Addr;
use limes_sdk::{Edge, Service};
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::Channel;

async fn control(bed: &Bed, node: usize) -> ControlPlaneClient<Channel> {
    let addr = bed.cluster.node(node).addresses().control;
    ControlPlaneClient::connect(format!("http://{addr}")).await.unwrap()
}

async fn directory(bed: &Bed, node: usize) -> ClusterServiceClient<Channel> {
    let addr = bed.cluster.node(node).addresses().discovery;
    ClusterServiceClient::connect(format!("http://{addr}")).await.unwrap()
}

async fn edge(bed: &Bed, node: usize, meta: &'static str) -> Edge {
    Edge::builder()
        .address(bed.edges(node))
        .meta(meta)
        .connect_timeout(support::PATIENCE)
        .connect()
        .await
        .unwrap()
}

async fn alarms(bed: &Bed, node: usize) -> Service {
    let service = bed.service(node, "alarms").await;
    service.subscribe(["fire", "flood"]).await.unwrap();
    service
}

#[tokio::test]
async fn a_cluster_answers_as_one_and_an_isolated_node_with_an_error() {
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        config.cluster.down_after = Some(Duration::from_millis(1_500));
    })
    .await;
    any_node_lists_and_kicks_edges_of_the_whole_cluster(&bed).await;
    services_are_listed_by_what_they_offer_and_kicked(&bed).await;
    let last = names_stay_listed_and_lead_to_live_nodes(&bed).await;
    an_isolated_node_answers_with_an_error(&bed, last).await;
}

async fn any_node_lists_and_kicks_edges_of_the_whole_cluster(bed: &Bed) {
    let mut edges = Vec::new();
    for (node, meta) in [(1, "beta-1"), (2, "beta-2"), (3, "gamma")] {
        edges.push(edge(bed, node, meta).await);
    }
    let addresses = bed.cluster.node(2).addresses();
    ordinary(&addresses.control, &["controlplane.ControlPlane", "limes.v1.Limes"]).await;
    ordinary(&addresses.discovery, &["controlplane.ClusterService", "controlplane.Health"]).await;
    let mut control = control(bed, 2).await;
    let list = |meta: &str, page, page_size| ListEdgesRequest {
        meta: Some(meta.into()),
        page,
        page_size,
        order: Some("+meta".into()),
        ..Default::default()
    };
    let all = control.list_edges(list("", 0, 0)).await.unwrap().into_inner();
    assert_eq!((all.edges.len(), all.count), (3, 3));
    let beta = control.list_edges(list("beta", 2, 1)).await.unwrap().into_inner();
    assert_eq!((beta.edges.len(), beta.edges[0].meta.as_str(), beta.count), (1, "beta-2", 2));
    let request = KickEdgeRequest { edge_id: edges[2].id() };
    // A kicked native edge may reconnect at once: what ends is its session.
    let mut state = edges[2].state();
    control.kick_edge(request).await.unwrap();
    tokio::time::timeout(support::PATIENCE, state.changed()).await.expect("kicked").unwrap();
    let unknown = control.kick_edge(KickEdgeRequest { edge_id: 42 }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "edge not online"));
    let unknown = control.get_edge(GetEdgeRequest { edge_id: 42 }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "not found"));
    for edge in edges {
        edge.close().await;
    }
}

/// What generic gRPC clients expect of a port: the health of each service, and reflection v1 and v1alpha.
async fn ordinary(addr: &str, services: &[&str]) {
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in services.iter().chain(&[""]) {
        let request = tonic_health::pb::HealthCheckRequest { service: (*service).to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::ServingStatus::Serving as i32, "{service}");
    }
    let request = tonic_health::pb::HealthCheckRequest { service: "no.such".into() };
    let unknown = health.check(request).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "unknown service"));
    macro_rules! reflects {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let ask = tonic_reflection::pb::$version::ServerReflectionRequest {
                message_request: Some(MessageRequest::ListServices(String::new())),
                ..Default::default()
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap();
            let answer = answers.into_inner().message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
                panic!("{answer:?}")
            };
            let listed: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
            for service in services.iter().chain(&["grpc.health.v1.Health"]) {
                assert!(listed.iter().any(|name| name == service), "{service} is not among {listed:?}");
            }
        }};
    }
    reflects!(v1);
    reflects!(v1alpha);
    grpcurl(addr, services).await;
}

/// The same with grpcurl, where it is installed.
async fn grpcurl(addr: &str, services: &[&str]) {
    let run = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("grpcurl");
        command.args(["-plaintext", "-max-time", "60"]).args(arguments);
        match output(&mut command).await {
            Err(error) => {
                eprintln!("SKIPPED: gRPC by grpcurl: {error}");
                None
            }
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{arguments:?}: {stderr}");
                Some(String::from_utf8(output.stdout).unwrap())
            }
        }
    };
    let Some(listed) = run(&[addr, "list"]).await else { return };
    for service in services {
        assert!(listed.lines().any(|line| line == *service), "{service} is not among {listed}");
        let described = run(&[addr, "describe", service]).await.unwrap();
        assert!(described.contains("rpc "), "{described}");
    }
    let (method, wanted) = match services[0] {
        "controlplane.ControlPlane" => ("controlplane.ControlPlane/ListEdges", "\"count\": 3"),
        _ => ("controlplane.ClusterService/ListFrontiers", "\"frontierId\": \"node-3\""),
    };
    let answer = run(&["-d", "{}", addr, method]).await.unwrap();
    assert!(answer.contains(wanted), "{answer}");
}

async fn services_are_listed_by_what_they_offer_and_kicked(bed: &Bed) {
    let (alarms, other) = (alarms(bed, 1).await, bed.service(3, "other").await);
    let mut control = control(bed, 2).await;
    let by = |rpc: &str, topic: &str| ListServicesRequest {
        rpc: Some(rpc.into()),
        topic: Some(topic.into()),
        order: Some("service_id".into()),
        ..Default::default()
    };
    let found = |list: limes_api::control::ListServicesResponse| {
        (list.services.iter().map(|s| s.service.clone()).collect::<Vec<_>>(), list.count)
    };
    let echo = found(control.list_services(by("echo", "")).await.unwrap().into_inner());
    assert_eq!(echo, (vec!["alarms".into(), "other".into()], 2));
    let both = found(control.list_services(by("echo", "fire")).await.unwrap().into_inner());
    assert_eq!(both, (vec!["alarms".into()], 1));
    let rpcs = ListServiceRpCsRequest { service: Some("ALAR".into()), ..Default::default() };
    let rpcs = control.list_service_rp_cs(rpcs).await.unwrap().into_inner();
    assert_eq!((rpcs.rpcs, rpcs.count), (vec!["echo".into(), "who".into()], 2));
    let topics = ListServiceTopicsRequest { service_id: Some(alarms.id()), ..Default::default() };
    let topics = control.list_service_topics(topics).await.unwrap().into_inner();
    assert_eq!((topics.topics, topics.count), (vec!["fire".into(), "flood".into()], 2));
    let mut state = other.state();
    control.kick_service(KickServiceRequest { service_id: other.id() }).await.unwrap();
    tokio::time::timeout(support::PATIENCE, state.changed()).await.expect("kicked").unwrap();
    let unknown = control.kick_service(KickServiceRequest { service_id: 4_242 }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "edge not online"));
    for service in [alarms, other] {
        service.close().await;
    }
}

/// Returns the node that was asked; one of the others is dead afterwards.
async fn names_stay_listed_and_lead_to_live_nodes(bed: &Bed) -> usize {
    let (_, home, other) = bed.roles().await;
    let edge = edge(bed, home, "cached").await;
    let mut asked = directory(bed, other).await;
    let all = asked.list_frontiers(ListFrontiersRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> = all.frontiers.iter().map(|node| node.frontier_id.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    for (at, node) in (1..=3).zip(&all.frontiers) {
        assert_eq!(node.advertised_sb_addr, bed.services(at));
        assert_eq!(node.advertised_eb_addr, bed.edges(at));
    }
    let by_edge = GetFrontierByEdgeIdRequest { edge_id: edge.id() };
    let found = asked.get_frontier_by_edge(by_edge).await.unwrap().into_inner().fontier.unwrap();
    assert_eq!(found.frontier_id, format!("node-{home}"));
    bed.cluster.kill9(home).await.unwrap();
    let dead = bed.services(home);
    let all = until("the dead node's name leads elsewhere", || {
        let mut asked = asked.clone();
        let dead = dead.clone();
        async move {
            let all = asked.list_frontiers(ListFrontiersRequest::default()).await.ok()?.into_inner();
            all.frontiers.iter().all(|node| node.advertised_sb_addr != dead).then_some(all)
        }
    })
    .await;
    assert_eq!(all.frontiers.len(), 3, "the name is kept: {all:?}");
    let gone = asked.get_frontier_by_edge(GetFrontierByEdgeIdRequest { edge_id: 1 }).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "redis: nil"));
    edge.close().await;
    other
}

#[tokio::test]
async fn the_directory_lists_pages_and_counts() {
    let (old, old_addr) = old_directory().await;
    let upstream = Addr::new("127.0.0.1", old_addr.port());
    let bed = Bed::start_with(1, move |config| {
        support::patient(config);
        config.discovery.upstream = Some(upstream.clone());
    })
    .await;
    let mut edges = Vec::new();
    for _ in 0..12 {
        edges.push(edge(&bed, 1, "one of many").await);
    }
    let _service = alarms(&bed, 1).await;
    let mut asked = directory(&bed, 1).await;
    let count = asked.get_edges_count(GetEdgesCountRequest {}).await.unwrap().into_inner().count;
    assert_eq!(count, 12);
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        let request =
            discovery::ListEdgesRequest { cursor: Some(cursor), count: Some(5), ..Default::default() };
        let page = asked.list_edges(request).await.unwrap().into_inner();
        seen.extend(page.edges.iter().map(|edge| edge.edge_id));
        cursor = page.cursor.expect("a cursor");
        if cursor == 0 {
            break;
        }
    }
    seen.sort_unstable();
    let mut ids: Vec<_> = edges.iter().map(Edge::id).collect();
    ids.sort_unstable();
    assert_eq!(seen, ids);
    let some = discovery::ListEdgesRequest { edge_ids: vec![ids[3], 7, ids[1]], ..Default::default() };
    let some = asked.list_edges(some).await.unwrap().into_inner().edges;
    assert_eq!(some.iter().map(|edge| edge.edge_id).collect::<Vec<_>>(), [ids[3], ids[1]]);
    let nothing = asked.list_edges(discovery::ListEdgesRequest::default()).await.unwrap_err();
    assert_eq!((nothing.code(), nothing.message()), (Code::InvalidArgument, "illegal request"));
    beside_the_old_directory(&mut asked, ids[0], old).await;
}

/// Both systems side by side: the names of both, edges of limes first, and the last known list while the old
/// directory is unavailable.
async fn beside_the_old_directory(
    asked: &mut ClusterServiceClient<Channel>,
    edge: u64,
    old: oneshot::Sender<()>,
) {
    let list = async |asked: &mut ClusterServiceClient<Channel>, request| {
        let all = asked.list_frontiers(request).await.unwrap().into_inner().frontiers;
        all.into_iter().map(|node| node.frontier_id).collect::<Vec<_>>()
    };
    let home = async |asked: &mut ClusterServiceClient<Channel>, edge_id| {
        let found = asked.get_frontier_by_edge(GetFrontierByEdgeIdRequest { edge_id }).await;
        found.map(|found| found.into_inner().fontier.unwrap().frontier_id)
    };
    let by_edges = ListFrontiersRequest { edge_ids: vec![edge, OLD_EDGE], ..Default::default() };
    let by_names = ListFrontiersRequest { frontier_ids: vec!["old-1".into()], ..Default::default() };
    let everyone = ["node-1", "old-1", "node-1@upstream"];
    assert_eq!(list(asked, ListFrontiersRequest::default()).await, everyone);
    // An old node with the name of one of our nodes is a node of its own, also as the home of edges.
    let twin = ListFrontiersRequest { edge_ids: vec![TWINS_EDGE], ..Default::default() };
    assert_eq!(list(asked, twin).await, ["node-1@upstream"]);
    let twin = ListFrontiersRequest { frontier_ids: vec!["node-1@upstream".into()], ..Default::default() };
    let twin = asked.list_frontiers(twin).await.unwrap().into_inner().frontiers;
    assert_eq!(twin[0].advertised_sb_addr, "192.0.2.8:1");
    assert_eq!(home(asked, TWINS_EDGE).await.unwrap(), "node-1@upstream");
    let row = asked.get_edge_by_id(GetEdgeByIdRequest { edge_id: TWINS_EDGE }).await.unwrap().into_inner();
    assert_eq!(row.edge.unwrap().frontier_id, "node-1@upstream");
    assert_eq!(list(asked, by_edges).await, ["node-1", "old-1"]);
    assert_eq!(list(asked, by_names).await, ["old-1"]);
    assert_eq!(home(asked, edge).await.unwrap(), "node-1");
    assert_eq!(home(asked, OLD_EDGE).await.unwrap(), "old-1");
    let row = asked.get_edge_by_id(GetEdgeByIdRequest { edge_id: OLD_EDGE }).await.unwrap().into_inner();
    assert_eq!(row.edge.unwrap().addr, "192.0.2.1:7");
    let unknown = home(asked, 5).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "redis: nil"));
    drop(old);
    until("the old directory is unavailable", || {
        let mut asked = asked.clone();
        async move { home(&mut asked, 5).await.is_err_and(|e| e.code() == Code::Unavailable).then_some(()) }
    })
    .await;
    assert_eq!(list(asked, ListFrontiersRequest::default()).await, everyone, "the names stay listed");
    assert_eq!(home(asked, edge).await.unwrap(), "node-1");
}

/// An edge that only the old directory knows.
const OLD_EDGE: u64 = 424_242;
/// An edge of the old node that has the name of our node.
const TWINS_EDGE: u64 = 424_243;

/// Stands for the reference's directory, with its error texts.
struct OldDirectory;

#[tonic::async_trait]
impl ClusterService for OldDirectory {
    async fn list_frontiers(
        &self,
        _: tonic::Request<ListFrontiersRequest>,
    ) -> Result<tonic::Response<discovery::ListFrontiersResponse>, tonic::Status> {
        // One has no address, as after a loss of the directory's store, and one has the name of our node.
        let frontiers = vec![old("old-1", "192.0.2.9:30011"), old("old-2", ""), old("node-1", "192.0.2.8:1")];
        Ok(tonic::Response::new(discovery::ListFrontiersResponse { cursor: None, frontiers }))
    }

    async fn get_frontier_by_edge(
        &self,
        request: tonic::Request<GetFrontierByEdgeIdRequest>,
    ) -> Result<tonic::Response<discovery::GetFrontierByEdgeIdResponse>, tonic::Status> {
        match request.into_inner().edge_id {
            OLD_EDGE => {
                let fontier = Some(old("old-1", "192.0.2.9:30011"));
                Ok(tonic::Response::new(discovery::GetFrontierByEdgeIdResponse { fontier }))
            }
            TWINS_EDGE => {
                let fontier = Some(old("node-1", "192.0.2.8:1"));
                Ok(tonic::Response::new(discovery::GetFrontierByEdgeIdResponse { fontier }))
            }
            _ => Err(tonic::Status::unknown("redis: nil")),
        }
    }

    async fn get_edge_by_id(
        &self,
        request: tonic::Request<GetEdgeByIdRequest>,
    ) -> Result<tonic::Response<discovery::GetEdgeByIdResponse>, tonic::Status> {
        let edge_id = request.into_inner().edge_id;
        let frontier_id = if edge_id == TWINS_EDGE { "node-1" } else { "old-1" }.to_owned();
        let edge = discovery::Edge { edge_id, addr: "192.0.2.1:7".into(), frontier_id, ..Default::default() };
        Ok(tonic::Response::new(discovery::GetEdgeByIdResponse { edge: Some(edge) }))
    }

    async fn list_edges(
        &self,
        _: tonic::Request<discovery::ListEdgesRequest>,
    ) -> Result<tonic::Response<discovery::ListEdgesResponse>, tonic::Status> {
        Err(tonic::Status::unknown("not asked"))
    }

    async fn get_edges_count(
        &self,
        _: tonic::Request<GetEdgesCountRequest>,
    ) -> Result<tonic::Response<discovery::GetEdgesCountResponse>, tonic::Status> {
        Err(tonic::Status::unknown("not asked"))
    }

    async fn list_services(
        &self,
        _: tonic::Request<discovery::ListServicesRequest>,
    ) -> Result<tonic::Response<discovery::ListServicesResponse>, tonic::Status> {
        Err(tonic::Status::unknown("not asked"))
    }

    async fn get_service_by_id(
        &self,
        _: tonic::Request<discovery::GetServiceByIdRequest>,
    ) -> Result<tonic::Response<discovery::GetServiceByIdResponse>, tonic::Status> {
        Err(tonic::Status::unknown("not asked"))
    }

    async fn get_services_count(
        &self,
        _: tonic::Request<discovery::GetServicesCountRequest>,
    ) -> Result<tonic::Response<discovery::GetServicesCountResponse>, tonic::Status> {
        Err(tonic::Status::unknown("not asked"))
    }
}

fn old(name: &str, addr: &str) -> discovery::Frontier {
    discovery::Frontier {
        frontier_id: name.into(),
        advertised_sb_addr: addr.into(),
        advertised_eb_addr: addr.into(),
    }
}

/// Serves until the sender is dropped.
async fn old_directory() -> (oneshot::Sender<()>, std::net::SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(ClusterServiceServer::new(OldDirectory));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async move { drop(stopped.await) };
    tokio::spawn(async move { server.serve_with_incoming_shutdown(incoming, until).await });
    (stop, addr)
}

async fn an_isolated_node_answers_with_an_error(bed: &Bed, last: usize) {
    let addr = bed.cluster.node(last).addresses().discovery;
    let mut asked = directory(bed, last).await;
    let health = || async {
        let mut health = HealthClient::connect(format!("http://{addr}")).await.ok()?;
        Some(health.check(HealthCheckRequest::default()).await.ok()?.into_inner().status())
    };
    let serving = discovery::health_check_response::ServingStatus::Serving;
    assert_eq!(health().await, Some(serving));
    // The watch sends one message and ends, as the reference's does.
    let mut watcher = HealthClient::connect(format!("http://{addr}")).await.unwrap();
    let mut statuses = watcher.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().map(|status| status.status()), Some(serving));
    let end = tokio::time::timeout(support::PATIENCE, statuses.message()).await.expect("the watch ends");
    assert_eq!(end.unwrap(), None);
    for node in (1..=3).filter(|node| *node != last && bed.cluster.node(*node).pid().is_some()) {
        bed.cluster.kill9(node).await.unwrap();
    }
    let refused = asked.list_frontiers(ListFrontiersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    until("not serving", || async { health().await.filter(|status| *status != serving) }).await;
}
