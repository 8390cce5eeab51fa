//! Edges that connect and leave, on all nodes: each welcome acknowledges an event.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::history::Event;
use crate::bare::Bare;
use crate::cluster::NodeAddrs;
use crate::error::Error;

/// Edges for each node.
const EDGES: u64 = 4;
/// Time limit of a connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause after a connect that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The load. Dropping it ends it.
pub(super) struct Load {
    stop: CancellationToken,
    edges: JoinSet<Vec<Event>>,
}

impl Load {
    pub(super) fn start(nodes: &[NodeAddrs], begin: Instant, seed: u64) -> Load {
        let stop = CancellationToken::new();
        let mut edges = JoinSet::new();
        for at in 0..EDGES * nodes.len() as u64 {
            let random = StdRng::seed_from_u64(seed ^ (at << 32));
            let addrs = nodes.iter().map(|node| node.edges.clone()).collect();
            edges.spawn(come_and_go(addrs, random, begin, stop.clone()));
        }
        Load { stop, edges }
    }

    /// Ends the load and gives what was acknowledged.
    ///
    /// # Errors
    /// A task of the load panicked.
    pub(super) async fn stop(mut self) -> Result<Vec<Event>, Error> {
        self.stop.cancel();
        let mut events = Vec::new();
        while let Some(acknowledged) = self.edges.join_next().await {
            events.extend(acknowledged?);
        }
        Ok(events)
    }
}

async fn come_and_go(
    nodes: Vec<String>,
    mut random: StdRng,
    begin: Instant,
    stop: CancellationToken,
) -> Vec<Event> {
    let now = || begin.elapsed().as_micros() as u64;
    let mut events = Vec::new();
    let mut ticket = Bytes::new();
    let mut previous = None;
    while !stop.is_cancelled() {
        let node = random.random_range(0..nodes.len());
        let (asked, fresh) = (now(), ticket.is_empty());
        // With a ticket, and if the previous session is still open, this one takes over from it.
        match Bare::connect(&nodes[node], ticket.clone(), false, CONNECT).await {
            Ok(session) => {
                let welcome = &session.welcome;
                let (edge, incarnation) = (welcome.id, welcome.incarnation);
                events.push(Event::Acknowledged { edge, incarnation, node, fresh, asked, at: now() });
                ticket = if random.random() { welcome.ticket.clone() } else { Bytes::new() };
                sleep(Duration::from_millis(random.random_range(0..40))).await;
                previous = random.random::<bool>().then_some(session);
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
    drop(previous);
    events
}
