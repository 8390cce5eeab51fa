//! The effects that lead from one state of the tables to a later one, for a node that skipped the
//! events between (a snapshot was installed).

use crate::effect::{Effect, Why};
use crate::id::Home;
use crate::shards::Moved;
use crate::tables::Tables;

/// What has changed from `old` to `new`. Sessions that came and went between do not show.
pub fn diff(old: &Tables, new: &Tables) -> Vec<Effect> {
    let mut effects = Vec::new();
    if old.cluster != new.cluster || old.members != new.members || old.nodes != new.nodes {
        effects.push(Effect::MembersChanged);
    }
    nodes(old, new, &mut effects);
    edges(old, new, &mut effects);
    services(old, new, &mut effects);
    for (key, owed) in new.owed.iter() {
        if !old.owed.contains_key(key) {
            effects.push(Effect::OfflineDue { edge: owed.edge, incarnation: owed.incarnation });
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

/// Nobody saw the row go. If its node lives, an operator may have ended the session while its socket
/// is still open: `Ended` would leave it so.
const UNSEEN: Why = Why::NodeGone;

fn edges(old: &Tables, new: &Tables, effects: &mut Vec<Effect>) {
    for Moved { edge, was, is } in old.edges.moved(&new.edges) {
        match (was, is) {
            (Some(home), None) => effects.push(Effect::EdgeGone { edge, home, why: UNSEEN }),
            (was, Some(home)) => {
                // The same session in a new life of its node was revived, not replaced.
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
            effects.push(Effect::ServiceGone { service: key.0, home: row.home, why: UNSEEN });
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
