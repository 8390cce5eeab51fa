//! `limesctl bench`: a load generator, and what the load costs the gateway.
//!
//! A closed loop: so many requests are in flight, and the end of one is the beginning of the next. What
//! the gateway's own processes spend is read where they are known (`--dir`), over all nodes, and between
//! the end of the warm-up and the end of the run only.

mod args;
mod call;
mod connect;
mod histogram;
mod idle;
mod measure;
mod nodes;
mod report;
mod stream;

use std::time::Duration;

use clap::{Args, Subcommand};
use limes_sdk::{Edge, Service};
use tokio::task::JoinSet;

use crate::Context;
use crate::client::Error;
use args::{Origin, bytes, duration};
use measure::Load;
use nodes::{Nodes, Place};

/// How long connecting the generator's own edges and services may take.
const CONNECT: Duration = Duration::from_secs(60);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Connections that are made at once.
const AT_ONCE: usize = 64;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Calls, each with an answer of the same size.
    Call(Shape),
    /// Messages, each acknowledged by its receiver.
    Publish(Shape),
    /// Bytes through streams; with --open streams that are opened and closed.
    Stream {
        #[command(flatten)]
        shape: Shape,
        /// Open and close streams instead of filling them.
        #[arg(long)]
        open: bool,
    },
    /// Edges that connect and leave again.
    Connect(Shape),
    /// Edges that are connected and say nothing: the memory of each.
    Idle(Shape),
}

/// The load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Folder of a cluster that `limes dev` runs here: its nodes' processes are measured.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Who begins: edges, or the service.
    #[arg(long, value_enum, default_value = "edge")]
    from: Origin,
    /// Edges connected.
    #[arg(long, default_value_t = 16)]
    edges: usize,
    /// Requests, streams or connects in flight, over all edges.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Bytes of a payload, or of one write to a stream: 64, 16KiB.
    #[arg(long, value_parser = bytes)]
    size: Option<usize>,
    /// How long: 5s, 500ms. A fifth as much goes before it and is not counted.
    #[arg(long, value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// The edges' node; 2 is short for node-2. The first if not given.
    #[arg(long, value_name = "NODE")]
    edge_node: Option<String>,
    /// The service's node; that of the edges if not given.
    #[arg(long, value_name = "NODE")]
    service_node: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        let report = match self {
            Command::Call(shape) => call::run(context, &shape, call::Kind::Call).await?,
            Command::Publish(shape) => call::run(context, &shape, call::Kind::Publish).await?,
            Command::Stream { shape, open: true } => stream::open(context, &shape).await?,
            Command::Stream { shape, open: false } => stream::fill(context, &shape).await?,
            Command::Connect(shape) => connect::run(context, &shape).await?,
            Command::Idle(shape) => idle::run(context, &shape).await?,
        };
        report.print(context.json)
    }
}

/// The nodes, and those that the load goes to.
struct Bed {
    nodes: Nodes,
    edges_at: Place,
    service_at: Place,
}

impl Bed {
    async fn find(context: &Context, shape: &Shape) -> Result<Bed, Error> {
        let nodes = Nodes::find(context, shape.dir.as_deref()).await?;
        let edges_at = nodes.named(shape.edge_node.as_deref())?;
        let service_at = match &shape.service_node {
            Some(name) => nodes.named(Some(name))?,
            None => edges_at.clone(),
        };
        Ok(Bed { nodes, edges_at, service_at })
    }

    async fn service(&self, name: &str) -> Result<Service, Error> {
        let service = Service::builder(name).address(&self.service_at.services).connect_timeout(CONNECT);
        service.call_timeout(REQUEST).connect().await.map_err(Error::bench)
    }

    /// So many edges, some at a time.
    async fn edges(&self, count: usize) -> Result<Vec<Edge>, Error> {
        let (mut edges, mut coming) = (Vec::with_capacity(count), JoinSet::new());
        let mut begun = 0;
        while edges.len() < count {
            while begun < count && coming.len() < AT_ONCE {
                let edge =
                    Edge::builder().address(&self.edges_at.edges).meta("bench").connect_timeout(CONNECT);
                coming.spawn(edge.call_timeout(REQUEST).connect());
                begun += 1;
            }
            match coming.join_next().await {
                Some(joined) => edges.push(joined.map_err(Error::bench)?.map_err(Error::bench)?),
                None => break,
            }
        }
        Ok(edges)
    }

    /// Names that no other run uses.
    fn tag(&self) -> String {
        format!("bench-{}", std::process::id())
    }
}

/// Runs the workers of a load, and what they cost.
async fn measured(
    bed: &Bed,
    shape: &Shape,
    workers: Vec<measure::Worker>,
) -> Result<measure::Outcome, Error> {
    Load::new(shape.duration / 5, shape.duration).run(&bed.nodes, workers).await
}
