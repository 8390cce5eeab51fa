//! `limesctl bench`: a load generator that reports what the load costs the nodes.
//!
//! The load is a closed loop: a fixed number of operations is in flight, and the end of one begins the next.
//! The CPU time and memory of all nodes are read from `/proc` where their processes are known (`--dir`). CPU
//! time counts from the end of the warm-up to the end of the run.

mod args;
mod bed;
mod call;
mod connect;
mod idle;
mod latency;
mod measure;
mod nodes;
mod process;
mod report;
mod shape;
mod stream;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Error;
use shape::Shape;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Calls, each answered with the same payload.
    Call(Shape),
    /// Messages, each acknowledged by its receiver.
    Publish(Shape),
    /// Bytes through streams; with --open, opening and closing streams.
    Stream {
        #[command(flatten)]
        shape: Shape,
        /// Open and close streams instead of filling them.
        #[arg(long)]
        open: bool,
    },
    /// Edges that connect and leave again.
    Connect(Shape),
    /// The memory of connected edges without traffic.
    Idle(Shape),
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
