//! Histories for tests.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by tests that use parts of it")]

use limes_routing::{
    Batch, EdgeId, Epoch, Event, Founder, Incarnation, Levels, NodeAddrs, NodeId, Origin, Position, Revision,
    ServiceId, SessionNo, Tables,
};

/// A cluster made of three founders.
pub(crate) fn founded() -> (Tables, Vec<Batch>) {
    let founders = (1..=3).map(|n| Founder {
        node: NodeId(n),
        name: format!("node-{n}"),
        mesh: format!("10.0.0.{n}:30013"),
    });
    let made = Event::ClusterMade {
        cluster: [7; 16],
        key: (&b"a key of thirty-two bytes, or so"[..]).into(),
        founders: founders.collect(),
    };
    let batch = plain(made);
    let mut tables = Tables::new();
    tables.apply(Revision(1), &batch);
    (tables, vec![batch])
}

/// A batch without origin.
pub(crate) fn plain(event: Event) -> Batch {
    Batch { origin: None, time_ms: 1_700_000_000_000, events: vec![event] }
}

/// A numbered batch.
pub(crate) fn numbered(node: u64, epoch: u64, number: u64, events: Vec<Event>) -> Batch {
    let origin = Origin { node: NodeId(node), epoch: Epoch(epoch), number };
    Batch { origin: Some(origin), time_ms: 1_700_000_000_000, events }
}

pub(crate) fn up(node: u64, boot: u8) -> Event {
    Event::NodeUp {
        node: NodeId(node),
        boot: [boot; 16],
        addrs: NodeAddrs { mesh: format!("10.0.0.{node}:30013"), ..NodeAddrs::default() },
        levels: Levels { min: 1, max: 1 },
    }
}

pub(crate) fn down(node: u64, epoch: u64) -> Event {
    Event::NodeDown { node: NodeId(node), epoch: Epoch(epoch) }
}

pub(crate) fn online(edge: u64, session: u64) -> Event {
    Event::EdgeOnline {
        edge: EdgeId(edge),
        session: SessionNo(session),
        meta: (&b"meta"[..]).into(),
        addr: "192.0.2.1:4711".into(),
        moving: false,
        offline_callback: edge.is_multiple_of(2),
    }
}

pub(crate) fn offline(edge: u64, revision: u64, ordinal: u32) -> Event {
    Event::EdgeOffline { edge: EdgeId(edge), incarnation: incarnation(revision, ordinal) }
}

pub(crate) fn incarnation(revision: u64, ordinal: u32) -> Incarnation {
    Incarnation(Position { revision: Revision(revision), ordinal })
}

pub(crate) fn service(service: u64, session: u64) -> Event {
    Event::ServiceOnline {
        service: ServiceId(service),
        session: SessionNo(session),
        name: "greeter".into(),
        instance: [0; 16],
        meta: (&b""[..]).into(),
        addr: "192.0.2.2:4711".into(),
    }
}
