//! Edges that are connected and say nothing.

use std::time::{Duration, Instant};

use super::report::{Report, nothing, round};
use super::{Bed, Shape};
use crate::Context;
use crate::client::Error;

/// Edges that come first and stay out of the figure: what they need is there once.
const FIRST: usize = 64;
/// How long memory is left to settle, if the run is not to be shorter.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context, shape: &Shape) -> Result<Report, Error> {
    let bed = Bed::find(context, shape).await?;
    let settle = SETTLE.min(shape.duration);
    let began = Instant::now();
    let first = bed.edges(FIRST).await?;
    tokio::time::sleep(settle).await;
    let before = bed.nodes.resident_kb();
    let edges = bed.edges(shape.edges).await?;
    tokio::time::sleep(settle).await;
    let after = bed.nodes.resident_kb();
    let report = Report::new("idle", &bed, shape, &nothing(began.elapsed()));
    // They leave by being dropped: nobody waits for twenty thousand good-byes.
    drop((first, edges));
    tokio::time::sleep(settle).await;
    let grown = after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64);
    Ok(Report {
        in_flight: 0,
        rss_kb_per_edge: grown.filter(|_| shape.edges > 0).map(|kb| round(kb / shape.edges as f64)),
        ..report
    })
}
