//! Calls from edges on every node to services on every node and back, each with a number of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limes_sdk::{Bytes, CallError, Edge, Service};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::error::Error;

/// Deadline of a call.
const CALL: Duration = Duration::from_secs(5);
/// Deadline of a call at the end of the run, which probes whether an edge can be reached.
const PROBE: Duration = Duration::from_secs(2);

/// How a call ended, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With its reply.
    Ok,
    /// With the reply of another call.
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
    /// When it began, since the begin of the run.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// How often the handler ran for each call, by the call's number.
type Runs = Arc<Mutex<HashMap<u64, u32>>>;

/// Everything that happened.
#[derive(Debug, Default)]
pub struct History {
    /// Every call.
    pub operations: Vec<Operation>,
    /// How often the handler ran for each call, by the call's number.
    pub ran: HashMap<u64, u32>,
    /// Edges whose id changed.
    pub lost_ids: u32,
    /// Edges that could not be called at the end.
    pub unreachable: u32,
}

/// Edges and services under load. Dropping it ends the load.
pub struct Workload {
    stop: CancellationToken,
    ran: Runs,
    edges: Vec<(Edge, u64)>,
    services: Vec<Service>,
    callers: JoinSet<Vec<Operation>>,
}

/// What the callers share.
#[derive(Clone)]
struct Caller {
    edge: Edge,
    edge_id: u64,
    service: Service,
    /// Whether the service calls the edge.
    is_downward: bool,
    stop: CancellationToken,
    last_number: Arc<AtomicU64>,
    begin: Instant,
}

impl Workload {
    /// Connects one service and `edges` edges to each node, and begins to call.
    ///
    /// # Errors
    /// A client could not connect.
    pub async fn start(cluster: &Cluster, edges: usize) -> Result<Self, Error> {
        let mut workload = Workload {
            stop: CancellationToken::new(),
            ran: Runs::default(),
            edges: Vec::new(),
            services: Vec::new(),
            callers: JoinSet::new(),
        };
        for node in cluster.nodes() {
            let service = Service::builder("echo").address(&node.services).connect().await?;
            let ran = workload.ran.clone();
            let echo = move |call: limes_sdk::Call| {
                note(&ran, &call.body);
                async move { Ok(call.body) }
            };
            service.register("echo", echo).await?;
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
        workload.spawn_callers();
        Ok(workload)
    }

    /// One caller in each direction between each edge and one of the services.
    fn spawn_callers(&mut self) {
        let (last_number, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
        for (at, (edge, id)) in self.edges.iter().enumerate() {
            for is_downward in [false, true] {
                let caller = Caller {
                    edge: edge.clone(),
                    edge_id: *id,
                    service: self.services[at % self.services.len()].clone(),
                    is_downward,
                    stop: self.stop.clone(),
                    last_number: last_number.clone(),
                    begin,
                };
                self.callers.spawn(caller.run());
            }
        }
    }

    /// Waits until every edge can be called again, stops the load, and gives the history.
    ///
    /// # Errors
    /// A caller panicked.
    pub async fn finish(mut self, patience: Duration) -> Result<History, Error> {
        let mut history = History::default();
        for (at, (edge, id)) in self.edges.iter().enumerate() {
            let service = &self.services[at % self.services.len()];
            let until = Instant::now() + patience;
            let mut reached = false;
            while !reached && Instant::now() < until {
                reached = service.call_within(*id, "echo", "", PROBE).await.is_ok();
                if !reached {
                    sleep(Duration::from_millis(50)).await;
                }
            }
            history.unreachable += u32::from(!reached);
            history.lost_ids += u32::from(edge.id() != *id);
        }
        self.stop.cancel();
        while let Some(operations) = self.callers.join_next().await {
            history.operations.extend(operations?);
        }
        history.ran = std::mem::take(&mut *self.ran.lock());
        Ok(history)
    }
}

fn note(ran: &Runs, body: &[u8]) {
    if let Some(number) = body.first_chunk::<8>() {
        *ran.lock().entry(u64::from_be_bytes(*number)).or_default() += 1;
    }
}

impl Caller {
    async fn call(&self, body: Bytes) -> Result<Bytes, CallError> {
        if self.is_downward {
            self.service.call_within(self.edge_id, "echo", body, CALL).await
        } else {
            self.edge.call_within("echo", body, CALL).await
        }
    }

    /// Calls until the load is stopped; the last call is not interrupted.
    async fn run(self) -> Vec<Operation> {
        let mut operations = Vec::new();
        while !self.stop.is_cancelled() {
            let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
            let body = Bytes::copy_from_slice(&number.to_be_bytes());
            let began = self.begin.elapsed();
            let end = match self.call(body.clone()).await {
                Ok(reply) if reply == body => End::Ok,
                Ok(_) => End::Wrong,
                Err(error) if error.may_have_run() => End::MayHaveRun(error.to_string()),
                Err(error) => End::NotRun(error.to_string()),
            };
            let pause = Duration::from_millis(if end == End::Ok { 5 } else { 50 });
            operations.push(Operation { number, end, began, took: self.begin.elapsed() - began });
            self.stop.run_until_cancelled(sleep(pause)).await;
        }
        operations
    }
}
