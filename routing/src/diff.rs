//! The effects between two states of the tables, for a node that installed a snapshot and so skipped the events in
//! between.

use crate::effect::{Effect, Why};
use crate::id::Home;
use crate::shards::Moved;
use crate::tables::Tables;

/// The changes from `old` to `new`. Sessions that began and ended in between do not appear.
pub fn diff(old: &Tables, new: &Tables) -> Vec<Effect> {
    let mut effects = Vec::new();
    if old.cluster != new.cluster || old.members != new.members || old.nodes != new.nodes {
        effects.push(Effect::MembersChanged);
    }
    nodes(old, new, &mut effects);
    edges(old, new, &mut effects);
    services(old, new, &mut effects);
    for (key, callback) in new.pending_callbacks.iter() {
        if !old.pending_callbacks.contains_key(key) {
            effects.push(Effect::OfflineDue { edge: callback.edge, incarnation: callback.incarnation });
        }
    }
    for (key, value) in &new.settings {
        if old.settings.get(key) != Some(value) {
            effects.push(Effect::SettingChanged { key: key.clone() });
        }
    }
    for key in old.settings.keys().filter(|key| !new.settings.contains_key(*key)) {
        effects.push(Effect::SettingChanged { key: key.clone() });
    }
    effects
}

fn nodes(old: &Tables, new: &Tables, effects: &mut Vec<Effect>) {
    for (node, row) in &old.nodes {
        if old.live_epoch(*node).is_some() && new.live_epoch(*node) != Some(row.epoch) {
            effects.push(Effect::NodeDown { node: *node, epoch: row.epoch });
        }
    }
    for (node, row) in &new.nodes {
        if let Some(epoch) = new.live_epoch(*node)
            && old.live_epoch(*node) != Some(epoch)
        {
            effects.push(Effect::NodeUp { node: *node, epoch });
        }
        if old.nodes.get(node).is_some_and(|was| was.draining) != row.draining {
            effects.push(Effect::Drain { node: *node, on: row.draining });
        }
    }
}

/// Why a row is gone whose removal was skipped. An operator may have ended the session while its socket is still open;
/// `Ended` would leave the socket open.
const SKIPPED: Why = Why::NodeGone;

fn edges(old: &Tables, new: &Tables, effects: &mut Vec<Effect>) {
    for Moved { edge, was, is } in old.edges.moved(&new.edges) {
        match (was, is) {
            (Some(home), None) => effects.push(Effect::EdgeGone { edge, home, why: SKIPPED }),
            (was, Some(home)) => {
                // The same session in a new epoch of its node was revived, not replaced.
                let other = |was: &Home| (was.node, was.session) != (home.node, home.session);
                let replaced = was.filter(other);
                effects.push(Effect::EdgeOnline { edge, home, replaced, moving: false });
            }
            (None, None) => {}
        }
    }
}

fn services(old: &Tables, new: &Tables, effects: &mut Vec<Effect>) {
    for (key, row) in old.services.iter() {
        if new.services.get(key).is_none() {
            effects.push(Effect::ServiceGone { service: key.0, home: row.home, why: SKIPPED });
        }
    }
    for (key, row) in new.services.iter() {
        let was = old.services.get(key);
        if was.is_none_or(|was| was.home != row.home) {
            effects.push(Effect::ServiceOnline { service: key.0, home: row.home });
        }
        let (methods, topics) = was.map_or((0, 0), |was| (was.methods.len(), was.topics.len()));
        let same = was.is_some_and(|was| was.methods == row.methods && was.topics == row.topics);
        if !same && methods + topics + row.methods.len() + row.topics.len() > 0 {
            effects.push(Effect::NamesChanged { service: key.0, home: row.home });
        }
    }
}
