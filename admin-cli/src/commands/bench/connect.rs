//! Edges that connect and leave again; the cluster commits both.

use std::time::Instant;

use limes_sdk::Edge;

use super::bed::{Bed, CONNECT};
use super::measure::{self, Tally, Worker};
use super::report::Report;
use super::shape::Shape;
use crate::context::Context;
use crate::error::Error;

pub(super) async fn run(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let workers = (0..shape.workers()).map(|_| worker(bed.edge_node.edges.clone())).collect();
    let outcome = measure::run(&bed.nodes, shape, workers).await?;
    Ok(Report { edges: 0, ..Report::new("connect", &bed, shape, &outcome) })
}

fn worker(address: String) -> Worker {
    Box::new(move |mut tally: Tally| {
        Box::pin(async move {
            while tally.is_running() {
                let began = Instant::now();
                let edge = Edge::builder().address(&address).meta("bench").connect_timeout(CONNECT);
                let result = match edge.connect().await {
                    Ok(edge) => {
                        edge.close().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                tally.count(began, 0, result);
            }
            tally
        })
    })
}
