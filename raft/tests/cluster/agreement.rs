//! Agreement: founding, verdicts in order, crashes, restarts.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::support::{BRISK, Cluster, LIMIT, Seen, concurrently, eventually, online, tests};
use limes_raft::{BarrierError, ProposeError, Timing};
use limes_routing::{EdgeId, Event, Verdict};

/// Tests that mostly wait for an election.
#[test]
fn without_a_leader() {
    concurrently(tests! {
        cluster_survives_the_crash_of_its_leader
        no_acknowledged_event_is_lost_when_all_members_crash
        minority_reports_no_quorum_in_time
    });
}

#[test]
fn one_member_founds_its_cluster_and_commits() {
    let cluster = Cluster::start(1);
    let verdict = cluster.at(0).submit(online(7)).unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    assert!(cluster.at(0).replica.read(|tables| tables.edge(EdgeId(7)).is_some()));
}

#[test]
fn founders_that_start_together_make_one_cluster() {
    let cluster = Cluster::start(3);
    let tables = cluster.agree();
    let id = tables.cluster().unwrap().id;
    for (at, running) in cluster.running() {
        assert_eq!(running.replica.cluster(), id);
        assert_eq!(running.replica.node().0, at as u64 + 1);
    }
    assert_eq!(tables.members().count(), 3);
}

fn cluster_survives_the_crash_of_its_leader() {
    let mut cluster = Cluster::start_with(3, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let leader = cluster.leader();
    cluster.kill(leader);
    let at = cluster.running().next().unwrap().0;
    eventually("the remaining members commit", || {
        matches!(cluster.at(at).submit(online(2)), Ok(Verdict::Accepted(_)))
    });
    cluster.restart(leader);
    eventually("the crashed member catches up", || {
        cluster.at(leader).replica.read(|tables| tables.edge(EdgeId(2)).is_some())
    });
    cluster.agree();
}

#[test]
fn members_apply_the_same_batches_in_the_same_order() {
    let cluster = Cluster::start(3);
    let results: Vec<_> = (0..300u64)
        .map(|edge| {
            let running = cluster.at(edge as usize % 3);
            let replica = running.replica.clone();
            running.spawn(async move { (edge, replica.proposer().submit(online(edge)).await) })
        })
        .collect();
    let mut positions = BTreeMap::new();
    for result in results {
        let (edge, verdict) = result.recv_timeout(LIMIT).unwrap();
        let Ok(Verdict::Accepted(position)) = verdict else { panic!("edge {edge}: {verdict:?}") };
        assert!(positions.insert(position, edge).is_none(), "two events at {position}");
    }
    let tables = cluster.agree();
    assert!((0..300).all(|edge| tables.edge(EdgeId(edge)).is_some()));
    let seen: Vec<_> = cluster.running().map(|(_, running)| running.recorder.seen().clone()).collect();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1], seen[2]);
    for Seen { revision, batch, verdicts } in &seen[0] {
        for (verdict, ordinal) in verdicts.iter().zip(0..) {
            if let Verdict::Accepted(position) = verdict {
                assert_eq!((position.revision, position.ordinal), (*revision, ordinal), "{batch:?}");
            }
        }
    }
}

#[test]
fn events_gather_while_a_batch_is_in_flight() {
    let cluster = Cluster::start(3);
    let follower = cluster.at(cluster.follower());
    let replica = follower.replica.clone();
    let waiting: Vec<_> = (0..400).map(|edge| replica.proposer().enqueue(online(edge)).unwrap()).collect();
    let verdicts = follower.run(futures::future::join_all(waiting));
    let accepted = verdicts.iter().filter(|verdict| matches!(verdict, Ok(Ok(Verdict::Accepted(_))))).count();
    assert!(accepted > 0, "{verdicts:?}");
    let me = replica.node();
    let seen = follower.recorder.seen();
    let own = || seen.iter().filter(|seen| seen.batch.origin.is_some_and(|origin| origin.node == me));
    let (batches, events) = (own().count(), own().map(|seen| seen.batch.events.len()).sum::<usize>());
    assert!((accepted..=400).contains(&events), "{accepted} were accepted and {events} applied");
    assert!(batches < 20, "{batches} batches");
    let order: Vec<u64> = own().flat_map(|seen| seen.batch.events.iter().map(edge_of)).collect();
    assert!(order.is_sorted(), "the order differs from that of submission");
}

/// Leaders change under load: retried batches are applied once, and none is lost.
#[test]
fn event_is_applied_once_while_leaders_change() {
    let cluster = Cluster::start(3);
    let results: Vec<_> = cluster
        .running()
        .map(|(at, running)| {
            let replica = running.replica.clone();
            running.spawn(async move {
                let mut accepted = Vec::new();
                for edge in (0..150).map(|edge| edge * 3 + at as u64) {
                    match replica.proposer().submit(online(edge)).await {
                        Ok(Verdict::Accepted(position)) => accepted.push((edge, position)),
                        // There was no leader for long, on a busy machine: the event is applied once or not at all.
                        Err(ProposeError::NoQuorum) => {}
                        other => panic!("edge {edge}: {other:?}"),
                    }
                }
                accepted
            })
        })
        .collect();
    for name in ["node-2", "node-3", "node-1", "node-3"] {
        // An attempt fails if a disk stalls; then there is an election, and another attempt.
        eventually("the leadership is transferred", || {
            let replica = cluster.at(0).replica.clone();
            cluster.at(0).run(async move { replica.transfer_leader(Some(name)).await }).is_ok()
        });
    }
    let accepted: Vec<_> = results.into_iter().map(|result| result.recv_timeout(LIMIT).unwrap()).collect();
    cluster.agree();
    let seen = cluster.at(0).recorder.seen();
    let mut applied = BTreeMap::new();
    for seen in seen.iter() {
        for (event, verdict) in seen.batch.events.iter().zip(&seen.verdicts) {
            if let (Event::EdgeOnline { edge, .. }, Verdict::Accepted(position)) = (event, verdict) {
                assert!(applied.insert(edge.0, *position).is_none(), "{edge} was applied twice");
            }
        }
    }
    assert!(applied.len() <= 450);
    for (edge, position) in accepted.into_iter().flatten() {
        assert_eq!(
            applied.get(&edge),
            Some(&position),
            "edge {edge} is at another position than its verdict says"
        );
    }
}

fn no_acknowledged_event_is_lost_when_all_members_crash() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let accepted = |edge: &u64| {
        let verdict = cluster.at(*edge as usize % 3).submit(online(*edge));
        matches!(verdict, Ok(Verdict::Accepted(_)))
    };
    let accepted: Vec<u64> = (0..50).filter(accepted).collect();
    assert!(!accepted.is_empty());
    let id = cluster.at(0).replica.cluster();
    (0..3).for_each(|at| cluster.kill(at));
    cluster.start_places(&[0, 1, 2]);
    cluster.places.iter().for_each(|place| place.running().wait_up());
    assert_eq!(cluster.at(0).replica.cluster(), id);
    let tables = cluster.agree();
    // The sessions of the edges ended with their processes, but the committed events are in the log.
    let seen = cluster.at(1).recorder.seen();
    let replayed: Vec<u64> = seen.iter().flat_map(|seen| &seen.batch.events).filter_map(online_of).collect();
    assert!(accepted.iter().all(|edge| replayed.contains(edge)), "{accepted:?} and {replayed:?}");
    assert_eq!(tables.members().count(), 3);
}

fn minority_reports_no_quorum_in_time() {
    // This test is about time: the default timers.
    let timing = Timing::default();
    let mut cluster = Cluster::start_with(3, timing);
    let leader = cluster.leader();
    for at in (0..3).filter(|at| *at != leader) {
        cluster.kill(at);
    }
    let alone = cluster.at(leader);
    let replica = alone.replica.clone();
    let barrier = alone.spawn(async move { replica.barrier().await });
    assert_eq!(alone.submit(online(1)), Err(ProposeError::NoQuorum));
    assert_eq!(barrier.recv_timeout(LIMIT).unwrap(), Err(BarrierError::NoQuorum));
    // Later requests fail sooner.
    let began = Instant::now();
    assert_eq!(alone.submit(online(2)), Err(ProposeError::NoQuorum));
    assert!(began.elapsed() < timing.no_quorum_after(), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(alone.barrier(), Err(BarrierError::NoQuorum));
    assert!(began.elapsed() < timing.no_quorum_after(), "{:?}", began.elapsed());
    let other = (0..3).find(|at| *at != leader).unwrap();
    cluster.restart(other);
    eventually("the majority commits again", || {
        matches!(cluster.at(leader).submit(online(3)), Ok(Verdict::Accepted(_)))
    });
}

#[test]
fn member_that_shuts_down_is_down_at_once_and_can_return() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let left = cluster.at(leader).replica.node();
    cluster.stop(leader);
    let other = cluster.running().next().unwrap().0;
    cluster.at(other).barrier().unwrap();
    assert!(cluster.at(other).replica.read(|tables| tables.live_epoch(left).is_none()));
    cluster.restart(leader);
    assert_eq!(cluster.at(leader).replica.node(), left);
    cluster.agree();
}

fn online_of(event: &Event) -> Option<u64> {
    match event {
        Event::EdgeOnline { edge, .. } => Some(edge.0),
        _ => None,
    }
}

fn edge_of(event: &Event) -> u64 {
    online_of(event).unwrap()
}

/// The verdict of an event and the index of its entry arrive at nearly the same time, in either order. The
/// caller must get the verdict.
#[test]
fn committed_event_is_never_reported_as_no_quorum() {
    let cluster = Cluster::start(3);
    let follower = cluster.at(cluster.follower());
    let replica = follower.replica.clone();
    let wrong = follower.run(async move {
        let mut wrong = Vec::new();
        for edge in 0..250 {
            match replica.proposer().submit(online(edge)).await {
                Ok(Verdict::Accepted(_)) => {}
                other => wrong.push((edge, other)),
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{} of 250: {:?}", wrong.len(), wrong[0]);
}
