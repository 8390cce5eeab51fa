//! Edges that connect again and again, here and there, with the same id, and are called from every node as
//! soon as they are welcome; services that register methods which are called at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_sdk::{CallError, ConnectError, Edge, Kind, Service};
use tokio::task::JoinHandle;

use crate::bare::{Bare, incarnation};
use crate::cluster::NodeAddrs;
use crate::sessions::{Outcome, Probe, Record, Session};

/// How long a connect may take before its edge tries another node.
const CONNECT: Duration = Duration::from_secs(12);
/// A call's deadline.
const CALL: Duration = Duration::from_secs(5);
/// Old sessions of one edge that are kept open to see whether the gateway closes them.
const OLD: usize = 3;

/// Names of methods are told from ids of edges in a record.
const METHOD: u64 = 1 << 63;

struct Shared {
    begin: Instant,
    stop: AtomicBool,
    turn: AtomicU64,
    record: Mutex<Record>,
    nodes: Vec<NodeAddrs>,
    /// One on each node, to call edges.
    services: Vec<Service>,
    /// One on each node, to call methods.
    edges: Vec<Edge>,
}

/// The takeovers, until [`Takeovers::finish`].
pub struct Takeovers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Takeovers {
    /// Connects a caller to each node and lets so many edges wander, and one service register.
    ///
    /// # Errors
    /// A caller could not connect.
    pub async fn start(nodes: &[NodeAddrs], edges: usize) -> Result<Takeovers, ConnectError> {
        let (mut services, mut callers) = (Vec::new(), Vec::new());
        for node in nodes {
            let service = Service::builder("caller").address(&node.services).connect_timeout(CONNECT);
            services.push(service.connect().await?);
            let caller = Edge::builder().address(&node.edges).connect_timeout(CONNECT);
            callers.push(caller.connect().await?);
        }
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            record: Mutex::default(),
            nodes: nodes.to_vec(),
            services,
            edges: callers,
        });
        let mut tasks: Vec<_> = (0..edges).map(|_| tokio::spawn(wander(shared.clone()))).collect();
        tasks.push(tokio::spawn(register(shared.clone())));
        Ok(Takeovers { shared, tasks })
    }

    /// How many calls have been recorded.
    pub fn calls(&self) -> usize {
        self.shared.record().probes.len()
    }

    /// Stops, and gives what was seen.
    pub async fn finish(self) -> Record {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
        let mut record = std::mem::take(&mut *self.shared.record());
        record.over = self.shared.begin.elapsed();
        record
    }
}

impl Shared {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn turn(&self, of: usize) -> usize {
        (self.turn.fetch_add(1, Ordering::Relaxed) as usize) % of.max(1)
    }

    /// Notes an attempt; gives its place in the record.
    fn attempt(&self, edge: u64) -> usize {
        let mut record = self.record();
        record.sessions.push(Session { edge, asked: self.now(), welcomed: None, ended: None });
        record.sessions.len() - 1
    }

    fn note(&self, edge: u64, began: Duration, result: Result<Bytes, CallError>) {
        let outcome = match result {
            Ok(body) => match incarnation(&body) {
                Some(incarnation) => Outcome::Answered(incarnation),
                None => Outcome::Failed("a strange reply".to_owned()),
            },
            Err(error) if matches!(error.kind(), Kind::NoEdge | Kind::NoMethod | Kind::NoService) => {
                Outcome::Nobody
            }
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.record().probes.push(Probe { edge, began, ended: self.now(), outcome });
    }

    /// Calls an edge from every node at once.
    async fn call_edge(&self, edge: u64) {
        let calls = self.services.iter().map(|service| async {
            let began = self.now();
            let result = service.call_within(edge, "who", "", CALL).await;
            self.note(edge, began, result);
        });
        futures::future::join_all(calls).await;
    }

    /// Calls a method from every node at once.
    async fn call_method(&self, number: u64) {
        let method = format!("method-{number}");
        let calls = self.edges.iter().map(|caller| async {
            let began = self.now();
            let result = caller.call_within(&method, "", CALL).await;
            self.note(METHOD | number, began, result);
        });
        futures::future::join_all(calls).await;
    }
}

/// One edge that takes itself over, again and again, on another node most of the time.
async fn wander(shared: Arc<Shared>) {
    let mut ticket = Bytes::new();
    let mut old: Vec<(usize, Bare)> = Vec::new();
    let mut edge = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let turn = shared.turn(usize::MAX);
        let node = &shared.nodes[turn % shared.nodes.len()];
        if turn.is_multiple_of(3)
            && let Some((at, session)) = old.last()
        {
            // Now and then it says good-bye first.
            shared.record().sessions[*at].ended.get_or_insert(shared.now());
            session.close();
        }
        let at = shared.attempt(edge);
        match Bare::connect(&node.edges, ticket.clone(), turn.is_multiple_of(5), CONNECT).await {
            Ok(session) => {
                ticket = session.welcome.ticket.clone();
                edge = session.welcome.id;
                let mut record = shared.record();
                record.sessions[at].welcomed = Some((shared.now(), session.welcome.incarnation));
                record.sessions[at].edge = edge;
                drop(record);
                old.push((at, session));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        note_ends(&shared, &mut old);
        if edge != 0 {
            shared.call_edge(edge).await;
        }
        note_ends(&shared, &mut old);
        while old.len() > OLD {
            let (at, session) = old.remove(0);
            shared.record().sessions[at].ended.get_or_insert(shared.now());
            drop(session);
        }
    }
    note_ends(&shared, &mut old);
    for (at, _) in &old {
        shared.record().sessions[*at].ended.get_or_insert(shared.now());
    }
}

fn note_ends(shared: &Shared, old: &mut Vec<(usize, Bare)>) {
    old.retain(|(at, session)| {
        let Some(ended) = session.ended() else { return true };
        let ended = ended.saturating_duration_since(shared.begin);
        shared.record().sessions[*at].ended.get_or_insert(ended);
        false
    });
}

/// A service that registers a new method, which is called from everywhere as soon as that is acknowledged.
async fn register(shared: Arc<Shared>) {
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        number += 1;
        let service = &shared.services[shared.turn(shared.services.len())];
        let at = shared.attempt(METHOD | number);
        let reply = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        let answer = move |_| {
            let reply = reply.clone();
            async move { Ok(reply) }
        };
        match service.register(&format!("method-{number}"), answer).await {
            Ok(()) => shared.record().sessions[at].welcomed = Some((shared.now(), (1, 0))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        shared.call_method(number).await;
        // A client that reconnects registers again under another session: its end is not seen here.
        if !matches!(&*service.state().borrow(), limes_sdk::State::Connected(_)) {
            shared.record().sessions[at].ended = Some(Duration::ZERO);
        }
    }
}
