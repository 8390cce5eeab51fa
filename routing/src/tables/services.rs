//! Events of services.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::{Step, Tables};
use crate::effect::{Effect, Reason, Verdict, Why};
use crate::event::Event;
use crate::id::{Epoch, NodeId, ServiceId, SessionNo};
use crate::rows::ServiceRow;
use crate::sessions::{Kind, ServiceKey};

pub(super) fn step(tables: &mut Tables, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
    match event {
        Event::ServiceIdsReserved { count } => step.ids(&mut tables.next_service, *count),
        Event::ServiceOnline { .. } => online(tables, step, event),
        Event::ServiceOffline { service, session } => {
            let key = own(tables, step, *service, *session)?;
            remove(tables, step, key, Why::Ended);
            step.accepted()
        }
        Event::ServiceResumed { service, session } => {
            let key = own(tables, step, *service, *session)?;
            revive(tables, step, key)?;
            step.accepted()
        }
        Event::MethodsRegistered { service, session, names } => {
            let key = own(tables, step, *service, *session)?;
            name(tables, step, key, Kind::Method, names, true)
        }
        Event::MethodsWithdrawn { service, session, names } => {
            let key = own(tables, step, *service, *session)?;
            name(tables, step, key, Kind::Method, names, false)
        }
        Event::TopicsSubscribed { service, session, names } => {
            let key = own(tables, step, *service, *session)?;
            name(tables, step, key, Kind::Topic, names, true)
        }
        Event::TopicsUnsubscribed { service, session, names } => {
            let key = own(tables, step, *service, *session)?;
            name(tables, step, key, Kind::Topic, names, false)
        }
        Event::KickService { service } => kick(tables, step, *service),
        _ => Err(Reason::NoChange),
    }
}

fn online(tables: &mut Tables, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
    let Event::ServiceOnline { service, session, name, instance, meta, addr } = event else {
        return Err(Reason::NoChange);
    };
    let home = step.home(*session)?;
    if *instance != [0; 16] {
        // The older session of the same instance is a dead connection.
        for older in tables.services.instance(name, instance) {
            remove(tables, step, older, Why::Replaced);
        }
    }
    Arc::make_mut(&mut tables.services).insert(ServiceRow {
        service: *service,
        home,
        name: name.clone(),
        instance: *instance,
        meta: meta.clone(),
        addr: addr.clone(),
        born_ms: step.time_ms,
        methods: BTreeSet::new(),
        topics: BTreeSet::new(),
    });
    step.effects.push(Effect::ServiceOnline { service: *service, home });
    step.accepted()
}

/// Exactly this session of the proposing node, if it exists.
fn own(
    tables: &Tables,
    step: &Step<'_>,
    service: ServiceId,
    session: SessionNo,
) -> Result<ServiceKey, Reason> {
    let node = step.origin.ok_or(Reason::NoOrigin)?.node;
    let key = (service, node, session);
    if tables.services.get(key).is_some() { Ok(key) } else { Err(Reason::Stale) }
}

fn revive(tables: &mut Tables, step: &mut Step<'_>, key: ServiceKey) -> Result<(), Reason> {
    let home = step.home(key.2)?;
    Arc::make_mut(&mut tables.services).revive(key, home);
    step.effects.push(Effect::ServiceOnline { service: key.0, home });
    Ok(())
}

fn name(
    tables: &mut Tables,
    step: &mut Step<'_>,
    key: ServiceKey,
    kind: Kind,
    names: &[Box<str>],
    add: bool,
) -> Result<Verdict, Reason> {
    let origin = step.origin.ok_or(Reason::NoOrigin)?;
    if tables.services.get(key).is_some_and(|row| row.home.epoch != origin.epoch) {
        // The node proposes it in a new epoch before its resume has reached this session: what is acknowledged must be
        // visible (R4), so the row is revived here.
        revive(tables, step, key)?;
    }
    let sessions = Arc::make_mut(&mut tables.services);
    if sessions.name(key, kind, names, add)
        && let Some(row) = sessions.get(key)
    {
        step.effects.push(Effect::NamesChanged { service: key.0, home: row.home });
    }
    step.accepted()
}

fn kick(tables: &mut Tables, step: &mut Step<'_>, service: ServiceId) -> Result<Verdict, Reason> {
    let live = |row: &&ServiceRow| row.service == service;
    let keys: Vec<_> =
        tables.services().filter(live).map(|row| (row.service, row.home.node, row.home.session)).collect();
    if keys.is_empty() {
        return Err(Reason::Stale);
    }
    for key in keys {
        remove(tables, step, key, Why::Kicked);
    }
    step.accepted()
}

/// Removes the rows of a node, except those of the epoch to keep.
pub(super) fn drop_rows(tables: &mut Tables, step: &mut Step<'_>, node: NodeId, keep: Option<Epoch>) {
    let goes = |row: &ServiceRow| row.home.node == node && Some(row.home.epoch) != keep;
    let gone: Vec<_> = tables.services.iter().filter(|(_, row)| goes(row)).map(|(key, _)| key).collect();
    for key in gone {
        remove(tables, step, key, Why::NodeGone);
    }
}

/// Removes a service's session.
fn remove(tables: &mut Tables, step: &mut Step<'_>, key: ServiceKey, why: Why) {
    if let Some(row) = Arc::make_mut(&mut tables.services).remove(key) {
        step.effects.push(Effect::ServiceGone { service: key.0, home: row.home, why });
    }
}
