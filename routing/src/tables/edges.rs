//! Events of edges.

use std::sync::Arc;

use bytes::Bytes;

use super::state::{Step, Tables};
use crate::effect::{Effect, Reason, Verdict, Why};
use crate::event::Event;
use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId};
use crate::rows::{EdgeRow, PendingCallback};

pub(super) fn step(tables: &mut Tables, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
    match event {
        Event::EdgeIdsReserved { count } => step.ids(&mut tables.next_edge, *count),
        Event::EdgeAdmitting { edge, session } => {
            let home = step.home(*session)?;
            Arc::make_mut(&mut tables.admitting).insert((*edge, home.node, *session), home);
            step.accepted()
        }
        Event::EdgeRefused { edge, session } => {
            let home = step.home(*session)?;
            stop_admitting(tables, *edge, &home);
            step.accepted()
        }
        Event::EdgeOnline { .. } => online(tables, step, event),
        Event::EdgeOffline { edge, incarnation } => {
            own(tables, step, *edge, *incarnation)?;
            remove(tables, step, *edge, Why::Ended);
            step.accepted()
        }
        Event::EdgeResumed { edge, incarnation } => {
            let was = own(tables, step, *edge, *incarnation)?;
            let home = step.home(was.session)?;
            tables.edges.revive(*edge, &home);
            step.effects.push(Effect::EdgeOnline { edge: *edge, home, replaced: None, moving: false });
            step.accepted()
        }
        Event::CallbackOwed { edge, incarnation, meta, addr } => {
            let node = step.origin.ok_or(Reason::NoOrigin)?.node;
            let (edge, incarnation) = (*edge, *incarnation);
            add_callback(
                tables,
                step,
                PendingCallback { edge, incarnation, node, meta: meta.clone(), addr: addr.clone() },
            );
            step.accepted()
        }
        Event::CallbackSettled { edge, incarnation } => {
            let key = (*edge, *incarnation);
            if !tables.pending_callbacks.contains_key(&key) {
                return Err(Reason::Stale);
            }
            Arc::make_mut(&mut tables.pending_callbacks).remove(&key);
            step.accepted()
        }
        Event::Kick { edge } => {
            if tables.edge(*edge).is_none() {
                return Err(Reason::Stale);
            }
            remove(tables, step, *edge, Why::Kicked);
            step.accepted()
        }
        _ => Err(Reason::NoChange),
    }
}

fn online(tables: &mut Tables, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
    let Event::EdgeOnline { edge, session, meta, addr, moving, offline_callback } = event else {
        return Err(Reason::NoChange);
    };
    let (edge, home) = (*edge, step.home(*session)?);
    stop_admitting(tables, edge, &home);
    let row = EdgeRow { home, meta, addr, born_ms: step.time_ms, offline_callback: *offline_callback };
    let older = tables.edges.insert(edge, &row);
    let replaced = older.as_ref().map(|older| older.row().home);
    if let Some(older) = &older {
        add_callback_of(tables, step, edge, &older.row());
    }
    step.effects.push(Effect::EdgeOnline { edge, home, replaced, moving: *moving });
    step.accepted()
}

/// The home of exactly this session of the proposing node: a late end never affects a newer session, nor one elsewhere.
fn own(tables: &Tables, step: &Step<'_>, edge: EdgeId, incarnation: Incarnation) -> Result<Home, Reason> {
    let node = step.origin.ok_or(Reason::NoOrigin)?.node;
    let home = tables.edges.get(edge).ok_or(Reason::Stale)?.home;
    if home.incarnation == incarnation && home.node == node { Ok(home) } else { Err(Reason::Stale) }
}

fn stop_admitting(tables: &mut Tables, edge: EdgeId, home: &Home) {
    let key = (edge, home.node, home.session);
    if tables.admitting.contains_key(&key) {
        Arc::make_mut(&mut tables.admitting).remove(&key);
    }
}

/// Removes an edge's row and adds its callback if one is due.
fn remove(tables: &mut Tables, step: &mut Step<'_>, edge: EdgeId, why: Why) {
    if let Some(taken) = tables.edges.remove(edge) {
        gone(tables, step, edge, &taken.row(), why);
    }
}

fn gone(tables: &mut Tables, step: &mut Step<'_>, edge: EdgeId, row: &EdgeRow<'_>, why: Why) {
    step.effects.push(Effect::EdgeGone { edge, home: row.home, why });
    add_callback_of(tables, step, edge, row);
}

/// Removes the rows of a node, except those of the epoch to keep.
pub(super) fn drop_rows(tables: &mut Tables, step: &mut Step<'_>, node: NodeId, keep: Option<Epoch>) {
    for (edge, taken) in tables.edges.drain(|epoch, holder| holder == node && Some(epoch) != keep) {
        gone(tables, step, edge, &taken.row(), Why::NodeGone);
    }
}

/// Ends the admissions of a node whose epoch has ended. Services may have seen these edges, so their end is due as a
/// callback; the meta of the edges is lost with the node.
pub(super) fn drop_admitting(tables: &mut Tables, step: &mut Step<'_>, node: NodeId) {
    let held: Vec<_> =
        tables.admitting.iter().filter(|(key, _)| key.1 == node).map(|(k, h)| (*k, *h)).collect();
    if held.is_empty() {
        return;
    }
    for (key, home) in held {
        Arc::make_mut(&mut tables.admitting).remove(&key);
        let (edge, incarnation) = (key.0, home.incarnation);
        add_callback(
            tables,
            step,
            PendingCallback { edge, incarnation, node, meta: Bytes::new(), addr: "".into() },
        );
    }
}

fn add_callback_of(tables: &mut Tables, step: &mut Step<'_>, edge: EdgeId, row: &EdgeRow<'_>) {
    if row.offline_callback {
        let Home { node, incarnation, .. } = row.home;
        let meta = Bytes::copy_from_slice(row.meta);
        add_callback(tables, step, PendingCallback { edge, incarnation, node, meta, addr: row.addr.into() });
    }
}

fn add_callback(tables: &mut Tables, step: &mut Step<'_>, callback: PendingCallback) {
    let (edge, incarnation) = (callback.edge, callback.incarnation);
    Arc::make_mut(&mut tables.pending_callbacks).insert((edge, incarnation), callback);
    step.effects.push(Effect::OfflineDue { edge, incarnation });
}
