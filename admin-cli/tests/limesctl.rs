//! Runs `limesctl` as a process against a node in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use limes_node::config::{Addr, NodeConfig};
use limes_node::dev::free_ports;
use limes_sdk::{Bytes, Edge, Service};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Time limit of any step, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node on free ports in this process.
struct Bed {
    control: String,
    edges: String,
    services: String,
    stop: Option<oneshot::Sender<()>>,
    node: JoinHandle<Result<(), limes_node::StartError>>,
    _dir: tempfile::TempDir,
}

impl Bed {
    /// Starts a node and waits until it is ready. Retries on other ports if another process took one meanwhile.
    async fn start() -> Bed {
        for _ in 0..5 {
            let bed = Bed::begin();
            let end = Instant::now() + PATIENCE;
            while !bed.node.is_finished() {
                let status = bed.ctl(&["status", "--json"]).await;
                let status = serde_json::from_slice::<Value>(&status.stdout);
                if status.is_ok_and(|status| status["ready"] == true) {
                    return bed;
                }
                assert!(Instant::now() < end, "the node did not become ready in time");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let ended = bed.node.await.unwrap().unwrap_err().to_string();
            assert!(ended.contains("in use"), "{ended}");
        }
        panic!("no free ports after five attempts");
    }

    fn begin() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(6).unwrap();
        let mut config = NodeConfig::default();
        config.data = dir.path().join("data");
        let listen = [
            &mut config.controlplane.listen,
            &mut config.edgebound.listen,
            &mut config.servicebound.listen,
            &mut config.cluster.listen,
            &mut config.metrics.listen,
            &mut config.discovery.listen,
        ];
        for (listen, port) in listen.into_iter().zip(&ports) {
            listen.addr = Addr::new("127.0.0.1", *port);
        }
        let at = |port: u16| format!("127.0.0.1:{port}");
        let (stop, stopped) = oneshot::channel();
        let node = tokio::spawn(limes_node::run(config, async {
            let _ = stopped.await;
        }));
        let (control, edges, services) = (at(ports[0]), at(ports[1]), at(ports[2]));
        Bed { control, edges, services, stop: Some(stop), node, _dir: dir }
    }

    async fn ctl(&self, args: &[&str]) -> Output {
        ctl(&self.control, args).await
    }

    /// Runs a command until the JSON that it prints satisfies a condition; gives the JSON.
    async fn until(&self, args: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.ctl(args).await;
            if let Ok(value) = serde_json::from_slice::<Value>(&output.stdout)
                && is_wanted(&value)
            {
                return value;
            }
            assert!(Instant::now() < end, "{args:?} did not print the wanted state in time: {output:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn edge(&self, meta: &'static str) -> Edge {
        let edge = Edge::builder().address(&self.edges).meta(meta).connect_timeout(PATIENCE);
        edge.connect().await.unwrap()
    }

    /// A service with the method `greet` and the topic `alarms`.
    async fn service(&self) -> Service {
        let service = Service::builder("greeter").address(&self.services).connect_timeout(PATIENCE);
        let service = service.connect().await.unwrap();
        service.register("greet", |_| async { Ok(Bytes::new()) }).await.unwrap();
        service.subscribe(["alarms"]).await.unwrap();
        service
    }

    async fn end(mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.node.await.unwrap().unwrap();
    }
}

async fn ctl(endpoint: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_limesctl"));
    command.args(["--endpoint", endpoint]).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("{args:?} did not end within {PATIENCE:?}")).unwrap()
}

/// The JSON that a command prints.
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The JSON objects that a command prints, one per line.
fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_members_and_the_leader() {
    let bed = Bed::start().await;
    let status = json(&bed.ctl(&["status", "--json"]).await);
    let node = &status["nodes"][0];
    assert_eq!((&status["leader"], &status["asked"]), (&"node-1".into(), &"node-1".into()), "{status}");
    assert_eq!((&node["name"], &node["voter"], &node["up"]), (&"node-1".into(), &true.into(), &true.into()));
    assert_eq!(node["edges_addr"], bed.edges.as_str());
    let table = text(&bed.ctl(&["status", "--local"]).await.stdout);
    assert!(table.contains(" leader node-1 ") && table.contains("voter"), "{table}");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_edges_and_services_as_soon_as_they_are_acknowledged() {
    let bed = Bed::start().await;
    let (edge, service) = (bed.edge("camera").await, bed.service().await);
    let edges = json(&bed.ctl(&["edge", "list", "--json"]).await);
    let shown = &edges["edges"][0];
    assert_eq!((&shown["id"], &shown["node"]), (&edge.id().into(), &"node-1".into()), "{edges}");
    assert_eq!(shown["meta"], "camera");
    let services = json(&bed.ctl(&["service", "list", "--json", "--node", "1"]).await);
    let shown = &services["services"][0];
    assert_eq!((&shown["id"], &shown["name"]), (&service.id().into(), &"greeter".into()), "{services}");
    assert_eq!(shown["methods"], serde_json::json!(["greet"]));
    assert_eq!(shown["topics"], serde_json::json!(["alarms"]));
    let elsewhere = json(&bed.ctl(&["edge", "list", "--json", "--node", "node-2"]).await);
    assert_eq!(elsewhere["edges"], serde_json::json!([]));

    let table = text(&bed.ctl(&["edge", "list"]).await.stdout);
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|line| line.trim_start().starts_with("EDGE")), "{table}");
    assert!(lines.next().is_some_and(|line| line.contains(&edge.id().to_string())), "{table}");
    let table = text(&bed.ctl(&["service", "list"]).await.stdout);
    assert!(table.contains("greeter") && table.contains("alarms"), "{table}");

    edge.close().await;
    bed.until(&["edge", "list", "--json"], |list| list["edges"] == serde_json::json!([])).await;
    service.close().await;
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_the_state_and_continues_from_a_position() {
    let bed = Bed::start().await;
    let edge = bed.edge("camera").await;
    let state = json_lines(&bed.ctl(&["watch", "--once", "--json"]).await);
    assert!(state.iter().any(|change| change["what"]["Edge"]["id"] == edge.id()), "{state:?}");
    let end = state.last().unwrap();
    assert!(end["what"]["Synced"]["revision"].as_u64() > Some(0), "{end}");
    let position = end["position"].as_str().unwrap().to_owned();
    let nothing = json_lines(&bed.ctl(&["watch", "--from", &position, "--once", "--json"]).await);
    assert_eq!(nothing.len(), 1, "{nothing:?}");

    let other = Edge::builder().address(&bed.edges).connect_timeout(PATIENCE).connect().await.unwrap();
    let since = json_lines(&bed.ctl(&["watch", "--from", &position, "--once", "--json"]).await);
    assert!(since.iter().any(|change| change["what"]["Edge"]["id"] == other.id()), "{since:?}");
    assert!(since.iter().all(|change| change["what"]["Edge"]["id"] != edge.id()), "{since:?}");
    other.close().await;
    bed.until(&["edge", "list", "--json"], |list| list["edges"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    let lines = text(&bed.ctl(&["watch", "--from", &position, "--once"]).await.stdout);
    assert!(lines.contains(&format!("edge {} gone from node-1: ended", other.id())), "{lines}");
    let wrong = bed.ctl(&["watch", "--from", "yesterday", "--once"]).await;
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));
    edge.close().await;
    bed.end().await;
}

#[tokio::test]
async fn failures_are_one_line_on_stderr_and_an_exit_status() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = ctl(&unused, &["status"]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.lines().count() == 1 && stderr.contains(&unused), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(ctl(&unused, &["launch"]).await.status.code(), Some(2));
}

/// A folder like those of `limes dev`, whose one node is this process.
fn dev_folder(bed: &Bed) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node-1");
    std::fs::create_dir(&node).unwrap();
    let listen = |addr: &str| format!("{{listen: {{addr: '{addr}'}}}}");
    let settings = format!("edgebound: {}\nservicebound: {}\n", listen(&bed.edges), listen(&bed.services));
    std::fs::write(node.join("limes.yaml"), settings).unwrap();
    std::fs::write(node.join("limes.pid"), std::process::id().to_string()).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bench_reports_its_load_and_its_cost() {
    let bed = Bed::start().await;
    let dir = dev_folder(&bed);
    let dir = dir.path().to_str().unwrap();
    let runs: [&[&str]; 8] = [
        &["call"],
        &["call", "--from", "service"],
        &["publish", "--size", "1KiB"],
        &["publish", "--from", "service"],
        &["stream"],
        &["stream", "--open", "--from", "service"],
        &["connect", "--in-flight", "4"],
        &["idle"],
    ];
    for run in runs {
        let load = ["--dir", dir, "--edges", "3", "--in-flight", "6", "--duration", "200ms", "--json"];
        let load =
            load.iter().filter(|arg| !(run.contains(&"connect") && ["--in-flight", "6"].contains(arg)));
        let args: Vec<&str> = ["bench"].iter().chain(run).chain(load).copied().collect();
        let output = bed.ctl(&args).await;
        assert!(output.status.success(), "{run:?}: {output:?}");
        let report = json_lines(&output).pop().unwrap();
        assert_eq!(report["errors"], 0, "{run:?}: {report}");
        if run.contains(&"idle") {
            assert!(report["edges"] == 3 && report["rss_kb_per_edge"].is_number(), "{report}");
            continue;
        }
        for figure in ["operations", "per_second", "p50_us", "p99_us"] {
            assert!(
                report[figure].as_f64().is_some_and(|figure| figure > 0.0),
                "{run:?}: {figure}: {report}"
            );
        }
        assert!(report["gateway_cpu_us_per_op"].is_number(), "{run:?}: {report}");
        assert!(report["p50_us"].as_u64() <= report["p99_us"].as_u64(), "{report}");
    }
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_folder_the_cost_of_a_bench_is_unknown() {
    let bed = Bed::start().await;
    let table = text(&bed.ctl(&["bench", "call", "--edges", "1", "--duration", "100ms"]).await.stdout);
    assert!(table.contains("unknown (see --dir)") && table.contains(" a second"), "{table}");
    let no_folder = bed.ctl(&["bench", "call", "--dir", "/nowhere"]).await;
    assert_eq!(no_folder.status.code(), Some(1), "{no_folder:?}");
    bed.end().await;
}
