//! Edges that connect and leave again: each twice committed by the cluster.

use std::time::Instant;

use limes_sdk::Edge;

use super::measure::{Tally, Worker};
use super::report::Report;
use super::{Bed, CONNECT, Shape, measured};
use crate::Context;
use crate::client::Error;

pub(super) async fn run(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let worker = |_| {
        let address = bed.edges_at.edges.clone();
        let worker: Worker = Box::new(move |mut tally: Tally| {
            Box::pin(async move {
                while tally.goes_on() {
                    let began = Instant::now();
                    let edge = Edge::builder().address(&address).meta("bench").connect_timeout(CONNECT);
                    let result = match edge.connect().await {
                        Ok(edge) => {
                            edge.close().await;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    };
                    tally.note(began, 0, result);
                }
                tally
            })
        });
        worker
    };
    let workers = (0..shape.in_flight.max(1)).map(worker).collect();
    let outcome = measured(&bed, shape, workers).await?;
    Ok(Report { edges: 0, ..Report::new("connect", &bed, shape, &outcome) })
}
