//! Nodes without sockets, disks and a clock, and the tables that they apply at their own pace.

use std::collections::BTreeMap;
use std::sync::Arc;

use limes_raft::Observer;
use limes_routing::{
    Batch, EdgeId, Effect, Event, Founder, Incarnation, Levels, NodeAddrs, NodeId, Origin, Reason, Revision,
    ServiceId, SessionNo, Tables, Verdict, diff, pick::mix,
};
use limes_wire::driver::Mailbox;

use crate::config::NodeConfig;
use crate::presence::applier::Applier;
use crate::presence::resume::{self, Claim};
use crate::router::message::{NativeMessage, SessionCommand, SessionHandle, TaskHandle};
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::server::assemble::Components;

const NODES: u64 = 3;
/// Edges that connect and disconnect.
pub(super) const EDGES: u64 = 4;

/// An applied entry, with the tables after it.
pub(super) struct Applied {
    batch: Batch,
    pub(super) verdicts: Vec<Verdict>,
    effects: Vec<Effect>,
    tables: Tables,
}

/// A node and how far it has applied the log.
pub(super) struct Member {
    pub(super) node: Arc<Components>,
    applier: Applier,
    /// Entries that this node has applied.
    applied: usize,
    /// Mailboxes of open connections; a connection that is closed is removed here first.
    pub(super) open: BTreeMap<u64, Inbox>,
    /// The tables of the last snapshot that it installed.
    pub(super) base: Tables,
    /// Whether it has to resume.
    resume: bool,
}

/// The nodes, the log and the tables at its end.
pub(super) struct World {
    seed: u64,
    pub(super) tables: Tables,
    pub(super) log: Vec<Applied>,
    pub(super) members: Vec<Member>,
    /// Takeover notifications, which may arrive late and repeatedly.
    pub(super) takeovers: Vec<(EdgeId, Incarnation, bool)>,
}

/// The mailbox of a session.
pub(super) type Inbox = Mailbox<NativeMessage>;

fn handle(inbox: &Inbox) -> SessionHandle {
    SessionHandle::Native(TaskHandle::new(inbox.clone()))
}

/// Whether a handle is that of this mailbox.
pub(super) fn is_same(inbox: &Inbox, handle: &SessionHandle) -> bool {
    matches!(handle, SessionHandle::Native(handle) if handle.mailbox().same(inbox))
}

fn entry(inbox: &Inbox, owner: SessionOwner) -> SessionEntry {
    SessionEntry { handle: handle(inbox), owner, silent: false }
}

/// A node begins an epoch.
pub(super) fn up(node: u64) -> Event {
    let (addrs, levels) = (NodeAddrs::default(), Levels { min: 1, max: 1 });
    Event::NodeUp { node: NodeId(node), boot: [node as u8; 16], addrs, levels }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let members = (1..=NODES).map(|number| {
            let node = Arc::new(Components::new(Arc::new(NodeConfig::default())));
            let applier = Applier(node.presence.clone());
            applier.identified(NodeId(number), [7; 16], [number as u8; 16]);
            Member { node, applier, applied: 0, open: BTreeMap::new(), base: Tables::new(), resume: false }
        });
        let members = members.collect();
        let mut world =
            World { seed, tables: Tables::new(), log: Vec::new(), members, takeovers: Vec::new() };
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
                self.takeovers.push((*edge, home.incarnation, *moving));
            }
        }
        let (verdicts, effects, tables) = (applied.verdicts, applied.effects, self.tables.clone());
        self.log.push(Applied { batch, verdicts: verdicts.clone(), effects, tables });
        verdicts
    }

    pub(super) fn plain(&mut self, event: Event) -> Vec<Verdict> {
        self.commit(Batch { origin: None, time_ms: 0, events: vec![event] })
    }

    /// Proposes under the epoch that the node knows. `None`: the node is fenced, or there is nothing to propose.
    pub(super) fn propose(&mut self, at: usize, events: Vec<Event>) -> Option<Vec<Verdict>> {
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
        member.applier.applied(tables.revision(), batch, verdicts, effects, tables);
        member.note_resume(effects);
    }

    /// Installs a snapshot in place of the entries that are missing.
    pub(super) fn jump(&mut self, at: usize) {
        let member = &mut self.members[at];
        if member.applied == self.log.len() {
            return;
        }
        let before = member.applied.checked_sub(1).map_or_else(Tables::new, |at| self.log[at].tables.clone());
        let effects = diff(&before, &self.tables);
        member.applied = self.log.len();
        member.applier.installed(&effects, &self.tables);
        member.base = self.tables.clone();
        member.note_resume(&effects);
        // The proposer never gets the verdicts that the snapshot skipped: those admissions fail.
        let undecided = |(no, entry): (u64, SessionEntry)| {
            matches!(entry.owner, SessionOwner::Edge(_, None) | SessionOwner::Service(_, false)).then_some(no)
        };
        let undecided: Vec<u64> = member.node.sessions.all().into_iter().filter_map(undecided).collect();
        undecided.into_iter().for_each(|no| self.hang_up(at, no));
    }

    pub(super) fn catch_up(&mut self, at: usize) {
        while self.members[at].applied < self.log.len() {
            self.apply(at);
        }
    }

    pub(super) fn connect(&mut self, at: usize, edge: EdgeId, moving: bool) {
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

    pub(super) fn serve(&mut self, at: usize, service: ServiceId) {
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

    /// Lets the sessions of a node handle their commands.
    fn deliver(&mut self, at: usize) {
        let closes = |message: NativeMessage| {
            let NativeMessage::Command(command) = message else { return false };
            matches!(command, SessionCommand::Close(_) | SessionCommand::Retire(..))
        };
        let is_closed = |inbox: &Inbox| inbox.take_all().into_iter().any(closes);
        let ended: Vec<u64> =
            self.members[at].open.iter().filter(|(_, inbox)| is_closed(inbox)).map(|(no, _)| *no).collect();
        ended.into_iter().for_each(|no| self.hang_up(at, no));
    }

    /// Proposes removals; without a quorum none is decided.
    fn remove(&mut self, at: usize, quorum: bool) {
        let removals = self.members[at].node.presence.removals.take();
        let decided = quorum && self.propose(at, removals.clone()).is_some();
        let failed = if decided { Vec::new() } else { removals };
        self.members[at].node.presence.removals.decided(failed);
    }

    fn resume(&mut self, at: usize) {
        if !std::mem::take(&mut self.members[at].resume) {
            return;
        }
        let node = self.members[at].node.clone();
        let claims: Vec<Claim> = resume::claims(&node.presence);
        let mut events: Vec<Event> = claims.iter().map(|claim| claim.event.clone()).collect();
        events.push(Event::ResumeEnd {});
        let verdicts = self.propose(at, events);
        for (claim, verdict) in claims.iter().zip(verdicts.into_iter().flatten()) {
            // The proposer reports a verdict after the node has applied it.
            self.catch_up(at);
            resume::decided(&node.presence, claim, &verdict);
        }
    }

    pub(super) fn step(&mut self) {
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
                let nth = self.chance(4) as usize;
                if let Some(no) = self.members[at].open.keys().nth(nth).copied() {
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
            15 if !self.takeovers.is_empty() => {
                let nth = self.chance(self.takeovers.len() as u64) as usize;
                let (edge, incarnation, moving) = self.takeovers[nth];
                self.members[at].node.presence.taken_over(edge, incarnation, moving);
            }
            _ => self.apply(at),
        }
    }

    /// Brings all nodes up and finishes everything that is under way.
    pub(super) fn settle(&mut self) {
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
}

impl Member {
    fn note_resume(&mut self, effects: &[Effect]) {
        let me = self.node.consensus.node().unwrap();
        let is_up = effects.iter().any(|effect| matches!(effect, Effect::NodeUp { node, .. } if *node == me));
        self.resume |= is_up;
    }
}
