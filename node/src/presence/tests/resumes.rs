//! SessionRegistry that are revived close nothing.

use super::*;

/// The first node, declared down although it lives, in its next life.
fn wrongly_down(world: &mut World) -> Arc<Components> {
    world.catch_up(0);
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.plain(up(1));
    world.catch_up(0);
    world.members[0].node.clone()
}

/// An earlier attempt to resume that was given up and came through after all does not cost the session.
#[test]
fn a_resume_that_came_through_late_closes_nothing() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    let node = wrongly_down(&mut world);
    let (first, second) = (resume::claims(&node.presence), resume::claims(&node.presence));
    let event = |claims: &[(u64, SessionEntry, Event)]| vec![claims[0].2.clone()];
    assert_eq!(resume::unrevived(resume::claims(&node.presence), NodeId(1), &world.tables).len(), 1);
    world.propose(0, event(&first)).unwrap();
    world.catch_up(0);
    assert!(
        resume::unrevived(resume::claims(&node.presence), NodeId(1), &world.tables).is_empty(),
        "and not again"
    );
    let verdicts = world.propose(0, event(&second)).unwrap();
    assert_eq!(verdicts, [Verdict::Rejected(Reason::Stale)]);
    assert!(resume::decided(&node.presence, second[0].0, &second[0].1, &verdicts[0]));
    assert!(world.members[0].open[&second[0].0].take_all().is_empty());
    // One that really was taken over meanwhile is closed.
    let third = resume::claims(&node.presence);
    world.connect(1, EdgeId(1), false);
    assert!(!resume::decided(&node.presence, third[0].0, &third[0].1, &Verdict::Rejected(Reason::Stale)));
    assert_eq!(world.members[0].open[&third[0].0].take_all().len(), 1);
}

/// Whoever steps over its own resume by a snapshot has revived its sessions, not replaced them.
#[test]
fn a_resume_that_a_snapshot_stepped_over_closes_nothing() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.serve(0, ServiceId(1));
    let node = wrongly_down(&mut world);
    let mut events: Vec<Event> =
        resume::claims(&node.presence).into_iter().map(|(_, _, event)| event).collect();
    assert_eq!(events.len(), 2);
    events.push(Event::ResumeEnd {});
    world.propose(0, events).unwrap();
    world.jump(0);
    for outbox in world.members[0].open.values() {
        assert!(outbox.take_all().is_empty());
    }
    assert_eq!(orphans::look(&node.presence, &world.tables), Default::default());
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    assert!(find_local(&node.router, Destination::Edge(EdgeId(1), home.incarnation)).is_some());
}
