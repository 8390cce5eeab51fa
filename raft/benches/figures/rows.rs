//! The tables by themselves: no log, no history, no sessions.

use std::time::Instant;

use limes_routing::{Batch, Epoch, Event, Founder, Levels, NodeAddrs, NodeId, Origin, Revision, Tables};

use crate::Options;
use crate::member::online;
use crate::times::memory;

/// Events in one batch.
const BATCH: u64 = 500;

pub(crate) fn run(options: &Options) {
    let mut tables = Tables::new();
    let founder = Founder { node: NodeId(1), name: "node-1".into(), mesh: String::new() };
    let made = Event::ClusterMade { cluster: [7; 16], key: Default::default(), founders: vec![founder] };
    let (addrs, levels) = (NodeAddrs::default(), Levels { min: 1, max: 1 });
    let up = Event::NodeUp { node: NodeId(1), boot: [1; 16], addrs, levels };
    for (revision, event) in [(1, made), (2, up)] {
        tables.apply(Revision(revision), &Batch { origin: None, time_ms: 0, events: vec![event] });
    }
    let epoch: Epoch = tables.live_epoch(NodeId(1)).expect("the node is up");
    let (before, begin) = (memory(), Instant::now());
    for number in 0..options.edges / BATCH {
        let origin = Origin { node: NodeId(1), epoch, number: number + 1 };
        let events = (0..BATCH).map(|at| online(number * BATCH + at)).collect();
        let batch = Batch { origin: Some(origin), time_ms: 1, events };
        tables.apply(Revision(3 + number), &batch);
    }
    println!("| figure | value |\n|---|---|");
    println!("| rows in the tables | {} |", tables.edge_count());
    println!("| memory of the tables | {} MB |", memory() - before);
    println!("| applied in | {:.2} s |", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let copy = tables.clone();
    println!("| a copy of all of them | {:.2} ms |", begin.elapsed().as_secs_f64() * 1e3);
    drop(copy);
}
