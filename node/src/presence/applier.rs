//! Turns every applied batch into routes, the service index, and commands to sessions and links. Runs in the
//! task that applies the log, and never waits.

use std::sync::Arc;
use std::time::Instant;

use limes_raft::Observer;
use limes_routing::{
    Batch, EdgeId, Effect, Epoch, Event, Home, NodeId, Revision, ServiceId, Tables, Verdict, Why,
};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::context::Presence;
use crate::consensus::departure::is_leaving;
use crate::consensus::handle::Identity;
use crate::router::edge_routes::EdgeLocation;
use crate::router::grace::Absentee;
use crate::router::message::{Destination, LinkCommand, RETIRE, SessionCommand};
use crate::router::peers::Reachability;
use crate::router::registry::SessionOwner;
use crate::router::service_index::ServiceIndex;

/// The node as the observer of its replica.
pub(crate) struct Applier(pub(crate) Arc<Presence>);

impl Observer for Applier {
    fn identified(&self, node: NodeId, cluster: [u8; 16], boot: [u8; 16]) {
        self.0.consensus.identify(Identity { node, cluster, boot });
    }

    fn applied(&self, revision: Revision, _: &Batch, _: &[Verdict], effects: &[Effect], tables: &Tables) {
        self.follow(effects, tables);
        self.0.changes.note(revision, effects, tables);
        self.0.consensus.set_applied(revision);
    }

    fn installed(&self, effects: &[Effect], tables: &Tables) {
        self.follow(effects, tables);
        self.0.changes.reset(tables.revision());
        self.0.consensus.set_applied(tables.revision());
    }
}

impl Applier {
    fn follow(&self, effects: &[Effect], tables: &Tables) {
        let (mut services, mut nodes) = (false, false);
        // Whether services are expected to reconnect: `Some(true)` because their node drains, `Some(false)` because
        // it has died.
        let mut expected: Option<bool> = None;
        for effect in effects {
            match effect {
                Effect::EdgeOnline { edge, home, replaced, moving } => {
                    self.edge_online(*edge, *home, *replaced, *moving);
                }
                Effect::EdgeGone { edge, home, why } => self.edge_gone(*edge, *home, *why, tables),
                Effect::ServiceOnline { service, home } => {
                    services = true;
                    self.service_online(*service, *home);
                }
                Effect::ServiceGone { service, home, why } => {
                    services = true;
                    if *why == Why::Ended && leaves(tables, home.node) {
                        expected = Some(true);
                    }
                    self.service_gone(*service, *home, *why);
                }
                Effect::NamesChanged { .. } => services = true,
                Effect::NodeUp { node, epoch } => {
                    (services, nodes) = (true, true);
                    self.node_up(*node, *epoch, tables);
                }
                Effect::NodeDown { node, epoch } => {
                    (services, nodes) = (true, true);
                    expected = expected.or(Some(leaves(tables, *node)));
                    self.node_down(*node, *epoch, tables);
                }
                Effect::MembersChanged => nodes = true,
                Effect::OfflineDue { .. } => self.0.callback_due.notify_one(),
                Effect::Drain { .. } | Effect::SettingChanged { .. } => {}
            }
        }
        if nodes {
            self.set_peers(tables);
        }
        if services {
            let next = Arc::new(ServiceIndex::of(tables, self.0.config.ignore_case));
            let last = self.0.services.swap(next.clone());
            self.0.services_changed.send_replace(());
            if let Some(planned) = expected {
                for offer in last.lost(&next) {
                    self.0.grace.expect(Absentee::Service(offer), planned, Instant::now());
                }
            }
        }
    }

    fn is_here(&self, home: &Home) -> bool {
        self.0.consensus.is_self(home.node) && self.0.consensus.is_own_epoch(home.epoch)
    }

    fn edge_online(&self, edge: EdgeId, home: Home, replaced: Option<Home>, moving: bool) {
        let presence = &self.0;
        let incarnation = home.incarnation;
        presence.grace.settle(&Absentee::Edge(edge));
        if self.is_here(&home) {
            match presence.sessions.applied(home.session.0, SessionOwner::Edge(edge, Some(incarnation))) {
                Some(handle) => presence.edges.set(edge, EdgeLocation::Local { incarnation, handle }),
                None => {
                    // Its socket is closed already: the row must be removed at once (R3).
                    presence.edges.set(edge, EdgeLocation::Remote(home));
                    presence.removals.push(Event::EdgeOffline { edge, incarnation });
                }
            }
        } else {
            presence.edges.set(edge, EdgeLocation::Remote(home));
        }
        let Some(old) = replaced.filter(|old| *old != home) else { return };
        if self.is_here(&old) {
            self.replace(old, moving);
            return;
        }
        if self.is_here(&home) {
            self.notify_takeover(edge, home, old, moving);
        }
        if !moving {
            self.session_over(old.node, Destination::Edge(edge, old.incarnation), Code::REPLACED);
        }
    }

    /// Closes or retires a session here whose edge has connected again.
    fn replace(&self, old: Home, moving: bool) {
        let Some(entry) = self.0.sessions.get(old.session.0) else { return };
        if moving {
            let goaway = GoAway::new(Code::REPLACED, "moved to a newer connection; finish what is in flight");
            entry.handle.command(SessionCommand::Retire(goaway, Instant::now() + RETIRE));
        } else {
            let goaway = GoAway::new(Code::REPLACED, "a newer connection took over");
            entry.handle.command_urgent(SessionCommand::Close(goaway));
        }
    }

    /// Notifies the old home of a takeover (R4). If the old home does not answer, notifies the other nodes, so that
    /// none of them routes to it any more when the new session is welcomed. If it is down, no node routes to it.
    fn notify_takeover(&self, edge: EdgeId, home: Home, old: Home, moving: bool) {
        let peers = &self.0.peers;
        let links = match peers.reach(old.node, old.epoch) {
            Reachability::Down => return,
            Reachability::Linked(link) if !peers.is_silent(old.node) => vec![link],
            Reachability::Linked(_) | Reachability::Unlinked => peers.others(old.node),
        };
        for link in links {
            let (confirmed, outstanding) = oneshot::channel();
            let sent = link.command(LinkCommand::Takeover {
                edge,
                incarnation: home.incarnation,
                moving,
                confirmed,
            });
            // An admission that was given up waits for no confirmation.
            if sent && self.0.sessions.get(home.session.0).is_some() {
                self.0.expect_confirmation(home.session.0, outstanding);
            }
        }
    }

    /// Ends what this node has forwarded to a session of another node that is over, whether or not that node
    /// reports it.
    fn session_over(&self, at: NodeId, target: Destination, code: Code) {
        if !self.0.consensus.is_self(at)
            && let Some(link) = self.0.peers.any_calls(at)
        {
            link.command_urgent(LinkCommand::SessionOver(target, code));
        }
    }

    fn edge_gone(&self, edge: EdgeId, home: Home, why: Why, tables: &Tables) {
        let planned = why == Why::Ended && leaves(tables, home.node);
        if planned || why == Why::NodeGone {
            // Before the route is removed, so that a request that misses it waits.
            self.0.grace.expect(Absentee::Edge(edge), planned, Instant::now());
        }
        self.0.edges.gone(edge, home.incarnation);
        if self.is_here(&home) {
            self.end(home, why);
        } else if why == Why::Kicked {
            self.session_over(home.node, Destination::Edge(edge, home.incarnation), Code::GONE);
        }
    }

    /// Closes a session here whose row is gone.
    fn end(&self, home: Home, why: Why) {
        let Some(entry) = self.0.sessions.get(home.session.0) else { return };
        let (code, text) = match why {
            Why::Ended => return,
            Why::Replaced => (Code::REPLACED, "a newer connection took over"),
            Why::Kicked => (Code::KICKED, "closed by an operator"),
            Why::NodeGone => (Code::GONE, "the session is no longer in the tables"),
        };
        entry.handle.command_urgent(SessionCommand::Close(GoAway::new(code, text)));
    }

    fn service_online(&self, service: ServiceId, home: Home) {
        let presence = &self.0;
        if self.is_here(&home)
            && presence.sessions.applied(home.session.0, SessionOwner::Service(service, true)).is_none()
        {
            let session = home.session;
            presence.removals.push(Event::ServiceOffline { service, session });
        }
    }

    fn service_gone(&self, service: ServiceId, home: Home, why: Why) {
        let target = Destination::Service(service, home.session, home.epoch);
        if self.is_here(&home) {
            self.end(home, why);
        } else if why == Why::Replaced {
            self.session_over(home.node, target, Code::REPLACED);
        } else if why == Why::Kicked {
            self.session_over(home.node, target, Code::GONE);
        }
    }

    fn node_up(&self, up: NodeId, epoch: Epoch, tables: &Tables) {
        let presence = &self.0;
        self.0.grace.settle(&Absentee::Node(up));
        if !self.0.consensus.is_self(up) {
            info!(node = up.0, epoch = epoch.0, "a node is up");
            return;
        }
        if !presence.consensus.is_own_boot(tables) {
            // An earlier boot of this member, applied again while the log is replayed.
            return;
        }
        let is_first = presence.consensus.begin_epoch(epoch);
        info!(epoch = epoch.0, "this node is up");
        if !is_first {
            presence.resume.notify_one();
        }
    }

    fn node_down(&self, down: NodeId, epoch: Epoch, tables: &Tables) {
        let presence = &self.0;
        if !self.0.consensus.is_self(down) {
            self.0.grace.expect(Absentee::Node(down), leaves(tables, down), Instant::now());
            warn!(node = down.0, epoch = epoch.0, "a node is down");
            if let Some(link) = self.0.peers.any_calls(down) {
                link.command_urgent(LinkCommand::PeerDown);
            }
        } else if presence.consensus.is_own_epoch(epoch) {
            warn!(epoch = epoch.0, "this node was declared down");
            presence.consensus.fence();
        }
    }

    fn set_peers(&self, tables: &Tables) {
        let nodes: Vec<_> = tables
            .members()
            .filter(|member| !self.0.consensus.is_self(member.node))
            .map(|member| {
                let row = tables.node(member.node);
                let addr = row.map_or(&member.mesh, |row| &row.addrs.mesh);
                (member.node, member.name.clone(), addr.clone(), tables.live_epoch(member.node))
            })
            .collect();
        self.0.peers.set(&nodes);
    }
}

/// Whether a node drains, or drained before it stopped.
fn leaves(tables: &Tables, node: NodeId) -> bool {
    tables.node(node).is_some_and(|row| is_leaving(tables, node, row))
}
