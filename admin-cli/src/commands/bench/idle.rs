//! Connected edges without traffic.

use std::time::{Duration, Instant};

use super::bed::Bed;
use super::measure::Outcome;
use super::report::{Report, round};
use super::shape::Shape;
use crate::context::Context;
use crate::error::Error;

/// Edges that connect before the measurement: they pay for what a node allocates once.
const FIRST: usize = 64;
/// Longest time for the nodes' memory to settle; a shorter run shortens it.
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
    let report = Report::new("idle", &bed, shape, &Outcome::idle(began.elapsed()));
    // Dropping closes them in the background: twenty thousand orderly closes would take too long.
    drop((first, edges));
    tokio::time::sleep(settle).await;
    let grown = after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64);
    Ok(Report {
        in_flight: 0,
        rss_kb_per_edge: grown.filter(|_| shape.edges > 0).map(|kb| round(kb / shape.edges as f64)),
        ..report
    })
}
