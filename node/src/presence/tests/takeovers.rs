//! Takeover notifications between nodes.

use super::*;

/// A takeover notification that is late or repeated concerns a session older than the one here.
#[test]
fn late_takeover_notification_closes_no_newer_session() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.catch_up(0);
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    let inbox = world.members[0].open[&home.session.0].clone();
    let node = world.members[0].node.clone();
    node.presence.taken_over(EdgeId(1), home.incarnation, false);
    assert!(inbox.take_all().is_empty(), "its own incarnation is not newer");
    let target = Destination::Edge(EdgeId(1), home.incarnation);
    assert!(find_local(&node.router, target).is_some());
    let mut newer = home.incarnation;
    newer.0.ordinal += 1;
    newer.0.revision.0 += 5;
    node.presence.taken_over(EdgeId(1), newer, true);
    assert!(inbox.take_all().is_empty(), "an edge that moves may finish its requests");
    assert!(find_local(&node.router, target).is_none(), "but no new request is routed to it");
    assert_eq!(
        newer_revision(&node.router, target),
        newer.0.revision,
        "the caller gets the revision of the move"
    );
    world.connect(0, EdgeId(1), false);
    world.catch_up(0);
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    let inbox = world.members[0].open[&home.session.0].clone();
    let mut newer = home.incarnation;
    newer.0.ordinal += 1;
    node.presence.taken_over(EdgeId(1), newer, false);
    let command = inbox.take_all().pop_front();
    assert!(
        matches!(command, Some(NativeMessage::Command(SessionCommand::Close(goaway))) if goaway.code == Code::REPLACED)
    );
}

/// R4: a node that is notified of a takeover before it applies it waits for newer tables instead of routing to
/// the old home.
#[test]
fn notified_node_routes_nothing_to_the_old_home() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let old = world.tables.edge(EdgeId(1)).unwrap().home;
    world.connect(1, EdgeId(1), false);
    let new = world.tables.edge(EdgeId(1)).unwrap().home;
    let third = world.members[2].node.clone();
    assert!(matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == old));
    third.presence.taken_over(EdgeId(1), new.incarnation, false);
    assert!(
        matches!(resolve_edge(&third.router, EdgeId(1), None), Resolution::Absent),
        "so a barrier follows"
    );
    world.catch_up(2);
    assert!(matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == new));
    third.presence.taken_over(EdgeId(1), new.incarnation, false);
    assert!(
        matches!(third.presence.edges.get(EdgeId(1)), Some(EdgeLocation::Remote(home)) if home == new),
        "a repeated notification changes nothing"
    );
}
