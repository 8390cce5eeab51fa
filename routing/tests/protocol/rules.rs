//! What must hold in every state, and what must happen in some.

use limes_routing::{Batch, Effect, Event, Home, Reason, Tables, Verdict};
use stateright::Property;

use crate::model::{Protocol, State};
use crate::node::Node;

pub(crate) const TABLES: &str = "the tables keep their own rules";
pub(crate) const FENCED: &str = "R3: a live row goes only for a reason that names it";
pub(crate) const ONCE: &str = "R3: each number is applied once";
pub(crate) const WELCOME: &str = "R4: a session that was welcomed is the one that is routed to";
pub(crate) const GHOST: &str = "R11: each row of a live node has a session, or its removal is proposed";
pub(crate) const GONE: &str = "R5: what is not resumed is dropped";

/// The rules by name.
pub(crate) const ALWAYS: [&str; 6] = [TABLES, FENCED, ONCE, WELCOME, GHOST, GONE];

pub(crate) fn properties() -> Vec<Property<Protocol>> {
    let mut properties = happenings();
    properties.extend([
        Property::always(TABLES, |_, state: &State| state.tables.check().is_ok()),
        Property::always(FENCED, |_, state: &State| state.broken != Some(FENCED)),
        Property::always(ONCE, |_, state: &State| state.broken != Some(ONCE)),
        Property::always(WELCOME, |_, state: &State| settled(state).all(welcome)),
        Property::always(GHOST, |_, state: &State| settled(state).all(no_orphaned_rows)),
        Property::always(GONE, |_, state: &State| {
            settled(state).all(|node| !node.view.has_suspended(node.id))
        }),
    ]);
    properties
}

pub(crate) const TAKEOVER: &str = "another node takes an edge over";
pub(crate) const LATE: &str = "an end arrives late";
pub(crate) const TWICE: &str = "a batch arrives twice";
pub(crate) const DEAD: &str = "a batch of an ended epoch arrives";
pub(crate) const REVIVED: &str = "a row is revived";
pub(crate) const TAKEN: &str = "a row that was replaced meanwhile is not revived";
pub(crate) const UNRESUMED: &str = "a row that is not resumed is removed";
pub(crate) const RESTARTED: &str = "rows of a crashed process are removed when the next one is up";
pub(crate) const OLD_BOOT: &str = "a process that died is declared up after the next one";
pub(crate) const DROPPED: &str = "rows of a node that stays down are dropped";

fn happenings() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(TAKEOVER, |_, state: &State| {
            let other = |home: &Home, old: &Home| home.node != old.node;
            effects(
                state,
                |effect| matches!(effect, Effect::EdgeOnline { home, replaced: Some(old), .. } if other(home, old)),
            )
        }),
        Property::sometimes(LATE, |_, state: &State| {
            refused(state, Reason::Stale, |event| matches!(event, Event::EdgeOffline { .. }))
        }),
        Property::sometimes(TWICE, |_, state: &State| refused(state, Reason::Duplicate, |_| true)),
        Property::sometimes(DEAD, |_, state: &State| refused(state, Reason::Fenced, |_| true)),
        Property::sometimes(REVIVED, |_, state: &State| {
            let revived = |event: &Event| matches!(event, Event::EdgeResumed { .. });
            state
                .last
                .events()
                .any(|(event, verdict)| revived(event) && matches!(verdict, Verdict::Accepted(_)))
        }),
        Property::sometimes(TAKEN, |_, state: &State| {
            refused(state, Reason::Stale, |event| matches!(event, Event::EdgeResumed { .. }))
        }),
        Property::sometimes(UNRESUMED, |_, state: &State| {
            gone_by(state, |event| matches!(event, Event::ResumeEnd {}))
        }),
        Property::sometimes(RESTARTED, |_, state: &State| {
            gone_by(state, |event| matches!(event, Event::NodeUp { .. }))
        }),
        Property::sometimes(OLD_BOOT, |_, state: &State| {
            state.nodes.iter().any(|node| {
                let row = state.tables.node(node.id);
                row.is_some_and(|row| {
                    !row.down && row.boot[0] < node.boot && row.epoch > node.epoch.unwrap_or(row.epoch)
                })
            })
        }),
        Property::sometimes(DROPPED, |_, state: &State| {
            gone_by(state, |event| matches!(event, Event::SuspendedDropped { .. }))
        }),
    ]
}

fn effects(state: &State, is: impl Fn(&Effect) -> bool) -> bool {
    state.last.effects.iter().any(is)
}

fn refused(state: &State, why: Reason, of: impl Fn(&Event) -> bool) -> bool {
    state.last.events().any(|(event, verdict)| of(event) && *verdict == Verdict::Rejected(why))
}

fn gone_by(state: &State, by: impl Fn(&Event) -> bool) -> bool {
    state.last.events().any(|(event, _)| by(event))
        && effects(state, |effect| matches!(effect, Effect::EdgeGone { .. }))
}

/// Nodes that are up and have applied all there is, with no resume under way.
fn settled(state: &State) -> impl Iterator<Item = &Node> {
    let current = |node: &&Node| node.view.revision() == state.tables.revision();
    state
        .nodes
        .iter()
        .filter(current)
        .filter(|node| node.alive && node.epoch.is_some() && !node.is_resuming())
}

fn welcome(node: &Node) -> bool {
    node.sessions.iter().all(|(session, held)| {
        let Some(incarnation) = held.incarnation else { return true };
        let row = node.view.edge(held.edge).map(|row| row.home);
        row.is_some_and(|home| {
            (home.node, home.session, home.incarnation) == (node.id, *session, incarnation)
        })
    })
}

fn no_orphaned_rows(node: &Node) -> bool {
    node.view.edges().filter(|(_, row)| row.home.node == node.id).all(|(edge, row)| {
        let held = node.sessions.get(&row.home.session);
        let removal = Event::EdgeOffline { edge, incarnation: row.home.incarnation };
        held.is_some_and(|held| held.incarnation == Some(row.home.incarnation))
            || node.undecided().any(|event| *event == removal)
    })
}

/// The rule that an entry has broken.
pub(crate) fn step(
    before: &Tables,
    batch: &Batch,
    verdicts: &[Verdict],
    after: &Tables,
) -> Option<&'static str> {
    let accepted = |verdict: &Verdict| !matches!(verdict, Verdict::Rejected(_));
    let done = || batch.events.iter().zip(verdicts).filter(|(_, verdict)| accepted(verdict)).map(|(e, _)| e);
    for (edge, row) in before.edges() {
        let home = row.home;
        let of_node = batch.origin.is_some_and(|origin| origin.node == home.node);
        let named = done().any(|event| match event {
            Event::EdgeOnline { edge: of, .. } => *of == edge,
            Event::EdgeOffline { edge: of, incarnation } | Event::EdgeResumed { edge: of, incarnation } => {
                of_node && *of == edge && *incarnation == home.incarnation
            }
            Event::NodeDown { node, epoch } => *node == home.node && *epoch == home.epoch,
            Event::NodeUp { node, .. } => *node == home.node,
            _ => false,
        });
        if !named && after.edge(edge).map(|row| row.home) != Some(home) {
            return Some(FENCED);
        }
    }
    let origin = batch.origin?;
    let last = before.node(origin.node).filter(|row| row.epoch == origin.epoch).map_or(0, |row| row.last);
    let taken =
        verdicts.iter().any(|verdict| accepted(verdict) || *verdict == Verdict::Rejected(Reason::Stale));
    (taken && origin.number != last + 1).then_some(ONCE)
}
