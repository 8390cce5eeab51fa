//! Nodes without sockets, disks and a clock: what a node does with effects, over random histories in
//! which each applies the log at its own pace. In the end each node's routes are those of the tables,
//! each row has its session, and no edge has two.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod grace;
mod links;
mod order;
mod resumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_raft::Observer;
use limes_routing::{
    Batch, EdgeId, Effect, Event, Founder, Home, Incarnation, Levels, NodeAddrs, NodeId, Origin, Position,
    Reason, Revision, ServiceId, ServiceRow, SessionNo, Tables, Verdict, diff, pick::mix,
};
use limes_wire::driver::Mailbox;
use limes_wire::frame::Execution;
use limes_wire::{Code, Str};
use tokio::sync::mpsc;

use super::applier::Applier;
use super::change_log::Change;
use super::{orphans, resume};
use crate::config::NodeConfig;
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Address, Answer, Delivery, Destination, Kind, Message, NativeMessage, Origin as Asker, Receiver, Request,
    RequestEvent, SessionCommand, SessionHandle, TaskHandle,
};
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::router::resolve::{Resolution, find_local, newer_revision, resolve_edge, return_undelivered};
use crate::server::assemble::Components;

const NODES: u64 = 3;
const EDGES: u64 = 4;

/// An applied entry, with the tables after it.
struct Applied {
    batch: Batch,
    verdicts: Vec<Verdict>,
    effects: Vec<Effect>,
    tables: Tables,
}

struct Member {
    node: Arc<Components>,
    watcher: Applier,
    /// Entries that this node has applied.
    applied: usize,
    /// Mailboxes of open connections; who hangs up is taken out here first.
    open: BTreeMap<u64, Inbox>,
    /// The tables that it jumped to last.
    base: Tables,
    /// Resumes that are to be proposed.
    resume: bool,
}

struct World {
    seed: u64,
    tables: Tables,
    log: Vec<Applied>,
    members: Vec<Member>,
    /// Notifications of takeovers that are on their way, or come again.
    notices: Vec<(EdgeId, Incarnation, bool)>,
}

type Inbox = Mailbox<NativeMessage>;

fn handle(inbox: &Inbox) -> SessionHandle {
    SessionHandle::Native(TaskHandle::new(inbox.clone()))
}

fn is_same(inbox: &Inbox, handle: &SessionHandle) -> bool {
    matches!(handle, SessionHandle::Native(handle) if handle.mailbox().same(inbox))
}

fn entry(inbox: &Inbox, who: SessionOwner) -> SessionEntry {
    SessionEntry { handle: handle(inbox), who, silent: false }
}

fn up(node: u64) -> Event {
    let (addrs, levels) = (NodeAddrs::default(), Levels { min: 1, max: 1 });
    Event::NodeUp { node: NodeId(node), boot: [node as u8; 16], addrs, levels }
}

impl World {
    fn new(seed: u64) -> World {
        let members = (1..=NODES).map(|number| {
            let node = Arc::new(Components::new(Arc::new(NodeConfig::default())));
            let watcher = Applier(node.presence.clone());
            watcher.identified(NodeId(number), [7; 16], [number as u8; 16]);
            Member { node, watcher, applied: 0, open: BTreeMap::new(), base: Tables::new(), resume: false }
        });
        let members = members.collect();
        let mut world = World { seed, tables: Tables::new(), log: Vec::new(), members, notices: Vec::new() };
        let founder = |n| Founder { node: NodeId(n), name: format!("node-{n}"), mesh: String::new() };
        let founders = (1..=NODES).map(founder).collect();
        let made = Event::ClusterMade { cluster: [7; 16], key: Default::default(), founders };
        world.plain(made);
        (1..=NODES).for_each(|node| _ = world.plain(up(node)));
        (0..NODES as usize).for_each(|at| world.catch_up(at));
        world
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.seed = mix(self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15));
        self.seed % below
    }

    fn commit(&mut self, batch: Batch) -> Vec<Verdict> {
        let revision = Revision(self.tables.revision().0 + 1);
        let applied = self.tables.apply(revision, &batch);
        for effect in &applied.effects {
            if let Effect::EdgeOnline { edge, home, replaced: Some(_), moving } = effect {
                self.notices.push((*edge, home.incarnation, *moving));
            }
        }
        let (verdicts, effects, tables) = (applied.verdicts, applied.effects, self.tables.clone());
        self.log.push(Applied { batch, verdicts: verdicts.clone(), effects, tables });
        verdicts
    }

    fn plain(&mut self, event: Event) -> Vec<Verdict> {
        self.commit(Batch { origin: None, time_ms: 0, events: vec![event] })
    }

    /// Proposes under the epoch that the node knows; a node that is fenced by it proposes nothing.
    fn propose(&mut self, at: usize, events: Vec<Event>) -> Option<Vec<Verdict>> {
        let id = NodeId(at as u64 + 1);
        let epoch = self.members[at].node.consensus.epoch()?;
        let row = self.tables.node(id)?;
        if events.is_empty() {
            return None;
        }
        let origin = Origin { node: id, epoch, number: row.last + 1 };
        let verdicts = self.commit(Batch { origin: Some(origin), time_ms: 0, events });
        (verdicts.first() != Some(&Verdict::Rejected(Reason::Fenced))).then_some(verdicts)
    }

    fn apply(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(next) = self.log.get(member.applied) else { return };
        member.applied += 1;
        let Applied { batch, verdicts, effects, tables } = next;
        member.watcher.applied(tables.revision(), batch, verdicts, effects, tables);
        member.note_resume(effects);
    }

    /// A snapshot takes the place of what is missing.
    fn jump(&mut self, at: usize) {
        let member = &mut self.members[at];
        if member.applied == self.log.len() {
            return;
        }
        let before = member.applied.checked_sub(1).map_or_else(Tables::new, |at| self.log[at].tables.clone());
        let effects = diff(&before, &self.tables);
        member.applied = self.log.len();
        member.watcher.installed(&effects, &self.tables);
        member.base = self.tables.clone();
        member.note_resume(&effects);
        // Verdicts that were stepped over are never told: those admissions fail.
        let untold = |(no, entry): (u64, SessionEntry)| {
            matches!(entry.who, SessionOwner::Edge(_, None) | SessionOwner::Service(_, false)).then_some(no)
        };
        let untold: Vec<u64> = member.node.sessions.all().into_iter().filter_map(untold).collect();
        untold.into_iter().for_each(|no| self.hang_up(at, no));
    }

    fn catch_up(&mut self, at: usize) {
        while self.members[at].applied < self.log.len() {
            self.apply(at);
        }
    }

    fn connect(&mut self, at: usize, edge: EdgeId, moving: bool) {
        let member = &mut self.members[at];
        let (no, inbox) = (member.node.sessions.issue(), Inbox::new());
        member.open.insert(no, inbox.clone());
        member.node.sessions.insert(no, entry(&inbox, SessionOwner::Edge(edge, None)));
        let (meta, addr) = Default::default();
        let session = SessionNo(no);
        let online = Event::EdgeOnline { edge, session, meta, addr, moving, owes_offline: false };
        if self.propose(at, vec![online]).is_none() {
            self.hang_up(at, no);
        }
    }

    fn serve(&mut self, at: usize, service: ServiceId) {
        let member = &mut self.members[at];
        let (no, inbox) = (member.node.sessions.issue(), Inbox::new());
        member.open.insert(no, inbox.clone());
        member.node.sessions.insert(no, entry(&inbox, SessionOwner::Service(service, false)));
        let (meta, addr, session) = (Default::default(), "".into(), SessionNo(no));
        let (name, instance) = ("greeter".into(), [service.0 as u8 % 2; 16]);
        let events = vec![
            Event::ServiceOnline { service, session, name, instance, meta, addr },
            Event::MethodsRegistered { service, session, names: vec!["greet".into()] },
        ];
        if self.propose(at, events).is_none() {
            self.hang_up(at, no);
        }
    }

    fn hang_up(&mut self, at: usize, no: u64) {
        self.members[at].open.remove(&no);
        self.members[at].node.presence.session_closed(no);
    }

    /// Sessions carry out their commands.
    fn deliver(&mut self, at: usize) {
        let closes = |message: NativeMessage| {
            let NativeMessage::Command(command) = message else { return false };
            matches!(command, SessionCommand::Close(_) | SessionCommand::Retire(..))
        };
        let told = |inbox: &Inbox| inbox.take_all().into_iter().any(closes);
        let ended: Vec<u64> =
            self.members[at].open.iter().filter(|(_, inbox)| told(inbox)).map(|(no, _)| *no).collect();
        ended.into_iter().for_each(|no| self.hang_up(at, no));
    }

    /// Proposes removals; without a quorum nobody decides.
    fn remove(&mut self, at: usize, quorum: bool) {
        let removals = self.members[at].node.presence.removals.take();
        let decided = quorum && self.propose(at, removals.clone()).is_some();
        let again = if decided { Vec::new() } else { removals };
        self.members[at].node.presence.removals.decided(again);
    }

    fn resume(&mut self, at: usize) {
        if !std::mem::take(&mut self.members[at].resume) {
            return;
        }
        let node = self.members[at].node.clone();
        let claims = resume::claims(&node.presence);
        let mut events: Vec<Event> = claims.iter().map(|(_, _, event)| event.clone()).collect();
        events.push(Event::ResumeEnd {});
        let verdicts = self.propose(at, events);
        for ((no, entry, _), verdict) in claims.iter().zip(verdicts.into_iter().flatten()) {
            // Told by apply, as the proposer does it.
            self.catch_up(at);
            resume::decided(&node.presence, *no, entry, &verdict);
        }
    }

    fn step(&mut self) {
        let at = self.chance(NODES) as usize;
        let edge = EdgeId(1 + self.chance(EDGES));
        match self.chance(20) {
            0..=3 => self.connect(at, edge, false),
            4 => self.connect(at, edge, true),
            5 => {
                let service = ServiceId(1 + self.chance(3));
                self.serve(at, service);
            }
            6 | 7 => {
                let some = self.chance(4) as usize;
                if let Some(no) = self.members[at].open.keys().nth(some).copied() {
                    self.hang_up(at, no);
                }
            }
            8 => {
                if let Some(epoch) = self.tables.live_epoch(NodeId(at as u64 + 1)) {
                    self.plain(Event::NodeDown { node: NodeId(at as u64 + 1), epoch });
                }
            }
            9 => _ = self.plain(up(at as u64 + 1)),
            10 => _ = self.plain(Event::Kick { edge }),
            11 => self.jump(at),
            12 => self.deliver(at),
            13 => {
                let quorum = self.chance(3) > 0;
                self.remove(at, quorum);
            }
            14 => self.resume(at),
            15 if !self.notices.is_empty() => {
                let some = self.chance(self.notices.len() as u64) as usize;
                let (edge, incarnation, moving) = self.notices[some];
                self.members[at].node.presence.taken_over(edge, incarnation, moving);
            }
            _ => self.apply(at),
        }
    }

    /// All are up, and nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..8 {
            for at in 0..self.members.len() {
                self.plain(up(at as u64 + 1));
                self.catch_up(at);
                self.resume(at);
                self.deliver(at);
                self.remove(at, true);
            }
        }
        (0..self.members.len()).for_each(|at| self.catch_up(at));
    }

    fn check(&self) {
        let mut holders = BTreeMap::<EdgeId, Home>::new();
        for member in &self.members {
            let node = &member.node;
            let me = node.consensus.node().unwrap();
            assert_eq!(orphans::look(&node.presence, &self.tables), Default::default(), "R11");
            for edge in (1..=EDGES).map(EdgeId) {
                let row = self.tables.edge(edge).map(|row| row.home);
                let route = node.presence.edges.get(edge);
                match (row, &route) {
                    (None, None) => {}
                    (Some(home), Some(EdgeLocation::Remote(there))) if home.node != me => {
                        assert_eq!(home, *there)
                    }
                    (Some(home), Some(EdgeLocation::Local { incarnation, handle })) if home.node == me => {
                        assert_eq!(home.incarnation, *incarnation);
                        assert!(member.open.get(&home.session.0).is_some_and(|held| is_same(held, handle)));
                    }
                    _ => panic!("edge {edge} is at {row:?}, and node {} knows {route:?}", me),
                }
            }
            for (no, entry) in node.sessions.all() {
                if let SessionOwner::Edge(edge, _) = entry.who {
                    let home = self.tables.edge(edge).map(|row| row.home);
                    let home = home.filter(|home| (home.node, home.session.0) == (me, no));
                    let home = home.unwrap_or_else(|| {
                        panic!("node {} holds {no} of {edge}, which is not in the tables", me)
                    });
                    assert_eq!(holders.insert(edge, home), None, "R1: {edge} has two sessions");
                }
            }
            self.check_changes(member);
            let offered = node.presence.services.load();
            let offered: Vec<_> =
                offered.method("greet").iter().map(|c| (c.service, c.node, c.session)).collect();
            let rows = self.tables.method("greet").map(|row| (row.service, row.home.node, row.home.session));
            assert_eq!(offered, rows.collect::<Vec<_>>(), "services of node {}", me);
        }
    }
}

/// What somebody knows who began with the state and then followed the changes.
#[derive(Debug, Default, PartialEq)]
struct Followed {
    edges: BTreeMap<EdgeId, Home>,
    services: BTreeMap<(ServiceId, NodeId, SessionNo), usize>,
}

impl Followed {
    fn state(tables: &Tables) -> Self {
        let service = |row: &ServiceRow| ((row.service, row.home.node, row.home.session), row.methods.len());
        Followed {
            edges: tables.edges().map(|(edge, row)| (edge, row.home)).collect(),
            services: tables.services().map(service).collect(),
        }
    }

    fn follow(&mut self, seen: &Change) {
        match seen {
            Change::Edge { edge, home, .. } => _ = self.edges.insert(*edge, *home),
            Change::EdgeGone { edge, home, .. }
                if self.edges.get(edge).is_some_and(|held| held.incarnation == home.incarnation) =>
            {
                self.edges.remove(edge);
            }
            Change::Service(row) => {
                let key = (row.service, row.home.node, row.home.session);
                self.services.insert(key, row.methods.len());
            }
            Change::ServiceGone { service, home, .. } => {
                self.services.remove(&(*service, home.node, home.session));
            }
            Change::NodeDown(node, _) => {
                self.edges.retain(|_, home| home.node != *node);
                self.services.retain(|(_, holder, _), _| holder != node);
            }
            _ => {}
        }
    }
}

impl World {
    /// Whoever has watched this node since it last jumped knows what the tables say, and in any two
    /// pieces has seen the same.
    fn check_changes(&self, member: &Member) {
        let changes = &member.node.presence.changes;
        let begin = Position::end_of(member.base.revision());
        let read = |mut from: Position, upto: usize| {
            let mut all = Vec::new();
            while all.len() < upto {
                let entries = changes.after(from).unwrap();
                let Some(last) = entries.last() else { break };
                let end = Position::end_of(last.revision);
                all.extend(entries.iter().flat_map(|entry| {
                    entry.after(from).map(|(at, seen)| (at, seen.clone())).collect::<Vec<_>>()
                }));
                from = end;
            }
            all
        };
        let all = read(begin, usize::MAX);
        let mut followed = Followed::state(&member.base);
        all.iter().for_each(|(_, seen)| followed.follow(seen));
        assert_eq!(
            followed,
            Followed::state(&self.tables),
            "what a watcher of node {} knows",
            member.node.consensus.node().unwrap()
        );
        assert!(all.is_sorted_by(|(a, _), (b, _)| a < b), "out of order");
        for cut in (0..all.len()).step_by(7) {
            assert_eq!(read(all[cut].0, usize::MAX), all[cut + 1..], "after {}", all[cut].0);
        }
        // Another node tells the same.
        for other in &self.members {
            let from = begin.max(Position::end_of(other.base.revision()));
            let mut theirs = other.node.presence.changes.after(from).unwrap();
            let ours = changes.after(from).unwrap();
            theirs.truncate(ours.len());
            assert_eq!(theirs, ours[..theirs.len()]);
        }
    }
}

impl Member {
    fn note_resume(&mut self, effects: &[Effect]) {
        let me = self.node.consensus.node().unwrap();
        let again = effects.iter().any(|effect| matches!(effect, Effect::NodeUp { node, .. } if *node == me));
        self.resume |= again;
    }
}

#[test]
fn each_node_comes_to_what_the_tables_say() {
    let (mut moved, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
        }
        world.settle();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
        assert!(checked.is_ok(), "seed {seed}");
        moved += world.notices.len();
        refused += world
            .log
            .iter()
            .flat_map(|entry| &entry.verdicts)
            .filter(|v| matches!(v, Verdict::Rejected(_)))
            .count();
    }
    // What the histories are worth.
    assert!(moved > 400 && refused > 400, "{moved} takeovers, {refused} refusals");
}

/// A notice that comes late, or again, is about a session that is older than the one here.
#[test]
fn a_late_notice_of_a_takeover_closes_nothing_newer() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.catch_up(0);
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    let inbox = world.members[0].open[&home.session.0].clone();
    let node = world.members[0].node.clone();
    node.presence.taken_over(EdgeId(1), home.incarnation, false);
    assert!(inbox.take_all().is_empty(), "its own incarnation is not newer");
    let target = Destination::Edge(EdgeId(1), home.incarnation);
    assert!(find_local(&node.router, target).is_some());
    let mut newer = home.incarnation;
    newer.0.ordinal += 1;
    newer.0.revision.0 += 5;
    node.presence.taken_over(EdgeId(1), newer, true);
    assert!(inbox.take_all().is_empty(), "one that moves may finish");
    assert!(find_local(&node.router, target).is_none(), "but nothing new comes to it");
    assert_eq!(newer_revision(&node.router, target), newer.0.revision, "who asks is told when to look again");
    world.connect(0, EdgeId(1), false);
    world.catch_up(0);
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    let inbox = world.members[0].open[&home.session.0].clone();
    let mut newer = home.incarnation;
    newer.0.ordinal += 1;
    node.presence.taken_over(EdgeId(1), newer, false);
    let mail = inbox.take_all().pop_front();
    assert!(
        matches!(mail, Some(NativeMessage::Command(SessionCommand::Close(goaway))) if goaway.code == Code::REPLACED)
    );
}

/// R4: whoever is told of a takeover before it applies it looks at the tables again, and not where the
/// edge was.
#[test]
fn who_is_told_of_a_takeover_leads_nobody_to_the_old_home() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let old = world.tables.edge(EdgeId(1)).unwrap().home;
    world.connect(1, EdgeId(1), false);
    let new = world.tables.edge(EdgeId(1)).unwrap().home;
    let third = world.members[2].node.clone();
    assert!(matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == old));
    third.presence.taken_over(EdgeId(1), new.incarnation, false);
    assert!(matches!(resolve_edge(&third.router, EdgeId(1), None), Resolution::Absent), "and so a barrier");
    world.catch_up(2);
    assert!(matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == new));
    third.presence.taken_over(EdgeId(1), new.incarnation, false);
    assert!(
        matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == new),
        "again"
    );
}

fn request(method: &'static str, answers: mpsc::UnboundedSender<RequestEvent>) -> Request {
    Request {
        kind: Kind::Call,
        origin: Asker::Node(answers),
        id: 7,
        to: Address::service(),
        caller: 5,
        key: 0,
        deadline: Instant::now() + Duration::from_secs(60),
        name: Str::from_static(method),
        custom: Bytes::new(),
        body: Bytes::new(),
        patient: false,
        tried: None,
    }
}

/// What a session has not read when it ends is led to another, once; it has not run.
#[tokio::test]
async fn what_was_not_read_goes_to_another_and_the_second_time_back() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(0, ServiceId(2));
    world.catch_up(0);
    let node = world.members[0].node.clone();
    let index = node.presence.services.load();
    let (one, two) = (index.method("greet")[0], index.method("greet")[1]);
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request { to: Address::Resolved(one.destination()), ..request("greet", sender) };
    return_undelivered(&node.router, [Delivery::Request(Box::new(request))]);
    let mut looks = 0;
    let led = loop {
        looks += 1;
        assert!(looks < 10_000, "it is led nowhere");
        match world.members[0].open[&two.session.0].take_all().pop_front() {
            Some(NativeMessage::Delivery(Delivery::Request(request))) => break request,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!((led.to, led.tried), (Address::Resolved(two.destination()), Some(one.destination())));
    return_undelivered(&node.router, [Delivery::Request(led)]);
    let routed = answers.recv().await.unwrap();
    assert!(
        matches!(&routed, RequestEvent::Routed(Receiver::Session(to)) if is_same(&world.members[0].open[&two.session.0], to))
    );
    let answer = answers.recv().await.unwrap();
    let RequestEvent::Answer(Answer::Failed(failure)) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.code, failure.ran), (Code::GONE, Execution::NotStarted));
}

/// A service that has missed a keepalive is passed over while another can serve.
#[test]
fn silent_services_are_passed_over_while_there_is_another() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(0, ServiceId(2));
    world.catch_up(0);
    let node = world.members[0].node.clone();
    let index = node.presence.services.load();
    let pick = |key, tried| match node.router.select(index.method("greet"), key, tried) {
        Resolution::Routed(way) => Some(way.destination),
        _ => None,
    };
    let picked = |key| pick(key, None);
    let (one, two) = (index.method("greet")[0], index.method("greet")[1]);
    assert_eq!((picked(0), picked(1)), (Some(one.destination()), Some(two.destination())));
    node.sessions.set_silent(one.session.0, true);
    assert_eq!((picked(0), picked(1)), (Some(two.destination()), Some(two.destination())));
    node.sessions.set_silent(two.session.0, true);
    assert_eq!(
        (picked(0), picked(1)),
        (Some(one.destination()), Some(two.destination())),
        "better than nobody"
    );
    assert_eq!(
        pick(0, Some(one.destination())),
        Some(two.destination()),
        "not where it has been tried in vain"
    );
}
