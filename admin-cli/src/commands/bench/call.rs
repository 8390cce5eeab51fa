//! Calls and messages, begun by either side.

use std::time::Instant;

use limes_sdk::{Bytes, CallError, Edge, Service};
use tokio::task::JoinSet;

use super::args::Origin;
use super::bed::Bed;
use super::measure::{self, Tally, Worker};
use super::report::Report;
use super::shape::Shape;
use crate::context::Context;
use crate::error::Error;

/// The operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call, answered with the same bytes.
    Call,
    /// A message, acknowledged by its receiver.
    Publish,
}

/// The client that begins operations, and its peer.
#[derive(Clone)]
enum Sender {
    Edge(Edge),
    Service(Service, u64),
}

impl Sender {
    async fn send(&self, kind: Kind, name: &str, body: Bytes) -> Result<(), CallError> {
        match (self, kind) {
            (Sender::Edge(edge), Kind::Call) => edge.call(name, body).await.map(drop),
            (Sender::Edge(edge), Kind::Publish) => edge.publish(name, body).await,
            (Sender::Service(service, edge), Kind::Call) => service.call(*edge, name, body).await.map(drop),
            (Sender::Service(service, edge), Kind::Publish) => service.publish(*edge, name, body).await,
        }
    }
}

/// Default size of a payload, in bytes.
const SIZE: usize = 64;

pub(super) async fn run(context: &Context, shape: &Shape, kind: Kind) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let name = bed.unique_name();
    let service = bed.service(&name).await?;
    let edges = bed.edges(shape.edges.max(1)).await?;
    // Dropped, and with it the receiving tasks, when the run is over.
    let _receivers = receive(&service, &edges, &name, shape.from, kind).await?;
    let size = shape.size.unwrap_or(SIZE);
    let body = Bytes::from(vec![b'x'; size]);
    let workers = (0..shape.workers()).map(|i| {
        let edge = edges[i % edges.len()].clone();
        let sender = match shape.from {
            Origin::Edge => Sender::Edge(edge),
            Origin::Service => Sender::Service(service.clone(), edge.id()),
        };
        worker(sender, kind, name.clone(), body.clone())
    });
    let outcome = measure::run(&bed.nodes, shape, workers.collect()).await?;
    for edge in &edges {
        edge.close().await;
    }
    service.close().await;
    let bench = if kind == Kind::Call { "call" } else { "publish" };
    Ok(Report { size, ..Report::new(bench, &bed, shape, &outcome) })
}

/// Makes the receiving side answer; gives the tasks that acknowledge messages.
async fn receive(
    service: &Service,
    edges: &[Edge],
    name: &str,
    from: Origin,
    kind: Kind,
) -> Result<JoinSet<()>, Error> {
    let mut receivers = JoinSet::new();
    match (from, kind) {
        (Origin::Edge, Kind::Call) => {
            service.register(name, |call| async move { Ok(call.body) }).await?;
        }
        (Origin::Edge, Kind::Publish) => {
            service.subscribe([name]).await?;
            let service = service.clone();
            receivers.spawn(async move {
                while let Some(message) = service.receive().await {
                    message.done();
                }
            });
        }
        (Origin::Service, Kind::Call) => {
            edges.iter().for_each(|edge| edge.register(name, |call| async move { Ok(call.body) }));
        }
        (Origin::Service, Kind::Publish) => {
            for edge in edges {
                let edge = edge.clone();
                receivers.spawn(async move {
                    while let Some(message) = edge.receive().await {
                        message.done();
                    }
                });
            }
        }
    }
    Ok(receivers)
}

fn worker(sender: Sender, kind: Kind, name: String, body: Bytes) -> Worker {
    Box::new(move |mut tally: Tally| {
        Box::pin(async move {
            while tally.is_running() {
                let began = Instant::now();
                let result = sender.send(kind, &name, body.clone()).await;
                tally.count(began, body.len() as u64, result);
            }
            tally
        })
    })
}
