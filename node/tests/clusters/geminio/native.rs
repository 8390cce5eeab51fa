//! A Go edge and a Go service with native clients on another node and on the same.

use std::path::Path;

use limes_api::control::ListEdgeRpCsRequest;
use limes_api::control::control_plane_client::ControlPlaneClient;
use limes_sdk::{Bytes, Call, CallError, Edge, Failed, Service, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::go;
use crate::support::{Bed, PATIENCE};

/// What the Go edge registers.
const EDGE_METHODS: [&str; 5] = ["custom", "do", "echo", "panic", "slow"];

/// The Go clients are on node 1.
pub(super) async fn go_and_native_clients_work_together(bed: &Bed, program: &Path) {
    let mut held = go(program, "hold", bed, &[1]);
    let go_edge = held.until("held ").await.parse().unwrap();
    let pairing = async |node, name: &'static str| {
        let service = native_service(bed, node, name).await;
        let edge = bed.edge(node).await;
        let pair = GoEdge { service: &service, name, edge: go_edge };
        pair.calls().await;
        pair.messages().await;
        pair.streams().await;
        let pair = GoService { edge: &edge };
        pair.calls().await;
        pair.messages().await;
        pair.streams().await;
        edge.close().await;
        service.close().await;
    };
    tokio::join!(pairing(3, "far"), pairing(1, "near"), its_methods_are_listed(bed, go_edge));
    held.finish().await;
}

/// A service with methods and a topic that end in its name.
async fn native_service(bed: &Bed, node: usize, name: &'static str) -> Service {
    let service = bed.service(node, name).await;
    service.subscribe([format!("news-{name}")]).await.unwrap();
    let fails = |_| async move { Err(Failed::new("native failed")) };
    service.register(&format!("fail-{name}"), fails).await.unwrap();
    let echo = |call: Call| async move { Ok(call.body) };
    service.register(&format!("echo-{name}"), echo).await.unwrap();
    service
}

async fn its_methods_are_listed(bed: &Bed, edge: u64) {
    let control = bed.cluster.node(2).addresses().control;
    let mut control = ControlPlaneClient::connect(format!("http://{control}")).await.unwrap();
    let request = ListEdgeRpCsRequest { edge_id: Some(edge), page: 1, page_size: 9, ..Default::default() };
    let listed = control.list_edge_rp_cs(request).await.unwrap().into_inner();
    assert_eq!((listed.rpcs.as_slice(), listed.count), (&EDGE_METHODS.map(String::from)[..], 5));
}

/// The text of an answer.
fn text(answer: Result<Bytes, CallError>) -> Result<String, CallError> {
    answer.map(|body| String::from_utf8(body.to_vec()).unwrap())
}

/// Echoes five bytes and closes the stream when the other end has closed it: the end is not lost.
async fn echo_hello(far: &mut Stream) {
    let mut text = [0; 5];
    far.read_exact(&mut text).await.unwrap();
    far.write_all(&text).await.unwrap();
    assert_eq!(far.read(&mut text).await.unwrap(), 0);
    far.shutdown().await.unwrap();
}

/// A native service and the Go edge, whose method "do" acts as the call's body says.
struct GoEdge<'a> {
    service: &'a Service,
    name: &'a str,
    edge: u64,
}

impl GoEdge<'_> {
    async fn call(&self, method: &str, body: String) -> Result<String, CallError> {
        text(self.service.call_within(self.edge, method, body, PATIENCE).await)
    }

    async fn calls(&self) {
        let name = self.name;
        assert_eq!(self.call("echo", "down".into()).await.unwrap(), "down");
        let unknown = self.call("nosuch", String::new()).await.unwrap_err();
        assert_eq!(unknown.text(), "no such rpc: nosuch");
        assert_eq!(self.call("do", format!("call - echo-{name} up")).await.unwrap(), "up");
        let failed = self.call("do", format!("call - fail-{name} x")).await.unwrap_err();
        assert_eq!(failed.text(), "native failed");
        let unknown = self.call("do", "call - nosuch x".into()).await.unwrap_err();
        assert_eq!(unknown.text(), "record not found");
    }

    async fn messages(&self) {
        let (service, edge, topic) = (self.service, self.edge, format!("news-{}", self.name));
        let (published, ()) = tokio::join!(self.call("do", format!("publish {topic} fresh")), async {
            let message = service.receive().await.unwrap();
            let got = (message.topic.as_str(), &message.body[..], message.peer);
            assert_eq!(got, (topic.as_str(), &b"fresh"[..], edge));
            message.done();
        });
        published.unwrap();
        let (refused, ()) = tokio::join!(self.call("do", format!("publish {topic} stale")), async {
            service.receive().await.unwrap().error("too old");
        });
        assert_eq!(refused.unwrap_err().text(), "too old");
        service.publish(edge, "any", "down").await.unwrap();
        assert_eq!(service.publish(edge, "any", "bad").await.unwrap_err().text(), "no legs");
    }

    async fn streams(&self) {
        // From Go; the call inside the stream fails, because native streams carry bytes only.
        let (carried, ()) = tokio::join!(self.call("do", format!("stream {} hello", self.name)), async {
            let mut far = self.service.accept_stream().await.unwrap();
            assert_eq!((far.peer, &far.meta[..]), (self.edge, &b"from go"[..]));
            echo_hello(&mut far.stream).await;
        });
        assert_eq!(carried.unwrap(), "hello / no such rpc: inner");
        // To Go, which echoes.
        let mut near = self.service.open_stream(self.edge, "", "").await.unwrap();
        let data = vec![7; 256 << 10];
        let mut back = vec![0; data.len()];
        let (mut read, mut write) = tokio::io::split(&mut near);
        let (written, read) = tokio::join!(write.write_all(&data), read.read_exact(&mut back));
        written.unwrap();
        read.unwrap();
        assert_eq!(back, data);
        near.shutdown().await.unwrap();
        assert_eq!(near.read(&mut back).await.unwrap(), 0);
    }
}

/// A native edge and the Go service, whose method "go-do" acts as the call's body says.
struct GoService<'a> {
    edge: &'a Edge,
}

impl GoService<'_> {
    async fn call(&self, method: &str, body: String) -> Result<String, CallError> {
        text(self.edge.call_within(method, body, PATIENCE).await)
    }

    async fn calls(&self) {
        let id = self.edge.id();
        assert_eq!(self.call("go-echo", "up".into()).await.unwrap(), "up");
        assert_eq!(self.call("go-fail", String::new()).await.unwrap_err().text(), "go failed");
        assert_eq!(self.call("go-do", format!("call {id} echo down")).await.unwrap(), "down");
        let unknown = self.call("go-do", format!("call {id} nosuch x")).await.unwrap_err();
        assert_eq!(unknown.text(), "no such rpc: nosuch");
        let offline = self.call("go-do", "call 4242424242 echo x".into()).await.unwrap_err();
        assert_eq!(offline.text(), "edge not online");
    }

    async fn messages(&self) {
        let edge = self.edge;
        edge.publish("go-topic", "fresh").await.unwrap();
        assert_eq!(edge.publish("go-topic", "bad").await.unwrap_err().text(), "no legs");
        let (published, ()) =
            tokio::join!(self.call("go-do", format!("publish {} down", edge.id())), async {
                let message = edge.receive().await.unwrap();
                assert_eq!(&message.body[..], b"down");
                message.done();
            });
        published.unwrap();
    }

    async fn streams(&self) {
        let edge = self.edge;
        let (carried, ()) = tokio::join!(self.call("go-do", format!("stream {} hello", edge.id())), async {
            let mut far = edge.accept_stream().await.unwrap();
            echo_hello(&mut far.stream).await;
        });
        assert_eq!(carried.unwrap(), "hello / no such rpc: inner");
        let mut near = edge.open_stream("go-service", "meta").await.unwrap();
        near.write_all(b"question").await.unwrap();
        let mut text = [0; 8];
        near.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"question");
        near.shutdown().await.unwrap();
        assert_eq!(near.read(&mut text).await.unwrap(), 0);
    }
}
