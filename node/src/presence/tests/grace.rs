//! The reconnect grace of sessions whose node drains or dies.

use super::*;
use crate::router::grace::Wait;
use crate::router::resolve::{Patience, resolve, resolve_reachable};

/// The third node's view of an edge.
fn resolved(world: &World, edge: u64) -> Resolution {
    resolve_edge(&world.members[2].node.router, EdgeId(edge), None)
}

fn planned(found: &Resolution) -> Option<bool> {
    match found {
        Resolution::InGrace(Wait { planned, .. }) => Some(*planned),
        _ => None,
    }
}

/// The node at this index announces its departure.
fn announce_departure(world: &mut World, at: u64) {
    let key = format!("leaving.{}", at + 1);
    let value = limes_raft::hex(&[at as u8 + 1; 16]);
    world.plain(Event::SettingChanged { key, value });
}

/// Removes the row of an edge or service on every node.
fn remove_row(world: &mut World, at: usize, event: Event) {
    world.propose(at, vec![event]).unwrap();
    (0..3).for_each(|at| world.catch_up(at));
}

fn offline(world: &World, edge: u64) -> Event {
    let home = world.tables.edge(EdgeId(edge)).unwrap().home;
    Event::EdgeOffline { edge: EdgeId(edge), incarnation: home.incarnation }
}

#[test]
fn only_an_edge_of_a_draining_node_has_a_grace() {
    let mut world = World::new(1);
    (1..=2).for_each(|edge| world.connect(0, EdgeId(edge), false));
    (0..3).for_each(|at| world.catch_up(at));
    let event = offline(&world, 1);
    remove_row(&mut world, 0, event);
    assert!(matches!(resolved(&world, 1), Resolution::Absent), "it has disconnected by itself");
    announce_departure(&mut world, 0);
    let event = offline(&world, 2);
    remove_row(&mut world, 0, event);
    assert_eq!(planned(&resolved(&world, 2)), Some(true));
    world.connect(1, EdgeId(2), false);
    (0..3).for_each(|at| world.catch_up(at));
    assert!(
        !matches!(resolved(&world, 2), Resolution::InGrace(_) | Resolution::Absent),
        "it has reconnected"
    );
    let event = offline(&world, 2);
    remove_row(&mut world, 1, event);
    assert!(
        matches!(resolved(&world, 2), Resolution::Absent),
        "it has disconnected by itself the second time"
    );
}

#[test]
fn edge_of_a_dead_node_has_a_grace_until_it_reconnects() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.catch_up(2);
    assert_eq!(planned(&resolved(&world, 1)), Some(false));
    world.connect(1, EdgeId(1), false);
    world.catch_up(2);
    assert!(
        !matches!(resolved(&world, 1), Resolution::InGrace(_) | Resolution::Absent),
        "it has reconnected"
    );
}

#[test]
fn method_of_the_last_service_of_a_draining_node_has_a_grace() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(1, ServiceId(2));
    (0..3).for_each(|at| world.catch_up(at));
    announce_departure(&mut world, 0);
    announce_departure(&mut world, 1);
    let offline = |world: &World, service: u64| {
        let row = world.tables.services().find(|row| row.service == ServiceId(service)).unwrap();
        Event::ServiceOffline { service: row.service, session: row.home.session }
    };
    let call = |world: &World| {
        resolve(&world.members[2].node.router, &request("greet", mpsc::unbounded_channel().0))
    };
    let event = offline(&world, 1);
    remove_row(&mut world, 0, event);
    assert!(matches!(call(&world), Resolution::Unreachable), "another service still offers it");
    let event = offline(&world, 2);
    remove_row(&mut world, 1, event);
    assert_eq!(planned(&call(&world)), Some(true));
    let other = resolve(&world.members[2].node.router, &request("other", mpsc::unbounded_channel().0));
    assert!(matches!(other, Resolution::Absent));
    // The same for a node that dies, but only for patient callers.
    world.serve(0, ServiceId(3));
    world.plain(Event::SettingChanged { key: "leaving.1".into(), value: String::new() });
    world.catch_up(2);
    assert!(matches!(call(&world), Resolution::Unreachable));
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.catch_up(2);
    assert_eq!(planned(&call(&world)), Some(false));
}

/// An unplanned grace applies to patient callers only.
#[tokio::test]
async fn impatient_caller_does_not_wait_for_sessions_of_a_dead_node() {
    let world = World::new(1);
    let node = &world.members[0].node.router;
    let far = Instant::now() + Duration::from_secs(60);
    let attempts = async |planned, patient| {
        let count = std::cell::Cell::new(0);
        let found = resolve_reachable(node, Patience::until(node, far, patient), || {
            count.set(count.get() + 1);
            if count.get() < 3 {
                Resolution::InGrace(Wait { until: far, planned })
            } else {
                Resolution::Absent
            }
        });
        assert!(matches!(found.await, Resolution::Absent));
        count.get()
    };
    assert_eq!(attempts(false, false).await, 1, "absent at the first attempt");
    for (planned, patient) in [(true, false), (false, true), (true, true)] {
        assert_eq!(attempts(planned, patient).await, 3, "{planned} {patient}");
    }
    let past = Wait { until: Instant::now(), planned: true };
    let found = resolve_reachable(node, Patience::until(node, far, true), || Resolution::InGrace(past)).await;
    assert!(matches!(found, Resolution::Absent), "the grace is over");
}

/// The session that was tried is not selected again: its removal is on its way into the tables.
#[test]
fn session_that_was_tried_is_not_selected_again() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    for (at, tried) in [(0, 1), (2, 1), (0, 2)] {
        let mut incarnation = home.incarnation;
        incarnation.0.ordinal += tried - 1;
        let was_tried = tried == 1;
        let found = resolve_edge(
            &world.members[at].node.router,
            EdgeId(1),
            Some(Destination::Edge(EdgeId(1), incarnation)),
        );
        assert_eq!(matches!(found, Resolution::Unreachable), was_tried || at == 2, "{found:?}");
    }
}
