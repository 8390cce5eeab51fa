//! Calls that flow from edges on every node to services on every node, each with a number of its
//! own, and back from services to edges.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use limes_sdk::{Bytes, ConnectError, Edge, Service};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;

/// How a call ended, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the right reply.
    Ok,
    /// With a reply that belongs to another call.
    Wrong,
    /// With an error that says "not run".
    NotRun(String),
    /// With an error that says "may have run".
    MayHaveRun(String),
}

/// One call.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its number.
    pub number: u64,
    /// How it ended.
    pub end: End,
    /// When it began, since the run's begin.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// How often each call's handler ran, by the call's number.
pub type Execution = Arc<Mutex<HashMap<u64, u32>>>;

/// All that happened.
#[derive(Debug, Default)]
pub struct History {
    /// Every call.
    pub operations: Vec<Operation>,
    /// How often each was run.
    pub ran: HashMap<u64, u32>,
    /// Edges whose id changed.
    pub lost_ids: u32,
    /// Edges that could not be called at the end.
    pub unreachable: u32,
}

/// Edges and services under load.
pub struct Workload {
    stop: Arc<AtomicBool>,
    ran: Execution,
    edges: Vec<(Edge, u64)>,
    services: Vec<Service>,
    callers: Vec<JoinHandle<Vec<Operation>>>,
}

impl Workload {
    /// Connects one service and `edges` edges to each node, and begins to call.
    ///
    /// # Errors
    /// A client could not connect.
    pub async fn start(cluster: &Cluster, edges: usize) -> Result<Self, ConnectError> {
        let (stop, ran) = (Arc::new(AtomicBool::new(false)), Execution::default());
        let numbers = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let mut workload =
            Workload { stop, ran, edges: Vec::new(), services: Vec::new(), callers: Vec::new() };
        for node in cluster.nodes() {
            let service = Service::builder("echo").address(&node.services).connect().await?;
            let ran = workload.ran.clone();
            let registered = service.register("echo", move |call| {
                note(&ran, &call.body);
                async move { Ok(call.body) }
            });
            registered.await.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
            workload.services.push(service);
        }
        for node in cluster.nodes() {
            for _ in 0..edges {
                let edge = Edge::builder().address(&node.edges).connect().await?;
                let ran = workload.ran.clone();
                edge.register("echo", move |call| {
                    note(&ran, &call.body);
                    async move { Ok(call.body) }
                });
                let id = edge.id();
                workload.edges.push((edge, id));
            }
        }
        for (at, (edge, id)) in workload.edges.iter().enumerate() {
            let service = workload.services[at % workload.services.len()].clone();
            let (edge, id) = (edge.clone(), *id);
            for down in [false, true] {
                let (edge, service) = (edge.clone(), service.clone());
                let call = move |body: Bytes| {
                    let (edge, service) = (edge.clone(), service.clone());
                    let time = Duration::from_secs(5);
                    async move {
                        if down {
                            service.call_within(id, "echo", body, time).await
                        } else {
                            edge.call_within("echo", body, time).await
                        }
                    }
                };
                let caller = run(call, workload.stop.clone(), numbers.clone(), begin);
                workload.callers.push(tokio::spawn(caller));
            }
        }
        Ok(workload)
    }

    /// Waits until every edge can be called again, stops, and gives the history.
    pub async fn finish(self, patience: Duration) -> History {
        let mut history = History::default();
        for (at, (edge, id)) in self.edges.iter().enumerate() {
            let service = &self.services[at % self.services.len()];
            let until = Instant::now() + patience;
            let mut reached = false;
            while !reached && Instant::now() < until {
                reached = service.call_within(*id, "echo", "", Duration::from_secs(2)).await.is_ok();
                if !reached {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            history.unreachable += u32::from(!reached);
            history.lost_ids += u32::from(edge.id() != *id);
        }
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            history.operations.extend(caller.await.unwrap_or_default());
        }
        history.ran = std::mem::take(&mut *self.ran.lock().unwrap_or_else(PoisonError::into_inner));
        history
    }
}

fn note(ran: &Execution, body: &[u8]) {
    if let Some(number) = body.first_chunk::<8>() {
        let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
        *ran.entry(u64::from_be_bytes(*number)).or_default() += 1;
    }
}

async fn run<C, F>(call: C, stop: Arc<AtomicBool>, numbers: Arc<AtomicU64>, begin: Instant) -> Vec<Operation>
where
    C: Fn(Bytes) -> F,
    F: Future<Output = Result<Bytes, limes_sdk::CallError>>,
{
    let mut operations = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let body = Bytes::copy_from_slice(&number.to_be_bytes());
        let began = begin.elapsed();
        let end = match call(body.clone()).await {
            Ok(reply) if reply == body => End::Ok,
            Ok(_) => End::Wrong,
            Err(error) if error.may_have_run() => End::MayHaveRun(error.to_string()),
            Err(error) => End::NotRun(error.to_string()),
        };
        let failed = end != End::Ok;
        operations.push(Operation { number, end, began, took: begin.elapsed() - began });
        let pause = if failed { Duration::from_millis(50) } else { Duration::from_millis(5) };
        tokio::time::sleep(pause).await;
    }
    operations
}
