//! Presence events through three processes: proposer, leader's log, followers' logs, tables of all.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_raft::Replica;
use limes_routing::{Event, Incarnation, Verdict};

use crate::Options;
use crate::member::{Gaps, online, start};
use crate::times::{Times, cpu};

/// The variable that tells a process which node it is.
pub(crate) const NODE: &str = "LIMES_FIGURES_NODE";
const ADDRS: &str = "LIMES_FIGURES_ADDRS";
const DIR: &str = "LIMES_FIGURES_DIR";
const NODES: usize = 3;
/// Submitters on each node: each has one event in flight.
const ROWS: [usize; 5] = [1, 16, 128, 640, 4_000];

struct Node {
    child: Child,
    commands: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "a node has ended");
        line.trim().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(options: &Options) {
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    // The nodes bind these ports again.
    let held: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addrs: Vec<String> = held.iter().map(|held| held.local_addr().unwrap().to_string()).collect();
    drop(held);
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|at| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .env(NODE, at.to_string())
                .env(ADDRS, addrs.join(","))
                .env(DIR, dir.path().join(format!("node-{at}")))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (commands, output) =
                (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
            Node { child, commands, output }
        })
        .collect();
    nodes.iter_mut().for_each(|node| assert_eq!(node.line(), "ready"));
    println!(
        "| submitters | events/s | p50 ms | p99 ms | events per batch | CPU µs/event, all nodes | bytes/event and node |"
    );
    println!("|---|---|---|---|---|---|---|");
    for submitters in ROWS {
        let seconds = options.time.as_secs();
        nodes.iter_mut().for_each(|node| writeln!(node.commands, "{submitters} {seconds}").unwrap());
        let figures: Vec<Vec<f64>> = nodes
            .iter_mut()
            .map(|node| node.line().split(' ').map(|figure| figure.parse().unwrap()).collect())
            .collect();
        let sum = |at: usize| figures.iter().map(|node| node[at]).sum::<f64>();
        let worst = |at: usize| figures.iter().map(|node| node[at]).fold(0.0, f64::max);
        let events = sum(0);
        println!(
            "| 3 × {submitters} | {:.0} | {:.1} | {:.1} | {:.0} | {:.1} | {:.0} |",
            events / worst(1),
            worst(2),
            worst(3),
            events / sum(4).max(1.0),
            sum(5) * 1e6 / events,
            sum(6) / events / NODES as f64,
        );
    }
}

/// The process of one node: it executes the lines of its standard input.
pub(crate) fn node(at: usize) {
    let addrs: Vec<SocketAddr> =
        std::env::var(ADDRS).unwrap().split(',').map(|addr| addr.parse().unwrap()).collect();
    let dir = std::env::var(DIR).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let replica = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(addrs[at]).await.unwrap();
        start(dir.as_ref(), at, &addrs, listener, Arc::new(Gaps::default())).await
    });
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (submitters, seconds) = line.split_once(' ').unwrap();
        let time = Duration::from_secs(seconds.parse().unwrap());
        println!("{}", runtime.block_on(row(&replica, at, submitters.parse().unwrap(), time)));
    }
}

/// Events, seconds, p50, p99, batches, CPU seconds, bytes.
async fn row(replica: &Replica, at: usize, submitters: u64, time: Duration) -> String {
    let (cpu_before, bytes, first) = (cpu(), replica.appended_bytes(), replica.status().applied.0);
    let begin = Instant::now();
    let work: Vec<_> = (0..submitters)
        .map(|edge| tokio::spawn(come_and_go(replica.clone(), at as u64 * 1_000_000 + edge, begin + time)))
        .collect();
    let mut times = Times::default();
    for work in work {
        times.add(work.await.unwrap());
    }
    let seconds = begin.elapsed().as_secs_f64();
    // Every node has applied the batches of all three.
    let batches = (replica.status().applied.0 - first) as f64 / NODES as f64;
    let written = (replica.appended_bytes() - bytes) as f64;
    let (events, used) = (times.len(), cpu() - cpu_before);
    format!("{events} {seconds} {} {} {batches} {used} {written}", times.at(500), times.at(990))
}

async fn come_and_go(replica: Replica, edge: u64, until: Instant) -> Times {
    let mut times = Times::default();
    let mut here: Option<Incarnation> = None;
    while Instant::now() < until || here.is_some() {
        let asked = Instant::now();
        let event = match here.take() {
            None => online(edge),
            Some(incarnation) => match online(edge) {
                Event::EdgeOnline { edge, .. } => Event::EdgeOffline { edge, incarnation },
                other => other,
            },
        };
        let comes = matches!(event, Event::EdgeOnline { .. });
        match replica.proposer().submit(event).await {
            Ok(Verdict::Accepted(position)) => {
                here = comes.then_some(Incarnation(position));
                times.push(asked.elapsed());
            }
            other => panic!("{other:?}"),
        }
    }
    times
}
