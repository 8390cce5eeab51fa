//! Reads: barriers and the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Cluster, LIMIT, Running, offline, online};
use limes_raft::{Filter, Record};
use limes_routing::{EdgeId, Event, NodeId, Reason, Verdict};

#[test]
fn read_after_a_barrier_sees_every_acknowledged_write() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    for edge in 0..60u64 {
        let (writer, reader) = (edge as usize % 3, (edge as usize + 1) % 3);
        cluster.at(writer).submit(online(edge)).unwrap();
        let revision = cluster.at(reader).barrier().unwrap();
        let replica = &cluster.at(reader).replica;
        assert!(replica.read(|tables| tables.edge(EdgeId(edge)).is_some()), "edge {edge} from {leader}");
        assert!(replica.read(|tables| tables.revision()) >= revision);
    }
}

#[test]
fn concurrent_barriers_hold_under_writes() {
    let cluster = Cluster::start(3);
    let follower = cluster.at(cluster.follower());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (replica, counter) = (cluster.at(0).replica.clone(), acknowledged.clone());
    let writer = cluster.at(0).spawn(async move {
        for edge in 1..=300 {
            replica.proposer().submit(online(edge)).await.unwrap();
            counter.store(edge, Ordering::SeqCst);
        }
    });
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let (replica, counter) = (follower.replica.clone(), acknowledged.clone());
            follower.spawn(async move {
                for _ in 0..20 {
                    let newest = counter.load(Ordering::SeqCst);
                    replica.barrier().await.unwrap();
                    if newest > 0 {
                        assert!(
                            replica.read(|tables| tables.edge(EdgeId(newest)).is_some()),
                            "edge {newest}"
                        );
                    }
                }
            })
        })
        .collect();
    writer.recv_timeout(LIMIT).unwrap();
    readers.into_iter().for_each(|reader| reader.recv_timeout(LIMIT).unwrap());
}

#[test]
fn cluster_event_returns_its_verdict() {
    let cluster = Cluster::start(3);
    let decide = |event: Event| {
        let replica = cluster.at(cluster.follower()).replica.clone();
        cluster.at(0).run(async move { replica.propose_for_verdict(event).await }).unwrap()
    };
    let (_, verdict) = decide(Event::Drain { node: NodeId(2), on: true });
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    let (_, verdict) = decide(Event::Drain { node: NodeId(77), on: true });
    assert_eq!(verdict, Verdict::Rejected(Reason::NoMember));
}

fn search(running: &Running, filter: Filter) -> Vec<Record> {
    let replica = running.replica.clone();
    running.run(async move { replica.history().search(filter).await }).unwrap()
}

#[test]
fn history_finds_the_events_of_an_edge() {
    let mut cluster = Cluster::start(3);
    let Ok(Verdict::Accepted(at)) = cluster.at(0).submit(online(7)) else { panic!() };
    for edge in 100..200 {
        cluster.at(1).submit(online(edge)).unwrap();
    }
    cluster.at(0).submit(offline(7, at)).unwrap();
    // A rejected event is not in the history.
    cluster.at(0).submit(offline(7, at)).unwrap();
    cluster.agree();
    let edge = || Filter { edge: Some(EdgeId(7)), ..Filter::default() };
    for at in 0..3 {
        let found = search(cluster.at(at), edge());
        let names: Vec<_> = found.iter().map(|record| record.event.name()).collect();
        assert_eq!(names, ["EdgeOnline", "EdgeOffline"], "on node {at}");
        assert_eq!(found[0].node, Some(NodeId(1)));
    }
    let second = search(cluster.at(2), Filter { after: Some(at), ..edge() });
    assert_eq!(second.len(), 1);
    assert!(search(cluster.at(2), Filter { since_ms: Some(u64::MAX), ..edge() }).is_empty());
    assert_eq!(
        search(cluster.at(2), Filter { node: Some(NodeId(2)), limit: Some(5), ..Filter::default() }).len(),
        5
    );
    // The history survives a restart, without duplicates.
    cluster.stop(2);
    cluster.restart(2);
    assert_eq!(search(cluster.at(2), edge()).len(), 2);
    let all = search(cluster.at(2), Filter { limit: Some(10_000), ..Filter::default() });
    assert!(
        all.is_sorted_by(|one, next| one.position < next.position),
        "records are out of order or duplicated"
    );
    let keys = |record: &Record| matches!(&record.event, Event::ClusterMade { key, .. } if !key.is_empty());
    assert!(!all.iter().any(keys), "a key is in the history");
}
