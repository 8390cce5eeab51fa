//! Streams: bytes through them, or opening and closing them.

use std::time::Instant;

use limes_sdk::{Bytes, Edge, Incoming, Service, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::args::Origin;
use super::bed::Bed;
use super::measure::{self, Tally, Worker};
use super::report::Report;
use super::shape::Shape;
use crate::context::Context;
use crate::error::Error;

/// Default size of one write, in bytes.
const SIZE: usize = 16 << 10;
/// Most streams that are filled at once: more would only compete for the same CPU time.
const STREAMS: usize = 4;

/// The client that opens streams, and its peer.
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
        Ok(stream?)
    }
}

/// The client that accepts streams.
enum Acceptor {
    Edge(Edge),
    Service(Service),
}

impl Acceptor {
    async fn accept(&self) -> Option<Incoming> {
        match self {
            Acceptor::Edge(edge) => edge.accept_stream().await,
            Acceptor::Service(service) => service.accept_stream().await,
        }
    }
}

/// Reads every accepted stream to its end; dropping the future ends them all.
async fn receive(acceptor: Acceptor) {
    let mut open = JoinSet::new();
    while let Some(incoming) = acceptor.accept().await {
        while open.try_join_next().is_some() {}
        open.spawn(drain(incoming));
    }
}

/// Reads a stream to its end and closes it.
async fn drain(mut incoming: Incoming) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = incoming.stream.read(&mut buffer).await {
        if read == 0 {
            break;
        }
    }
    let _ = incoming.stream.shutdown().await;
}

/// The clients of a load of streams.
struct Clients {
    service: Service,
    edges: Vec<Edge>,
    /// One for each edge.
    openers: Vec<Opener>,
    /// Accept streams and read them to their end; aborted when dropped.
    _receivers: JoinSet<()>,
}

impl Clients {
    async fn connect(bed: &Bed, shape: &Shape) -> Result<Clients, Error> {
        let name = bed.unique_name();
        let service = bed.service(&name).await?;
        let edges = bed.edges(shape.edges.max(1)).await?;
        let mut receivers = JoinSet::new();
        let acceptors = match shape.from {
            Origin::Edge => vec![Acceptor::Service(service.clone())],
            Origin::Service => edges.iter().cloned().map(Acceptor::Edge).collect(),
        };
        acceptors.into_iter().for_each(|acceptor| drop(receivers.spawn(receive(acceptor))));
        let openers = edges.iter().map(|edge| match shape.from {
            Origin::Edge => Opener::Edge(edge.clone(), name.clone()),
            Origin::Service => Opener::Service(service.clone(), edge.id()),
        });
        let openers = openers.collect();
        Ok(Clients { service, edges, openers, _receivers: receivers })
    }

    async fn close(self) {
        for edge in self.edges {
            edge.close().await;
        }
        self.service.close().await;
    }
}

/// Opens streams; both sides end each of them.
pub(super) async fn open(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let clients = Clients::connect(&bed, shape).await?;
    let workers = (0..shape.workers()).map(|i| {
        let opener = clients.openers[i % clients.openers.len()].clone();
        let worker: Worker = Box::new(move |mut tally: Tally| {
            Box::pin(async move {
                while tally.is_running() {
                    let began = Instant::now();
                    let result = open_and_close(&opener).await;
                    tally.count(began, 0, result);
                }
                tally
            })
        });
        worker
    });
    let outcome = measure::run(&bed.nodes, shape, workers.collect()).await?;
    clients.close().await;
    Ok(Report::new("stream open", &bed, shape, &outcome))
}

async fn open_and_close(opener: &Opener) -> Result<(), Error> {
    let mut stream = opener.open().await?;
    stream.shutdown().await.map_err(Error::Stream)?;
    stream.read_to_end(&mut Vec::new()).await.map_err(Error::Stream)?;
    Ok(())
}

/// Fills streams as fast as the receiver drains them.
pub(super) async fn fill(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let clients = Clients::connect(&bed, shape).await?;
    let size = shape.size.unwrap_or(SIZE).max(1);
    let streams = shape.in_flight.clamp(1, STREAMS);
    let mut workers = Vec::with_capacity(streams);
    for i in 0..streams {
        let stream = clients.openers[i % clients.openers.len()].open().await?;
        workers.push(filler(stream, size));
    }
    let outcome = measure::run(&bed.nodes, shape, workers).await?;
    clients.close().await;
    let report = Report::new("stream", &bed, shape, &outcome).with_bytes(&outcome);
    Ok(Report { size, in_flight: streams, ..report })
}

/// Writes blocks of `size` bytes to a stream.
fn filler(mut stream: Stream, size: usize) -> Worker {
    Box::new(move |mut tally: Tally| {
        Box::pin(async move {
            let block = vec![b'x'; size];
            while tally.is_running() {
                let began = Instant::now();
                let result = stream.write_all(&block).await;
                let is_broken = result.is_err();
                tally.count(began, size as u64, result);
                if is_broken {
                    break;
                }
            }
            let _ = stream.shutdown().await;
            tally
        })
    })
}
