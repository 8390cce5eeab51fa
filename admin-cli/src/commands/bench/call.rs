//! Calls and messages, from either side.

use std::time::Instant;

use limes_sdk::{Bytes, CallError, Edge, Service};

use super::args::Origin;
use super::measure::{Tally, Worker};
use super::report::Report;
use super::{Bed, Shape, measured};
use crate::Context;
use crate::client::Error;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Answered with the same bytes.
    Call,
    /// Acknowledged.
    Publish,
}

/// Who sends, and to whom.
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

/// Size of a payload, if it is not given.
const SIZE: usize = 64;

pub(super) async fn run(context: &Context, shape: &Shape, kind: Kind) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let name = bed.tag();
    let service = bed.service(&name).await?;
    let edges = bed.edges(shape.edges.max(1)).await?;
    answer(&service, &edges, &name, shape.from, kind).await?;
    let size = shape.size.unwrap_or(SIZE);
    let body = Bytes::from(vec![b'x'; size]);
    let workers = (0..shape.in_flight.max(1)).map(|i| {
        let edge = edges[i % edges.len()].clone();
        let sender = match shape.from {
            Origin::Edge => Sender::Edge(edge),
            Origin::Service => Sender::Service(service.clone(), edge.id()),
        };
        worker(sender, kind, name.clone(), body.clone())
    });
    let outcome = measured(&bed, shape, workers.collect()).await?;
    for edge in &edges {
        edge.close().await;
    }
    service.close().await;
    let bench = if kind == Kind::Call { "call" } else { "publish" };
    Ok(Report { size, ..Report::new(bench, &bed, shape, &outcome) })
}

/// The receiving side answers.
async fn answer(
    service: &Service,
    edges: &[Edge],
    name: &str,
    from: Origin,
    kind: Kind,
) -> Result<(), Error> {
    match (from, kind) {
        (Origin::Edge, Kind::Call) => {
            service.register(name, |call| async move { Ok(call.body) }).await.map_err(Error::bench)?;
        }
        (Origin::Edge, Kind::Publish) => {
            service.subscribe([name]).await.map_err(Error::bench)?;
            let service = service.clone();
            tokio::spawn(async move {
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
                tokio::spawn(async move {
                    while let Some(message) = edge.receive().await {
                        message.done();
                    }
                });
            }
        }
    }
    Ok(())
}

fn worker(sender: Sender, kind: Kind, name: String, body: Bytes) -> Worker {
    Box::new(move |mut tally: Tally| {
        Box::pin(async move {
            while tally.goes_on() {
                let began = Instant::now();
                let result = sender.send(kind, &name, body.clone()).await;
                tally.note(began, body.len() as u64, result);
            }
            tally
        })
    })
}
