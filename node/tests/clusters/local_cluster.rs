//! `limes dev` and its library form, on real processes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use crate::support::program::{LogsOnFailure, Program, output};
use crate::support::{brisk, turn, until};
use limes_node::dev::{Cluster, Options, Ports};
use limes_sdk::{Bytes, Edge, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// How long a cluster may take to become ready on a loaded machine.
const READY: Duration = Duration::from_secs(120);
/// How long a cluster may take to end there; documented are 5 s on an idle machine.
const END: Duration = Duration::from_secs(50);

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_limes").into()
}

fn options(dir: &Path, nodes: usize) -> Options {
    Options {
        binary: binary(),
        nodes: Some(nodes),
        dir: dir.to_owned(),
        ports: Ports::Auto,
        adjust: Arc::new(brisk),
    }
}

async fn limes(args: &[&str]) -> Output {
    output(Command::new(binary()).args(args)).await.unwrap()
}

/// Whether a process has ended; a zombie counts.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')))
}

fn pids(dir: &Path) -> Vec<u32> {
    let file = |i| dir.join(format!("node-{i}/limes.pid"));
    (1..=3).map(|i| std::fs::read_to_string(file(i)).unwrap().trim().parse().unwrap()).collect()
}

async fn wait_gone(pids: &[u32]) {
    until("all processes have ended", || async { pids.iter().all(|pid| is_gone(*pid)).then_some(()) }).await;
}

/// The supervisor of a cluster of three; its nodes end with it.
struct Dev {
    program: Program,
    _logs: LogsOnFailure,
    _turn: OwnedSemaphorePermit,
}

impl Dev {
    /// Starts `limes dev` and waits for its first line on stdout.
    async fn start(dir: &Path) -> (Dev, String) {
        let turn = turn(3).await;
        let mut command = Command::new(binary());
        command.args(["dev", "--nodes", "3", "--ports", "auto", "--dir"]).arg(dir);
        let mut dev =
            Dev { program: Program::start(&mut command), _logs: LogsOnFailure(dir.into()), _turn: turn };
        let line = dev.program.line().await.unwrap_or_default();
        (dev, line)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.program.pid().try_into().unwrap()), signal).unwrap();
    }
}

/// The fourth of four nodes is a learner; its clients see no difference.
async fn a_learner_serves(cluster: &Cluster) {
    let addresses = |i: usize| cluster.node(i).addresses();
    let mut services = Vec::new();
    for (i, name) in [(1, "one"), (4, "four")] {
        let service = Service::builder(name).address(addresses(i).services.to_string());
        let service = service.connect_timeout(READY).connect().await.unwrap();
        service
            .register(name, move |_| async move { Ok(Bytes::from_static(name.as_bytes())) })
            .await
            .unwrap();
        services.push(service);
    }
    for i in [1, 4] {
        let edge = Edge::builder().address(addresses(i).edges.to_string()).connect_timeout(READY);
        let edge = edge.connect().await.unwrap();
        edge.register("hi", move |_| async move { Ok(Bytes::from_static(b"hi")) });
        for name in ["one", "four"] {
            assert_eq!(edge.call_within(name, "", READY).await.unwrap(), name, "from an edge on node-{i}");
        }
        for service in &services {
            assert_eq!(service.call_within(edge.id(), "hi", "", READY).await.unwrap(), "hi");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_processes_serves_and_survives_kills() {
    let _turn = turn(3).await;
    let dir = tempfile::tempdir().unwrap();
    let _logs = LogsOnFailure(dir.path().into());
    let cluster = Cluster::start(options(dir.path(), 4)).await.unwrap();
    let ready = cluster.wait_ready(READY).await.unwrap();
    assert_eq!(ready.voters, 3);
    assert!(cluster.leader().await.is_some());
    a_learner_serves(&cluster).await;

    cluster.kill9(1).await.unwrap();
    let exit = cluster.next_exit().await;
    assert_eq!(exit.node, "node-1");
    assert!(exit.to_string().contains("signal: 9"), "{exit}");
    assert_eq!(cluster.node(1).pid(), None);
    assert!(!cluster.node(1).folder().join("limes.pid").exists(), "the pid file of a dead process is left");
    assert!(cluster.kill9(1).await.is_err(), "a dead node cannot be killed");
    cluster.restart(1).unwrap();
    assert!(cluster.restart(1).is_err(), "a running node is started again");
    cluster.wait_ready(READY).await.unwrap();

    cluster.stop_signal(2).await.unwrap();
    timeout(END, cluster.shutdown()).await.expect("the cluster ends");
    assert!(cluster.nodes().iter().all(|node| node.pid().is_none()), "a stopped node ends too");
}

#[tokio::test]
async fn dev_ends_its_cluster_on_a_signal_and_its_nodes_end_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = || {
        let file = |i| std::fs::read_to_string(dir.path().join(format!("node-{i}/limes.yaml"))).unwrap();
        [1, 2, 3].map(file)
    };
    let (mut dev, line) = Dev::start(dir.path()).await;
    let leader =
        line.strip_prefix("cluster ready: leader node-").and_then(|rest| rest.strip_suffix(", 3 voters"));
    assert!(matches!(leader, Some("1" | "2" | "3")), "{line:?}");
    let (children, before) = (pids(dir.path()), addresses());
    dev.signal(Signal::SIGINT);
    let end = async {
        dev.program.finish().await;
        wait_gone(&children).await;
    };
    timeout(END, end).await.expect("the cluster ends");
    drop(dev);

    let (mut dev, line) = Dev::start(dir.path()).await;
    assert!(line.starts_with("cluster ready: "), "{line:?}");
    assert_eq!(addresses(), before);
    let children = pids(dir.path());
    dev.signal(Signal::SIGKILL);
    dev.program.ended().await;
    timeout(END, wait_gone(&children)).await.expect("the nodes end without their supervisor");
}

#[tokio::test]
async fn a_failed_start_is_one_line_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limes.yaml");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cases = [
        ("colour: green".to_owned(), "colour: unknown key"),
        ("cluster: {listen: {addr: '0.0.0.0:0'}}".to_owned(), "set cluster.insecure: true"),
        (every_listener(port), "in use"),
    ];
    for (text, wanted) in cases {
        std::fs::write(&file, &text).unwrap();
        let output = limes(&["serve", "--config", file.to_str().unwrap()]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("limes: ") && last.contains(wanted), "{text}: {said}");
    }
    let output = limes(&["serve", "--config", "/nowhere/limes.yaml"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

/// The settings of a node with this metrics port; the system chooses the other ports.
fn every_listener(metrics: u16) -> String {
    let other = |name: &str| format!("{name}: {{listen: {{addr: '127.0.0.1:0'}}}}\n");
    let others = ["edgebound", "servicebound"].map(other).concat();
    format!(
        "{others}metrics: {{listen: {{addr: '127.0.0.1:{metrics}'}}}}\ndata: data\ncluster: {{listen: {{addr: '127.0.0.1:0'}}}}"
    )
}

#[tokio::test]
async fn the_sample_configuration_is_valid() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/limes.yaml");
    let output = limes(&["config", "check", sample]).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn config_default_is_valid_and_config_check_lists_all_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limes.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, limes(&["config", "default"]).await.stdout).unwrap();
    assert!(limes(&["config", "check", path]).await.status.success());
    std::fs::write(&file, "exchange: {hashby: moon}\nlimits: {body: 1}").unwrap();
    let output = limes(&["config", "check", path]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("2 problems") && said.contains("exchange.hashby: ") && said.contains("limits.body: "),
        "{said}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "stdout is for data");
}
