//! Load of takeovers: edges that connect again and again with the same id, at one node or another, and are called
//! from every node as soon as they are welcome; services that register methods, which are called at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_sdk::{CallError, Edge, Kind, Service, State};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bare::{Bare, incarnation};
use crate::cluster::NodeAddrs;
use crate::error::Error;
use crate::sessions::{Outcome, Probe, Record, Session};

/// Time limit of a connect; after it, the edge tries another node.
const CONNECT: Duration = Duration::from_secs(12);
/// Deadline of a call.
const CALL: Duration = Duration::from_secs(5);
/// Pause after a connect or a registration that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Old sessions of one edge that stay open, to see whether the gateway closes them.
const OLD: usize = 3;

/// Set in the number of a method in a [`Record`], and not in the id of an edge.
const METHOD: u64 = 1 << 63;

struct Shared {
    begin: Instant,
    stop: CancellationToken,
    turn: AtomicU64,
    record: Mutex<Record>,
    nodes: Vec<NodeAddrs>,
    /// One on each node, to call edges.
    services: Vec<Service>,
    /// One on each node, to call methods.
    edges: Vec<Edge>,
}

/// The load. It runs until [`Takeovers::finish`], or until it is dropped.
pub struct Takeovers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Takeovers {
    /// Connects a caller of each role to each node; starts so many edges, and one service that registers methods.
    ///
    /// # Errors
    /// A caller could not connect.
    pub async fn start(nodes: &[NodeAddrs], edges: usize) -> Result<Takeovers, Error> {
        let (mut services, mut callers) = (Vec::new(), Vec::new());
        for node in nodes {
            let service = Service::builder("caller").address(&node.services).connect_timeout(CONNECT);
            services.push(service.connect().await?);
            let caller = Edge::builder().address(&node.edges).connect_timeout(CONNECT);
            callers.push(caller.connect().await?);
        }
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            stop: CancellationToken::new(),
            turn: AtomicU64::new(0),
            record: Mutex::default(),
            nodes: nodes.to_vec(),
            services,
            edges: callers,
        });
        let mut tasks = JoinSet::new();
        for _ in 0..edges {
            tasks.spawn(take_over_again_and_again(shared.clone()));
        }
        tasks.spawn(register_again_and_again(shared.clone()));
        Ok(Takeovers { shared, tasks })
    }

    /// How many calls are recorded so far.
    pub fn calls(&self) -> usize {
        self.shared.record.lock().probes.len()
    }

    /// Stops the load and gives what the clients saw.
    ///
    /// # Errors
    /// A task of the load panicked.
    pub async fn finish(mut self) -> Result<Record, Error> {
        self.shared.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        let mut record = std::mem::take(&mut *self.shared.record.lock());
        record.over = self.shared.begin.elapsed();
        Ok(record)
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn turn(&self, of: usize) -> usize {
        (self.turn.fetch_add(1, Ordering::Relaxed) as usize) % of.max(1)
    }

    /// Records an attempt; gives its index.
    fn attempt(&self, edge: u64) -> usize {
        let mut record = self.record.lock();
        record.sessions.push(Session { edge, asked: self.now(), welcomed: None, ended: None });
        record.sessions.len() - 1
    }

    /// Records the end of the session at this index, unless it is recorded already.
    fn note_end(&self, at: usize, ended: Duration) {
        self.record.lock().sessions[at].ended.get_or_insert(ended);
    }

    fn note_call(&self, edge: u64, began: Duration, result: Result<Bytes, CallError>) {
        let outcome = match result {
            Ok(body) => match incarnation(&body) {
                Some(incarnation) => Outcome::Answered(incarnation),
                None => Outcome::Failed("the reply is not an incarnation".to_owned()),
            },
            Err(error) if matches!(error.kind(), Kind::NoEdge | Kind::NoMethod | Kind::NoService) => {
                Outcome::NotFound
            }
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.record.lock().probes.push(Probe { edge, began, ended: self.now(), outcome });
    }

    /// Calls an edge from every node at once.
    async fn call_edge(&self, edge: u64) {
        let calls = self.services.iter().map(|service| async {
            let began = self.now();
            let result = service.call_within(edge, "who", "", CALL).await;
            self.note_call(edge, began, result);
        });
        futures::future::join_all(calls).await;
    }

    /// Calls a method from every node at once.
    async fn call_method(&self, number: u64) {
        let method = format!("method-{number}");
        let calls = self.edges.iter().map(|caller| async {
            let began = self.now();
            let result = caller.call_within(&method, "", CALL).await;
            self.note_call(METHOD | number, began, result);
        });
        futures::future::join_all(calls).await;
    }
}

/// One edge whose new session takes over from its old one, on another node most of the time.
async fn take_over_again_and_again(shared: Arc<Shared>) {
    let mut ticket = Bytes::new();
    // Sessions that are open, with their indexes in the record.
    let mut open: Vec<(usize, Bare)> = Vec::new();
    let mut edge = None;
    while !shared.stop.is_cancelled() {
        let turn = shared.turn(usize::MAX);
        let node = &shared.nodes[turn % shared.nodes.len()];
        if turn.is_multiple_of(3)
            && let Some((at, session)) = open.last()
        {
            // One time in three it closes the old session first.
            shared.note_end(*at, shared.now());
            session.close();
        }
        // The id is corrected on the welcome; a first attempt that fails belongs to no edge, which 0 stands for.
        let at = shared.attempt(edge.unwrap_or(0));
        match Bare::connect(&node.edges, ticket.clone(), turn.is_multiple_of(5), CONNECT).await {
            Ok(session) => {
                ticket = session.welcome.ticket.clone();
                edge = Some(session.welcome.id);
                let mut record = shared.record.lock();
                record.sessions[at].welcomed = Some((shared.now(), session.welcome.incarnation));
                record.sessions[at].edge = session.welcome.id;
                drop(record);
                open.push((at, session));
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
        note_ends(&shared, &mut open);
        if let Some(edge) = edge {
            shared.call_edge(edge).await;
        }
        note_ends(&shared, &mut open);
        while open.len() > OLD {
            let (at, session) = open.remove(0);
            shared.note_end(at, shared.now());
            drop(session);
        }
    }
    note_ends(&shared, &mut open);
    for (at, _) in &open {
        shared.note_end(*at, shared.now());
    }
}

/// Records and removes the sessions that have ended.
fn note_ends(shared: &Shared, open: &mut Vec<(usize, Bare)>) {
    open.retain(|(at, session)| {
        let Some(ended) = session.ended() else { return true };
        shared.note_end(*at, ended.saturating_duration_since(shared.begin));
        false
    });
}

/// A service that registers new methods; each is called from every node as soon as its registration is acknowledged.
async fn register_again_and_again(shared: Arc<Shared>) {
    let mut number = 0;
    while !shared.stop.is_cancelled() {
        number += 1;
        let service = &shared.services[shared.turn(shared.services.len())];
        let at = shared.attempt(METHOD | number);
        // Incarnation (1, 0).
        let reply = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        let answer = move |_| {
            let reply = reply.clone();
            async move { Ok(reply) }
        };
        match service.register(&format!("method-{number}"), answer).await {
            Ok(()) => shared.record.lock().sessions[at].welcomed = Some((shared.now(), (1, 0))),
            Err(_) => sleep(RETRY_PAUSE).await,
        }
        shared.call_method(number).await;
        // A client that reconnects registers again in another session, and the end of the first is not seen here.
        if !matches!(&*service.state().borrow(), State::Connected(_)) {
            shared.record.lock().sessions[at].ended = Some(Duration::ZERO);
        }
    }
}
