//! An edge about which services are being asked.

use std::sync::Arc;

use limes_routing::{EdgeId, Epoch, Event, Incarnation, SessionNo};
use limes_wire::callback::EdgeFacts;

use crate::presence::context::Presence;

/// An edge about which services are being asked. If it is not admitted (a service refuses it, or the admission is
/// dropped), its row is removed again, and services that may know of the edge get an `edge_offline`.
pub(super) struct PendingOnline<'a> {
    presence: &'a Arc<Presence>,
    facts: &'a EdgeFacts,
    session: SessionNo,
    /// The node's epoch when the question began. When it ends, the leader makes the `edge_offline`.
    epoch: Option<Epoch>,
    /// The incarnation under which a service may know the edge.
    announced: Option<Incarnation>,
    is_settled: bool,
}

impl<'a> PendingOnline<'a> {
    /// An edge that no service knows of yet.
    pub(super) fn new(presence: &'a Arc<Presence>, facts: &'a EdgeFacts, session: SessionNo) -> Self {
        let epoch = presence.consensus.epoch();
        PendingOnline { presence, facts, session, epoch, announced: None, is_settled: false }
    }

    /// From now on a service may know the edge under this incarnation.
    pub(super) fn announced(&mut self, incarnation: Incarnation) {
        self.announced = Some(incarnation);
    }

    /// The service has refused the edge: it needs no `edge_offline`.
    pub(super) fn refused(&mut self) {
        self.announced = None;
    }

    /// The edge has its row, which owes the `edge_offline` from now on. Returns false if the epoch has ended
    /// meanwhile: services may have got the `edge_offline` already.
    pub(super) fn settle(mut self) -> bool {
        self.is_settled = true;
        self.presence.consensus.epoch() == self.epoch
    }
}

impl Drop for PendingOnline<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let edge = EdgeId(self.facts.edge);
        let removals = &self.presence.removals;
        if let Some(incarnation) = self.announced {
            let (meta, addr) = (self.facts.meta.clone(), self.facts.addr.as_str().into());
            removals.push(Event::CallbackOwed { edge, incarnation, meta, addr });
        }
        removals.push(Event::EdgeRefused { edge, session: self.session });
    }
}
