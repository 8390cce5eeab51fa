//! `limesctl` as a process, against a node in this one.
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

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node on free ports, in this process.
struct Bed {
    control: String,
    edges: String,
    services: String,
    stop: Option<oneshot::Sender<()>>,
    node: JoinHandle<Result<(), limes_node::StartError>>,
    _dir: tempfile::TempDir,
}

impl Bed {
    /// A node that is ready. When another process has taken one of its ports meanwhile, it tries others.
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
                assert!(Instant::now() < end, "the node is not ready in time");
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

    /// The JSON that a command prints.
    async fn json(&self, args: &[&str]) -> Value {
        let output = self.ctl(args).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"))
    }

    /// Waits until a command prints JSON for which the condition holds, and returns it.
    async fn until(&self, args: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.ctl(args).await;
            if let Ok(value) = serde_json::from_slice::<Value>(&output.stdout)
                && holds(&value)
            {
                return value;
            }
            assert!(Instant::now() < end, "not in time: {args:?} says {output:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
    output.unwrap_or_else(|_| panic!("{args:?} does not end within {PATIENCE:?}")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_the_cluster_its_edges_and_its_services() {
    let bed = Bed::start().await;
    let status = bed.json(&["status", "--json"]).await;
    let node = &status["nodes"][0];
    assert_eq!((&status["leader"], &status["asked"]), (&"node-1".into(), &"node-1".into()), "{status}");
    assert_eq!((&node["name"], &node["voter"], &node["up"]), (&"node-1".into(), &true.into(), &true.into()));
    assert_eq!(node["edges_addr"], bed.edges.as_str());

    let edge = Edge::builder().address(&bed.edges).meta("camera").connect_timeout(PATIENCE);
    let edge = edge.connect().await.unwrap();
    let service = Service::builder("greeter").address(&bed.services).connect_timeout(PATIENCE);
    let service = service.connect().await.unwrap();
    service.register("greet", |_| async { Ok(Bytes::new()) }).await.unwrap();
    service.subscribe(["alarms"]).await.unwrap();

    // What is acknowledged is shown at once.
    let edges = bed.json(&["edge", "list", "--json"]).await;
    let shown = &edges["edges"][0];
    assert_eq!((&shown["id"], &shown["node"]), (&edge.id().into(), &"node-1".into()), "{edges}");
    assert_eq!(shown["meta"], "camera");
    let services = bed.json(&["service", "list", "--json", "--node", "1"]).await;
    let shown = &services["services"][0];
    assert_eq!((&shown["id"], &shown["name"]), (&service.id().into(), &"greeter".into()), "{services}");
    assert_eq!(shown["methods"], serde_json::json!(["greet"]));
    assert_eq!(shown["topics"], serde_json::json!(["alarms"]));
    let elsewhere = bed.json(&["edge", "list", "--json", "--node", "node-2"]).await;
    assert_eq!(elsewhere["edges"], serde_json::json!([]));

    // The state, and from there on what changes.
    let watched = |output: &Output| -> Vec<Value> {
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let state = watched(&bed.ctl(&["watch", "--once", "--json"]).await);
    assert!(state.iter().any(|change| change["what"]["Edge"]["id"] == edge.id()), "{state:?}");
    let end = state.last().unwrap();
    assert!(end["what"]["Synced"]["revision"].as_u64() > Some(0), "{end}");
    let position = end["position"].as_str().unwrap().to_owned();
    let nothing = watched(&bed.ctl(&["watch", "--from", &position, "--once", "--json"]).await);
    assert_eq!(nothing.len(), 1, "{nothing:?}");
    let other = Edge::builder().address(&bed.edges).connect_timeout(PATIENCE).connect().await.unwrap();
    let since = watched(&bed.ctl(&["watch", "--from", &position, "--once", "--json"]).await);
    assert!(since.iter().any(|change| change["what"]["Edge"]["id"] == other.id()), "{since:?}");
    assert!(since.iter().all(|change| change["what"]["Edge"]["id"] != edge.id()), "{since:?}");
    other.close().await;
    bed.until(&["edge", "list", "--json"], |list| list["edges"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    let lines = text(&bed.ctl(&["watch", "--from", &position, "--once"]).await.stdout);
    assert!(lines.contains(&format!("edge {} gone from node-1: ended", other.id())), "{lines}");
    let wrong = bed.ctl(&["watch", "--from", "yesterday", "--once"]).await;
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));

    // As tables.
    let table = text(&bed.ctl(&["edge", "list"]).await.stdout);
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|line| line.trim_start().starts_with("EDGE")), "{table}");
    assert!(lines.next().is_some_and(|line| line.contains(&edge.id().to_string())), "{table}");
    let status = text(&bed.ctl(&["status", "--local"]).await.stdout);
    assert!(status.contains(" leader node-1 ") && status.contains("voter"), "{status}");
    let services = text(&bed.ctl(&["service", "list"]).await.stdout);
    assert!(services.contains("greeter") && services.contains("alarms"), "{services}");
    edge.close().await;
    bed.until(&["edge", "list", "--json"], |list| list["edges"] == serde_json::json!([])).await;
    service.close().await;
    bed.end().await;
}

#[tokio::test]
async fn errors_are_one_line_and_an_exit_status() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = ctl(&unused, &["status"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.lines().count() == 1 && said.contains(&unused), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(ctl(&unused, &["launch"]).await.status.code(), Some(2));
}

/// Each bench, briefly, against a folder as `limes dev` makes it, whose one node is this process.
#[tokio::test(flavor = "multi_thread")]
async fn bench_puts_load_on_a_cluster_and_reports_its_cost() {
    let bed = Bed::start().await;
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node-1");
    std::fs::create_dir(&node).unwrap();
    let listen = |addr: &str| format!("{{listen: {{addr: '{addr}'}}}}");
    let settings = format!("edgebound: {}\nservicebound: {}\n", listen(&bed.edges), listen(&bed.services));
    std::fs::write(node.join("limes.yaml"), settings).unwrap();
    std::fs::write(node.join("limes.pid"), std::process::id().to_string()).unwrap();
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
        let stdout = text(&output.stdout);
        let report: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{run:?}: {error}: {output:?}"));
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
    // As a table, and without the folder of the cluster: the cost in CPU time is not known then.
    let table = text(&bed.ctl(&["bench", "call", "--edges", "1", "--duration", "100ms"]).await.stdout);
    assert!(table.contains("unknown (see --dir)") && table.contains(" a second"), "{table}");
    let failed = bed.ctl(&["bench", "call", "--dir", "/nowhere"]).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    bed.end().await;
}
