//! Edges that connect and go, on all nodes: each welcome is an event that was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::history::Event;
use crate::bare::Bare;
use crate::cluster::NodeAddrs;

/// Edges at each node.
const EDGES: u64 = 4;
/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// After a connect that failed.
const AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Load {
    stop: Arc<AtomicBool>,
    edges: Vec<JoinHandle<Vec<Event>>>,
}

impl Load {
    pub(super) fn start(nodes: &[NodeAddrs], begin: Instant, seed: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let edges = (0..EDGES * nodes.len() as u64).map(|at| {
            let random = StdRng::seed_from_u64(seed ^ (at << 32));
            let addrs = nodes.iter().map(|node| node.edges.clone()).collect();
            tokio::spawn(come_and_go(addrs, random, begin, stop.clone()))
        });
        Load { edges: edges.collect(), stop }
    }

    /// Ends it; gives what was acknowledged.
    pub(super) async fn stop(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        let mut events = Vec::new();
        for edge in self.edges {
            events.extend(edge.await.unwrap_or_default());
        }
        events
    }
}

async fn come_and_go(
    nodes: Vec<String>,
    mut random: StdRng,
    begin: Instant,
    stop: Arc<AtomicBool>,
) -> Vec<Event> {
    let now = || begin.elapsed().as_micros() as u64;
    let mut events = Vec::new();
    let mut ticket = Bytes::new();
    let mut before = None;
    while !stop.load(Ordering::Relaxed) {
        let node = random.random_range(0..nodes.len());
        let (asked, fresh) = (now(), ticket.is_empty());
        // The session before may still be there: then this one takes over.
        match Bare::connect(&nodes[node], ticket.clone(), false, CONNECT).await {
            Ok(session) => {
                let welcome = &session.welcome;
                let (edge, incarnation) = (welcome.id, welcome.incarnation);
                events.push(Event::Acknowledged { edge, incarnation, node, fresh, asked, at: now() });
                ticket = if random.random() { welcome.ticket.clone() } else { Bytes::new() };
                sleep(Duration::from_millis(random.random_range(0..40))).await;
                before = random.random::<bool>().then_some(session);
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
    drop(before);
    events
}
