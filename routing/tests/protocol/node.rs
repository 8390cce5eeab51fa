//! One process: what a node does with verdicts and effects, as its presence code does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use limes_routing::{
    Batch, EdgeId, Effect, Epoch, Event, Home, Incarnation, NodeId, Origin, Reason, Revision, SessionNo,
    Tables, Verdict, Why, diff,
};

/// A connection; with an incarnation once its "online" has been applied here: it is welcome then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) edge: EdgeId,
    pub(crate) incarnation: Option<Incarnation>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) alive: bool,
    /// Tells this process from those before it.
    pub(crate) boot: u8,
    /// The tables as far as this node has applied the log.
    pub(crate) view: Arc<Tables>,
    first: Option<Epoch>,
    pub(crate) epoch: Option<Epoch>,
    number: u64,
    last_session: u64,
    pub(crate) sessions: BTreeMap<SessionNo, Session>,
    /// Events that wait for the batch in flight.
    pub(crate) waiting: Vec<Event>,
    pub(crate) flight: Option<Batch>,
}

impl Node {
    /// A process that has just started, with what its disk or a snapshot gave it.
    pub(crate) fn start(id: NodeId, boot: u8, view: Arc<Tables>) -> Self {
        Node {
            id,
            alive: true,
            boot,
            view,
            first: None,
            epoch: None,
            number: 0,
            last_session: 0,
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            flight: None,
        }
    }

    pub(crate) fn crash(&mut self) {
        *self = Node { alive: false, ..Node::start(self.id, self.boot, Arc::new(Tables::new())) };
    }

    pub(crate) fn connect(&mut self, edge: EdgeId) {
        self.last_session += 1;
        let session = SessionNo(self.last_session);
        self.sessions.insert(session, Session { edge, incarnation: None });
        self.waiting.push(online(edge, session));
    }

    /// The connection is over. Its removal is proposed; without an incarnation the task that sees its
    /// "online" applied proposes it.
    pub(crate) fn close(&mut self, session: SessionNo) {
        if let Some(Session { edge, incarnation: Some(incarnation) }) = self.sessions.remove(&session) {
            self.waiting.push(Event::EdgeOffline { edge, incarnation });
        }
    }

    /// Applies the next entry of the log.
    pub(crate) fn apply(&mut self, revision: Revision, batch: &Batch, proposed: &Batch) {
        let view = Arc::make_mut(&mut self.view);
        let applied = view.apply(revision, batch);
        self.note_epoch();
        self.follow(&applied.effects);
        let own = self.flight.as_ref().is_some_and(|flight| flight.origin == proposed.origin);
        if own && applied.verdicts.first() != Some(&Verdict::Rejected(Reason::Duplicate)) {
            self.flight = None;
            for (event, verdict) in proposed.events.iter().zip(applied.verdicts) {
                self.decided(event, verdict);
            }
        }
    }

    /// A snapshot takes the place of the entries that are missing here.
    pub(crate) fn jump(&mut self, tables: &Arc<Tables>) {
        let effects = diff(&self.view, tables);
        self.view = Arc::clone(tables);
        self.note_epoch();
        self.follow(&effects);
        let last = self.view.node(self.id).map_or(0, |row| row.last);
        if self.flight.as_ref().and_then(|flight| flight.origin).is_some_and(|origin| origin.number <= last) {
            // The snapshot skipped it: its verdicts stay unknown.
            self.give_up();
        }
    }

    fn note_epoch(&mut self) {
        let own = self.view.node(self.id).filter(|row| row.boot == [self.boot; 16] && !row.down);
        let epoch = own.map(|row| row.epoch);
        if epoch != self.epoch {
            if self.epoch.is_some() {
                self.give_up();
                self.waiting.retain(|event| !is_resume(event));
            }
            (self.epoch, self.number) = (epoch, 0);
        }
    }

    fn give_up(&mut self) {
        for event in self.flight.take().into_iter().flat_map(|flight| flight.events) {
            self.decided(&event, Verdict::Rejected(Reason::Fenced));
        }
    }

    fn decided(&mut self, event: &Event, verdict: Verdict) {
        let fenced = verdict == Verdict::Rejected(Reason::Fenced);
        match event {
            Event::EdgeOnline { session, .. } if matches!(verdict, Verdict::Rejected(_)) => {
                self.close(*session)
            }
            Event::EdgeOffline { .. } if fenced => self.waiting.push(event.clone()),
            Event::EdgeResumed { edge, incarnation } if verdict == Verdict::Rejected(Reason::Stale) => {
                let of = |held: &Session| held.edge == *edge && held.incarnation == Some(*incarnation);
                let lost = self.sessions.iter().find(|(_, held)| of(held)).map(|(session, _)| *session);
                lost.into_iter().for_each(|session| self.close(session));
            }
            _ => {}
        }
    }

    fn is_here(&self, home: &Home) -> bool {
        home.node == self.id && self.first.is_some_and(|first| home.epoch >= first)
    }

    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::EdgeOnline { edge, home, replaced, .. } => self.came_online(*edge, *home, *replaced),
                Effect::EdgeGone { home, why, .. } if self.is_here(home) && *why != Why::Ended => {
                    self.close(home.session);
                }
                Effect::NodeUp { node, epoch } if *node == self.id && self.epoch == Some(*epoch) => {
                    match self.first {
                        None => self.first = Some(*epoch),
                        Some(_) => self.resume(),
                    }
                }
                _ => {}
            }
        }
    }

    fn came_online(&mut self, edge: EdgeId, home: Home, replaced: Option<Home>) {
        let incarnation = home.incarnation;
        if self.is_here(&home) {
            match self.sessions.get_mut(&home.session) {
                Some(session) => session.incarnation = Some(incarnation),
                None => self.waiting.push(Event::EdgeOffline { edge, incarnation }),
            }
        }
        if let Some(old) = replaced.filter(|old| *old != home && self.is_here(old)) {
            self.close(old.session);
        }
    }

    fn resume(&mut self) {
        let held = self.sessions.values().filter_map(|session| Some((session.edge, session.incarnation?)));
        let revive = held.map(|(edge, incarnation)| Event::EdgeResumed { edge, incarnation });
        self.waiting.extend(revive);
        self.waiting.push(Event::ResumeEnd {});
    }

    /// The next batch, if none is in flight and this node is up.
    pub(crate) fn propose(&mut self) -> Option<Batch> {
        let epoch = self.epoch.filter(|_| self.alive && self.flight.is_none() && !self.waiting.is_empty())?;
        self.number += 1;
        let origin = Origin { node: self.id, epoch, number: self.number };
        let events = std::mem::take(&mut self.waiting);
        self.flight = Some(Batch { origin: Some(origin), time_ms: 0, events });
        self.flight.clone()
    }

    /// What waits or is in flight.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = &Event> {
        self.waiting.iter().chain(self.flight.iter().flat_map(|flight| &flight.events))
    }

    pub(crate) fn is_resuming(&self) -> bool {
        self.undecided().any(is_resume)
    }

    /// All that tells one state of the node from another.
    pub(crate) fn key(&self) -> impl std::hash::Hash {
        let all = Batch { origin: None, time_ms: 0, events: self.waiting.clone() };
        let flight = self.flight.as_ref().map(Batch::encode);
        let counters = (self.alive, self.boot, self.first, self.epoch, self.number, self.last_session);
        (counters, self.sessions.clone(), all.encode(), flight, self.view.encode_snapshot())
    }
}

fn is_resume(event: &Event) -> bool {
    matches!(event, Event::EdgeResumed { .. } | Event::ResumeEnd {})
}

pub(crate) fn online(edge: EdgeId, session: SessionNo) -> Event {
    let (meta, addr) = (Bytes::new(), "".into());
    Event::EdgeOnline { edge, session, meta, addr, moving: false, owes_offline: false }
}
