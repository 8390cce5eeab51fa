//! Histories from bytes: any bytes are a history, so a generator of bytes is a generator of histories.
//!
//! Four bytes are one event: its kind, its subject, a choice, and how its origin is wrong, if it
//! is. Origins are mostly valid, because a history of refusals shows nothing; sometimes they are of an older epoch,
//! repeated, skipped or missing, and an earlier batch arrives again.

use bytes::Bytes;
use limes_routing::{
    Applied, Batch, EdgeId, Epoch, Event, Founder, Incarnation, Levels, NodeAddrs, NodeId, Origin, Position,
    Revision, ServiceId, SessionNo, Tables,
};

/// One entry of a history, with the tables around it.
pub(crate) struct Step<'a> {
    pub(crate) before: &'a Tables,
    pub(crate) revision: Revision,
    pub(crate) batch: &'a Batch,
    pub(crate) applied: &'a Applied,
    pub(crate) after: &'a Tables,
}

/// Plays the history of the bytes; `seen` gets every entry.
pub(crate) fn play(bytes: &[u8], mut seen: impl FnMut(&Step<'_>)) -> Tables {
    let mut world = World::default();
    let (ops, _) = bytes.as_chunks::<4>();
    // Most histories begin with a cluster, so that the rest has an effect.
    if ops.first().is_none_or(|op| op[0] != 0xFF) {
        for batch in beginning() {
            world.apply(batch, &mut seen);
        }
    }
    let mut at = 0;
    while at < ops.len() {
        let batch = world.batch(ops, &mut at);
        world.apply(batch, &mut seen);
    }
    world.tables
}

/// A cluster of three nodes that are up.
pub(crate) fn beginning() -> Vec<Batch> {
    let founder = |node: u64| Founder {
        node: NodeId(node),
        name: format!("node-{node}"),
        mesh: format!("host-{node}:1"),
    };
    let founders = (1..=3).map(founder).collect();
    let mut events =
        vec![Event::ClusterMade { cluster: [7; 16], key: Bytes::from_static(&[9; 32]), founders }];
    events.extend((1..=3).map(|node| up(node, 1)));
    events.into_iter().map(plain).collect()
}

/// A batch without an origin.
pub(crate) fn plain(event: Event) -> Batch {
    Batch { origin: None, time_ms: 0, events: vec![event] }
}

pub(crate) fn up(node: u64, boot: u8) -> Event {
    let addrs = NodeAddrs {
        mesh: format!("host-{node}:1"),
        edges: format!("host-{node}:2"),
        services: format!("host-{node}:3"),
        control: format!("host-{node}:4"),
    };
    Event::NodeUp { node: NodeId(node), boot: [boot; 16], addrs, levels: Levels { min: 1, max: 1 } }
}

#[derive(Default)]
struct World {
    tables: Tables,
    revision: u64,
    session: u64,
    /// Every session of an edge so far.
    sessions: Vec<(EdgeId, Incarnation)>,
    batches: Vec<Batch>,
}

impl World {
    fn apply(&mut self, batch: Batch, seen: &mut impl FnMut(&Step<'_>)) {
        // Entries of other kinds lie in between: revisions increase by more than one.
        self.revision += 1 + (batch.events.len() as u64 % 3);
        let revision = Revision(self.revision);
        let before = self.tables.clone();
        let applied = self.tables.apply(revision, &batch);
        assert_eq!(applied.verdicts.len(), batch.events.len(), "one verdict for each event");
        for (edge, row) in self.tables.edges() {
            if row.home.incarnation.0.revision == revision {
                self.sessions.push((edge, row.home.incarnation));
            }
        }
        seen(&Step { before: &before, revision, batch: &batch, applied: &applied, after: &self.tables });
        self.batches.push(batch);
    }

    fn batch(&mut self, ops: &[[u8; 4]], at: &mut usize) -> Batch {
        let [kind, subject, choice, skew] = ops[*at];
        *at += 1;
        if kind % 32 == 31 && !self.batches.is_empty() {
            // An abandoned proposal commits late.
            let at = usize::from(choice) * 256 + usize::from(subject);
            return self.batches[at % self.batches.len()].clone();
        }
        if let Some(event) = self.of_cluster(kind, subject, choice) {
            return plain(event);
        }
        let node = 1 + u64::from(subject >> 4) % 3;
        let mut events = vec![self.of_node(kind, subject, choice)];
        // The high bit of the choice: the next event is in the same batch.
        let mut more = choice & 0x80 != 0;
        while more && *at < ops.len() && events.len() < 8 {
            let [kind, subject, choice, _] = ops[*at];
            *at += 1;
            events.push(
                self.of_cluster(kind, subject, choice).unwrap_or_else(|| self.of_node(kind, subject, choice)),
            );
            more = choice & 0x80 != 0;
        }
        Batch { origin: self.origin(NodeId(node), skew), time_ms: u64::from(skew), events }
    }

    fn origin(&self, node: NodeId, skew: u8) -> Option<Origin> {
        let row = self.tables.node(node);
        let (epoch, last) = row.map_or((Epoch(0), 0), |row| (row.epoch, row.last));
        let right = Origin { node, epoch, number: last + 1 };
        match skew {
            250.. => None,
            245.. => Some(Origin { number: last, ..right }),
            240.. => Some(Origin { number: last + 2, ..right }),
            230.. => Some(Origin { epoch: Epoch(epoch.0.saturating_sub(1)), ..right }),
            _ => Some(right),
        }
    }

    /// A session of this edge: the one in the tables, or an older one.
    fn incarnation(&self, edge: EdgeId, choice: u8) -> Incarnation {
        let held = self.tables.edge_row(edge).map(|row| row.home.incarnation);
        let older = || {
            let of_edge: Vec<_> =
                self.sessions.iter().filter(|(of, _)| *of == edge).map(|(_, i)| *i).collect();
            (!of_edge.is_empty()).then(|| of_edge[usize::from(choice) % of_edge.len()])
        };
        let found = if choice % 4 == 3 { older() } else { held.or_else(older) };
        found.unwrap_or(Incarnation(Position { revision: Revision(1), ordinal: 0 }))
    }

    fn of_node(&mut self, kind: u8, subject: u8, choice: u8) -> Event {
        let edge = EdgeId(u64::from(subject % 8) + 1);
        let service = ServiceId(u64::from(subject % 4) + 1);
        let named = SessionNo(u64::from(choice) % 3);
        let names =
            || -> Vec<Box<str>> { (0..choice % 3).map(|n| format!("n{}", n + subject % 3).into()).collect() };
        self.session += 1;
        let session = SessionNo(self.session);
        match kind % 32 {
            0 => Event::EdgeAdmitting { edge, session: SessionNo(u64::from(choice % 2)) },
            1 => Event::EdgeRefused { edge, session: SessionNo(u64::from(choice % 2)) },
            2..=4 => Event::EdgeOffline { edge, incarnation: self.incarnation(edge, choice) },
            5..=7 => Event::EdgeResumed { edge, incarnation: self.incarnation(edge, choice) },
            8 => Event::ResumeEnd {},
            9 => Event::ServiceOffline { service, session: named },
            10 => Event::ServiceResumed { service, session: named },
            11 | 12 => Event::MethodsRegistered { service, session: named, names: names() },
            13 => Event::MethodsWithdrawn { service, session: named, names: names() },
            14 => Event::TopicsSubscribed { service, session: named, names: names() },
            15 => Event::TopicsUnsubscribed { service, session: named, names: names() },
            16 => Event::EdgeIdsReserved { count: u32::from(choice) },
            17 => Event::ServiceIdsReserved { count: u32::from(choice) },
            18 => Event::CallbackOwed {
                edge,
                incarnation: self.incarnation(edge, choice),
                meta: Bytes::from(vec![choice; 3]),
                addr: "owed".into(),
            },
            19 => Event::CallbackSettled { edge, incarnation: self.incarnation(edge, choice) },
            20 | 21 => Event::ServiceOnline {
                service,
                session: named,
                name: format!("service-{}", subject % 2).into(),
                instance: [choice / 3 % 3; 16],
                meta: Bytes::from(vec![choice; usize::from(choice % 5)]),
                addr: "10.0.0.1:1".into(),
            },
            _ => Event::EdgeOnline {
                edge,
                session,
                meta: Bytes::from(vec![choice; usize::from(choice % 5)]),
                addr: format!("10.0.0.{subject}:{choice}").into(),
                moving: choice & 1 == 1,
                offline_callback: choice & 2 == 2,
            },
        }
    }

    /// Events that need no origin, for some of the kinds.
    fn of_cluster(&self, kind: u8, subject: u8, choice: u8) -> Option<Event> {
        if kind & 0x60 != 0x60 {
            return None;
        }
        let node = NodeId(1 + u64::from(subject) % 3);
        let epoch = self.tables.node(node).map_or(Epoch(0), |row| row.epoch);
        let epoch = if choice % 8 == 7 { Epoch(epoch.0.saturating_sub(1)) } else { epoch };
        Some(match kind % 16 {
            0..=3 => Event::NodeDown { node, epoch },
            4..=7 => up(node.0, choice % 3),
            8 => Event::SuspendedDropped { node, epoch },
            9 => Event::Kick { edge: EdgeId(u64::from(subject % 8) + 1) },
            10 if choice % 4 > 1 => Event::KickService { service: ServiceId(u64::from(subject % 4) + 1) },
            10 => Event::Drain { node, on: choice & 1 == 1 },
            11 => Event::SettingChanged {
                key: format!("k{}", subject % 3),
                value: "v".repeat(usize::from(choice % 3)),
            },
            12 => Event::MemberAdded {
                name: format!("node-{}", node.0),
                mesh: "joined:1".into(),
                nonce: [choice % 4 + 1; 16],
            },
            13 => Event::MemberPromoted { node: self.tables.members().last().map_or(node, |m| m.node) },
            14 if choice.is_multiple_of(4) => {
                Event::MemberRemoved { node: self.tables.members().last()?.node }
            }
            _ => Event::LevelRaised { level: u32::from(choice % 2) },
        })
    }
}
