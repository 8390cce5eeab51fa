//! Resuming closes no session that is revived.

use super::*;
use crate::presence::resume::Claim;

/// The first node, declared down although it runs, in its next epoch.
fn wrongly_down(world: &mut World) -> Arc<Components> {
    world.catch_up(0);
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.plain(up(1));
    world.catch_up(0);
    world.members[0].node.clone()
}

/// An attempt that was given up and committed after all does not close the session.
#[test]
fn resume_that_commits_late_closes_no_session() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    let node = wrongly_down(&mut world);
    let (first, second) = (resume::claims(&node.presence), resume::claims(&node.presence));
    let event = |claims: &[Claim]| vec![claims[0].event.clone()];
    assert_eq!(resume::unrevived(resume::claims(&node.presence), NodeId(1), &world.tables).len(), 1);
    world.propose(0, event(&first)).unwrap();
    world.catch_up(0);
    assert!(
        resume::unrevived(resume::claims(&node.presence), NodeId(1), &world.tables).is_empty(),
        "a revived session is not claimed again"
    );
    let verdicts = world.propose(0, event(&second)).unwrap();
    assert_eq!(verdicts, [Verdict::Rejected(Reason::Stale)]);
    assert!(resume::decided(&node.presence, &second[0], &verdicts[0]));
    assert!(world.members[0].open[&second[0].no].take_all().is_empty());
    // A session that was taken over meanwhile is closed.
    let third = resume::claims(&node.presence);
    world.connect(1, EdgeId(1), false);
    assert!(!resume::decided(&node.presence, &third[0], &Verdict::Rejected(Reason::Stale)));
    assert_eq!(world.members[0].open[&third[0].no].take_all().len(), 1);
}

/// A node that installs a snapshot which contains its own resume has revived its sessions, not replaced them.
#[test]
fn snapshot_that_contains_a_resume_closes_no_session() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.serve(0, ServiceId(1));
    let node = wrongly_down(&mut world);
    let mut events: Vec<Event> =
        resume::claims(&node.presence).into_iter().map(|claim| claim.event).collect();
    assert_eq!(events.len(), 2);
    events.push(Event::ResumeEnd {});
    world.propose(0, events).unwrap();
    world.jump(0);
    for inbox in world.members[0].open.values() {
        assert!(inbox.take_all().is_empty());
    }
    assert_eq!(orphans::find(&node.presence, &world.tables), Default::default());
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    assert!(find_local(&node.router, Destination::Edge(EdgeId(1), home.incarnation)).is_some());
}
