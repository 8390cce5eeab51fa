//! Whoever is sent away, or loses its node, is expected back for a while.

use super::*;
use crate::router::grace::Wait;
use crate::router::resolve::{Patience, resolve, resolve_reachable};

/// The third node's view of an edge.
fn seen(world: &World, edge: u64) -> Resolution {
    resolve_edge(&world.members[2].node.router, EdgeId(edge), None)
}

fn planned(found: &Resolution) -> Option<bool> {
    match found {
        Resolution::InGrace(Wait { planned, .. }) => Some(*planned),
        _ => None,
    }
}

/// The node at this place says that it stops.
fn leaves(world: &mut World, at: u64) {
    let key = format!("leaving.{}", at + 1);
    let value = limes_raft::hex(&[at as u8 + 1; 16]);
    world.plain(Event::SettingChanged { key, value });
}

/// Closes an edge's or service's connection, whose row goes.
fn ends(world: &mut World, at: usize, event: Event) {
    world.propose(at, vec![event]).unwrap();
    (0..3).for_each(|at| world.catch_up(at));
}

fn offline(world: &World, edge: u64) -> Event {
    let home = world.tables.edge(EdgeId(edge)).unwrap().home;
    Event::EdgeOffline { edge: EdgeId(edge), incarnation: home.incarnation }
}

#[test]
fn only_who_is_sent_away_is_expected_back() {
    let mut world = World::new(1);
    (1..=2).for_each(|edge| world.connect(0, EdgeId(edge), false));
    (0..3).for_each(|at| world.catch_up(at));
    let event = offline(&world, 1);
    ends(&mut world, 0, event);
    assert!(matches!(seen(&world, 1), Resolution::Absent), "it has left by itself");
    leaves(&mut world, 0);
    let event = offline(&world, 2);
    ends(&mut world, 0, event);
    assert_eq!(planned(&seen(&world, 2)), Some(true));
    world.connect(1, EdgeId(2), false);
    (0..3).for_each(|at| world.catch_up(at));
    assert!(!matches!(seen(&world, 2), Resolution::InGrace(_) | Resolution::Absent), "it is back");
    let event = offline(&world, 2);
    ends(&mut world, 1, event);
    assert!(matches!(seen(&world, 2), Resolution::Absent), "and has left by itself");
}

#[test]
fn who_was_on_a_node_that_died_is_expected_until_it_comes() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.catch_up(2);
    assert_eq!(planned(&seen(&world, 1)), Some(false));
    world.connect(1, EdgeId(1), false);
    world.catch_up(2);
    assert!(!matches!(seen(&world, 1), Resolution::InGrace(_) | Resolution::Absent), "it is back");
}

#[test]
fn what_the_last_service_of_a_node_that_stops_offered_is_expected_back() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(1, ServiceId(2));
    (0..3).for_each(|at| world.catch_up(at));
    leaves(&mut world, 0);
    leaves(&mut world, 1);
    let offline = |world: &World, service: u64| {
        let row = world.tables.services().find(|row| row.service == ServiceId(service)).unwrap();
        Event::ServiceOffline { service: row.service, session: row.home.session }
    };
    let call = |world: &World| {
        resolve(&world.members[2].node.router, &request("greet", mpsc::unbounded_channel().0))
    };
    let event = offline(&world, 1);
    ends(&mut world, 0, event);
    assert!(matches!(call(&world), Resolution::Unreachable), "another offers it still");
    let event = offline(&world, 2);
    ends(&mut world, 1, event);
    assert_eq!(planned(&call(&world)), Some(true));
    let other = resolve(&world.members[2].node.router, &request("other", mpsc::unbounded_channel().0));
    assert!(matches!(other, Resolution::Absent));
    // The same with a node that dies, for whoever asks for it.
    world.serve(0, ServiceId(3));
    world.plain(Event::SettingChanged { key: "leaving.1".into(), value: String::new() });
    world.catch_up(2);
    assert!(matches!(call(&world), Resolution::Unreachable));
    let epoch = world.tables.live_epoch(NodeId(1)).unwrap();
    world.plain(Event::NodeDown { node: NodeId(1), epoch });
    world.catch_up(2);
    assert_eq!(planned(&call(&world)), Some(false));
}

/// Of the two sorts of waiting, one is for those who ask for it.
#[tokio::test]
async fn who_is_not_patient_waits_for_nobody_whose_node_died() {
    let world = World::new(1);
    let node = &world.members[0].node.router;
    let far = Instant::now() + Duration::from_secs(60);
    let looks = async |planned, patient| {
        let looks = std::cell::Cell::new(0);
        let found = resolve_reachable(node, Patience::until(node, far, patient), || {
            looks.set(looks.get() + 1);
            if looks.get() < 3 {
                Resolution::InGrace(Wait { until: far, planned })
            } else {
                Resolution::Absent
            }
        });
        assert!(matches!(found.await, Resolution::Absent));
        looks.get()
    };
    assert_eq!(looks(false, false).await, 1, "denied at the first look");
    for (planned, patient) in [(true, false), (false, true), (true, true)] {
        assert_eq!(looks(planned, patient).await, 3, "{planned} {patient}");
    }
    let past = Wait { until: Instant::now(), planned: true };
    let found = resolve_reachable(node, Patience::until(node, far, true), || Resolution::InGrace(past)).await;
    assert!(matches!(found, Resolution::Absent), "its time is over");
}

/// What has been sent in vain is not sent there again: the end of that session is on its way into the tables.
#[test]
fn nobody_is_led_again_to_a_session_that_is_over() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    (0..3).for_each(|at| world.catch_up(at));
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    for (at, tried) in [(0, 1), (2, 1), (0, 2)] {
        let mut incarnation = home.incarnation;
        incarnation.0.ordinal += tried - 1;
        let tried_there = tried == 1;
        let found = resolve_edge(
            &world.members[at].node.router,
            EdgeId(1),
            Some(Destination::Edge(EdgeId(1), incarnation)),
        );
        assert_eq!(matches!(found, Resolution::Unreachable), tried_there || at == 2, "{found:?}");
    }
}
