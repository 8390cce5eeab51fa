//! A million edges' presence in the tables: memory, apply rate, snapshot and copy.
//!
//! One process, one thread, no disk, no network, no Raft: `cargo bench -p limes-routing`. Each edge
//! has 32 B of meta and an address; 1,000 services offer ten methods each.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![allow(clippy::expect_used, reason = "a measurement that fails has nothing to say")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use limes_routing::{
    Batch, EdgeId, Epoch, Event, Founder, Levels, NodeAddrs, NodeId, Origin, Revision, ServiceId, SessionNo,
    Tables,
};

const EDGES: u64 = 1_000_000;
const SERVICES: u64 = 1_000;
/// Events in one batch, as a node gathers them.
const BATCH: u64 = 500;
const FIRST: u64 = 1_000_000_000_001;

fn main() {
    let before = resident();
    let mut log = Log { tables: Tables::new(), revision: 0, numbers: [0; 4], epochs: [0; 4] };
    log.found();
    log.services();
    let spent = log.connect(0);
    let memory = resident() - before;
    println!("edges online: {}", rate(EDGES, spent));
    println!("memory: {} MB for {} rows", memory / 1_000_000, log.tables.edge_rows());
    println!("a move of every edge: {}", rate(EDGES, log.connect(1)));

    let (copy, spent) = timed(|| log.tables.clone());
    println!("copy of the tables: {spent:?}");
    println!("events while a copy is held: {}", rate(EDGES / 10, log.some(2, EDGES / 10)));
    drop(copy);

    let (chunks, spent) = timed(|| log.tables.encode_snapshot());
    let size: usize = chunks.iter().map(Bytes::len).sum();
    println!("snapshot encoded: {spent:?}, {} MB", size / 1_000_000);
    let mut joined = BytesMut::with_capacity(size);
    chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
    drop(chunks);
    let (decoded, spent) = timed(|| Tables::decode_snapshot(joined.freeze()).expect("own snapshot"));
    println!("snapshot decoded: {spent:?}");
    assert!(decoded == log.tables, "the decoded tables differ");
    drop(decoded);

    let (node, epoch) = (NodeId(2), Epoch(log.epochs[2]));
    let (_, spent) = timed(|| log.plain(Event::NodeDown { node, epoch }));
    println!("node down with {} of the edges: {spent:?}", log.tables.edge_rows() / 3);
    let (_, spent) = timed(|| log.plain(Event::SuspendedDropped { node, epoch }));
    println!("its rows dropped: {spent:?}, {} rows are left", log.tables.edge_rows());
}

/// A log that is applied as it is written.
struct Log {
    tables: Tables,
    revision: u64,
    numbers: [u64; 4],
    epochs: [u64; 4],
}

impl Log {
    fn apply(&mut self, batch: &Batch) -> Duration {
        self.revision += 1;
        // As followers do: from the bytes of the log.
        let bytes = batch.encode();
        let (_, spent) = timed(|| {
            let batch = Batch::decode(bytes).expect("own batch");
            self.tables.apply(Revision(self.revision), &batch)
        });
        spent
    }

    fn plain(&mut self, event: Event) -> Duration {
        self.apply(&Batch { origin: None, time_ms: 0, events: vec![event] })
    }

    fn from(&mut self, node: u64, events: Vec<Event>) -> Duration {
        let at = node as usize;
        self.numbers[at] += 1;
        let origin = Origin { node: NodeId(node), epoch: Epoch(self.epochs[at]), number: self.numbers[at] };
        self.apply(&Batch { origin: Some(origin), time_ms: 0, events })
    }

    fn found(&mut self) {
        let founder =
            |node| Founder { node: NodeId(node), name: format!("node-{node}"), mesh: String::new() };
        let founders = (1..=3).map(founder).collect();
        self.plain(Event::ClusterMade { cluster: [7; 16], key: Bytes::from_static(&[1; 32]), founders });
        for node in 1..=3 {
            let levels = Levels { min: 1, max: 1 };
            let (boot, addrs) = ([node as u8; 16], NodeAddrs::default());
            self.plain(Event::NodeUp { node: NodeId(node), boot, addrs, levels });
            self.epochs[node as usize] = self.revision;
        }
    }

    fn services(&mut self) {
        for service in 1..=SERVICES {
            let (session, id) = (SessionNo(service), ServiceId(service));
            let online = Event::ServiceOnline {
                service: id,
                session,
                name: "worker".into(),
                instance: [0; 16],
                meta: Bytes::new(),
                addr: "10.0.0.1:40000".into(),
            };
            let names = (0..10).map(|n| format!("method-{}", (service + n) % 100).into()).collect();
            let register = Event::MethodsRegistered { service: id, session, names };
            self.from(1 + service % 3, vec![online, register]);
        }
    }

    /// Every edge connects, to another node in each turn.
    fn connect(&mut self, turn: u64) -> Duration {
        self.some(turn, EDGES)
    }

    fn some(&mut self, turn: u64, edges: u64) -> Duration {
        let online = |n: u64| Event::EdgeOnline {
            edge: EdgeId(FIRST + n),
            session: SessionNo(10_000 + n + turn * EDGES),
            meta: Bytes::from(vec![n as u8; 32]),
            addr: format!("10.{}.{}.{}:{}", n >> 16, n >> 8 & 255, n & 255, 1_024 + n % 60_000).into(),
            moving: false,
            offline_callback: false,
        };
        let batches = (0..edges).step_by(BATCH as usize).enumerate();
        batches
            .map(|(at, from)| {
                let events = (from..(from + BATCH).min(edges)).map(online).collect();
                self.from(1 + (at as u64 + turn) % 3, events)
            })
            .sum()
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn rate(count: u64, spent: Duration) -> String {
    format!("{:.0} events/s with decoding", count as f64 / spent.as_secs_f64())
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}
