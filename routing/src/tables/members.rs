//! Events of the cluster, its members and their epochs.

use super::state::{Step, Tables};
use super::{edges, services};
use crate::effect::{Effect, Reason, Verdict};
use crate::event::{Event, Founder, LEVEL, Levels, NodeAddrs};
use crate::id::{Epoch, NodeId};
use crate::rows::{Cluster, Member, NodeRow};
use bytes::Bytes;

pub(super) fn step(tables: &mut Tables, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
    match event {
        Event::ClusterMade { cluster, key, founders } => made(tables, step, *cluster, key, founders),
        Event::LevelRaised { level } => raise(tables, step, *level),
        Event::MemberAdded { name, mesh, nonce } => add(tables, step, name, mesh, *nonce),
        Event::MemberPromoted { node } => {
            let member = tables.members.get_mut(node).ok_or(Reason::NoMember)?;
            member.voter = true;
            step.effects.push(Effect::MembersChanged);
            step.accepted()
        }
        Event::MemberRemoved { node } => remove(tables, step, *node),
        Event::NodeUp { node, boot, addrs, levels } => up(tables, step, *node, *boot, addrs, *levels),
        Event::NodeDown { node, epoch } => down(tables, step, *node, *epoch),
        Event::ResumeEnd {} => {
            let origin = step.origin.ok_or(Reason::NoOrigin)?;
            drop_rows(tables, step, origin.node, Some(origin.epoch));
            step.accepted()
        }
        Event::SuspendedDropped { node, epoch } => {
            let row = tables.nodes.get(node).ok_or(Reason::NoMember)?;
            if row.epoch != *epoch || !row.down {
                return Err(Reason::Stale);
            }
            drop_rows(tables, step, *node, None);
            step.accepted()
        }
        Event::Drain { node, on } => {
            let row = tables.nodes.get_mut(node).ok_or(Reason::NoMember)?;
            row.draining = *on;
            step.effects.push(Effect::Drain { node: *node, on: *on });
            step.accepted()
        }
        Event::SettingChanged { key, value } => {
            if value.is_empty() {
                tables.settings.remove(key);
            } else {
                tables.settings.insert(key.clone(), value.clone());
            }
            step.effects.push(Effect::SettingChanged { key: key.clone() });
            step.accepted()
        }
        _ => Err(Reason::NoChange),
    }
}

fn made(
    tables: &mut Tables,
    step: &mut Step<'_>,
    id: [u8; 16],
    key: &Bytes,
    founders: &[Founder],
) -> Result<Verdict, Reason> {
    if tables.cluster.is_some() {
        return Err(Reason::ClusterExists);
    }
    tables.cluster = Some(Cluster { id, level: LEVEL, keys: vec![key.clone()] });
    for Founder { node, name, mesh } in founders {
        let member =
            Member { node: *node, name: name.clone(), mesh: mesh.clone(), nonce: [0; 16], voter: true };
        tables.members.insert(*node, member);
    }
    step.effects.push(Effect::MembersChanged);
    step.accepted()
}

fn raise(tables: &mut Tables, step: &mut Step<'_>, level: u32) -> Result<Verdict, Reason> {
    let cluster = tables.cluster.as_mut().ok_or(Reason::NoChange)?;
    if level <= cluster.level {
        return Err(Reason::NoChange);
    }
    if tables.nodes.values().any(|node| !node.down && level > node.levels.max) {
        return Err(Reason::Level);
    }
    cluster.level = level;
    step.effects.push(Effect::MembersChanged);
    step.accepted()
}

fn add(
    tables: &mut Tables,
    step: &mut Step<'_>,
    name: &str,
    mesh: &str,
    nonce: [u8; 16],
) -> Result<Verdict, Reason> {
    if let Some(member) = tables.members.values().find(|member| member.nonce == nonce) {
        return Ok(Verdict::Member(member.node));
    }
    if step.at.ordinal != 0 {
        // The id is the revision: one entry adds one member.
        return Err(Reason::NoChange);
    }
    let node = NodeId(step.at.revision.0);
    if tables.members.contains_key(&node) {
        // The id of a founder, in a log that is shorter than the list of founders.
        return Err(Reason::NoChange);
    }
    let member = Member { node, name: name.into(), mesh: mesh.into(), nonce, voter: false };
    tables.members.insert(node, member);
    step.effects.push(Effect::MembersChanged);
    Ok(Verdict::Member(node))
}

fn remove(tables: &mut Tables, step: &mut Step<'_>, node: NodeId) -> Result<Verdict, Reason> {
    tables.members.remove(&node).ok_or(Reason::NoMember)?;
    if let Some(row) = tables.nodes.remove(&node)
        && !row.down
    {
        step.effects.push(Effect::NodeDown { node, epoch: row.epoch });
    }
    edges::drop_admitting(tables, step, node);
    drop_rows(tables, step, node, None);
    step.effects.push(Effect::MembersChanged);
    step.accepted()
}

fn up(
    tables: &mut Tables,
    step: &mut Step<'_>,
    node: NodeId,
    boot: [u8; 16],
    addrs: &NodeAddrs,
    levels: Levels,
) -> Result<Verdict, Reason> {
    if !tables.members.contains_key(&node) {
        return Err(Reason::NoMember);
    }
    let level = tables.cluster.as_ref().map_or(LEVEL, |cluster| cluster.level);
    if level < levels.min || level > levels.max {
        return Err(Reason::Level);
    }
    let (mut same_boot, mut draining) = (false, false);
    if let Some(row) = tables.nodes.get(&node) {
        same_boot = row.boot == boot;
        draining = row.draining;
        if same_boot && !row.down {
            return Ok(Verdict::Epoch(row.epoch));
        }
    }
    if step.at.ordinal != 0 {
        // The epoch is the revision: one entry begins one epoch.
        return Err(Reason::NoChange);
    }
    let epoch = Epoch(step.at.revision.0);
    let row = NodeRow { epoch, boot, down: false, last: 0, draining, addrs: addrs.clone(), levels };
    tables.nodes.insert(node, row);
    if !same_boot {
        // Another process: it has none of the sessions of the one before.
        edges::drop_admitting(tables, step, node);
        drop_rows(tables, step, node, None);
    }
    step.effects.push(Effect::NodeUp { node, epoch });
    Ok(Verdict::Epoch(epoch))
}

fn down(tables: &mut Tables, step: &mut Step<'_>, node: NodeId, epoch: Epoch) -> Result<Verdict, Reason> {
    let row = tables.nodes.get_mut(&node).ok_or(Reason::NoMember)?;
    if row.down || row.epoch != epoch {
        return Err(Reason::Stale);
    }
    row.down = true;
    step.effects.push(Effect::NodeDown { node, epoch });
    edges::drop_admitting(tables, step, node);
    step.accepted()
}

/// Removes the rows of a node, except those of the epoch to keep.
fn drop_rows(tables: &mut Tables, step: &mut Step<'_>, node: NodeId, keep: Option<Epoch>) {
    edges::drop_rows(tables, step, node, keep);
    services::drop_rows(tables, step, node, keep);
}
