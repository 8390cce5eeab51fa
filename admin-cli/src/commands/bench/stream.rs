//! Streams: bytes through them, or their opening and closing.

use std::time::Instant;

use limes_sdk::{Bytes, Edge, Incoming, Service, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::args::Origin;
use super::measure::{Tally, Worker};
use super::report::Report;
use super::{Bed, Shape, measured};
use crate::Context;
use crate::client::Error;

/// Bytes of one write, if they are not given.
const SIZE: usize = 16 << 10;
/// Streams that are filled at once, if nothing else is said: more only wait for each other.
const STREAMS: usize = 4;

/// Who opens, and to whom.
#[derive(Clone)]
enum Opener {
    Edge(Edge, String),
    Service(Service, u64),
}

impl Opener {
    async fn open(&self) -> Result<Stream, Error> {
        let stream = match self {
            Opener::Edge(edge, name) => edge.open_stream(name, Bytes::new()).await,
            Opener::Service(service, edge) => service.open_stream(*edge, "bench", Bytes::new()).await,
        };
        stream.map_err(Error::bench)
    }
}

/// Reads everything, says its own end.
async fn drain(mut incoming: Incoming) {
    let mut room = vec![0; 64 << 10];
    while let Ok(read) = incoming.stream.read(&mut room).await {
        if read == 0 {
            break;
        }
    }
    let _ = incoming.stream.shutdown().await;
}

/// The edges, the service, and how each worker opens.
async fn begin(bed: &Bed, shape: &Shape) -> Result<(Service, Vec<Edge>, Vec<Opener>), Error> {
    let name = bed.tag();
    let service = bed.service(&name).await?;
    let edges = bed.edges(shape.edges.max(1)).await?;
    match shape.from {
        Origin::Edge => {
            let service = service.clone();
            tokio::spawn(async move {
                while let Some(incoming) = service.accept_stream().await {
                    tokio::spawn(drain(incoming));
                }
            });
        }
        Origin::Service => {
            for edge in &edges {
                let edge = edge.clone();
                tokio::spawn(async move {
                    while let Some(incoming) = edge.accept_stream().await {
                        tokio::spawn(drain(incoming));
                    }
                });
            }
        }
    }
    let openers = edges.iter().map(|edge| match shape.from {
        Origin::Edge => Opener::Edge(edge.clone(), name.clone()),
        Origin::Service => Opener::Service(service.clone(), edge.id()),
    });
    let openers = openers.collect();
    Ok((service, edges, openers))
}

async fn finish(service: Service, edges: Vec<Edge>) {
    for edge in edges {
        edge.close().await;
    }
    service.close().await;
}

/// Streams that are opened, ended by both sides, and opened again.
pub(super) async fn open(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let (service, edges, openers) = begin(&bed, shape).await?;
    let workers = (0..shape.in_flight.max(1)).map(|i| {
        let opener = openers[i % openers.len()].clone();
        let worker: Worker = Box::new(move |mut tally: Tally| {
            Box::pin(async move {
                while tally.goes_on() {
                    let began = Instant::now();
                    let result = once(&opener).await;
                    tally.note(began, 0, result);
                }
                tally
            })
        });
        worker
    });
    let outcome = measured(&bed, shape, workers.collect()).await?;
    finish(service, edges).await;
    Ok(Report::new("stream open", &bed, shape, &outcome))
}

async fn once(opener: &Opener) -> Result<(), Error> {
    let mut stream = opener.open().await?;
    stream.shutdown().await.map_err(Error::bench)?;
    stream.read_to_end(&mut Vec::new()).await.map_err(Error::bench)?;
    Ok(())
}

/// Streams that are filled as fast as they are drained.
pub(super) async fn fill(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let (service, edges, openers) = begin(&bed, shape).await?;
    let size = shape.size.unwrap_or(SIZE).max(1);
    let streams = shape.in_flight.clamp(1, STREAMS);
    let mut workers = Vec::with_capacity(streams);
    for i in 0..streams {
        let mut stream = openers[i % openers.len()].open().await?;
        let worker: Worker = Box::new(move |mut tally: Tally| {
            Box::pin(async move {
                let block = vec![b'x'; size];
                while tally.goes_on() {
                    let began = Instant::now();
                    let result = stream.write_all(&block).await;
                    let broken = result.is_err();
                    tally.note(began, size as u64, result);
                    if broken {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
                tally
            })
        });
        workers.push(worker);
    }
    let outcome = measured(&bed, shape, workers).await?;
    finish(service, edges).await;
    let report = Report::new("stream", &bed, shape, &outcome).with_bytes(&outcome);
    Ok(Report { size, in_flight: streams, ..report })
}
