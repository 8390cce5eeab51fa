//! Snapshots: for members far behind, and for restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::proxy::Proxy;
use crate::support::{self, Cluster, Running, eventually, online};
use futures::StreamExt;
use limes_routing::{EdgeId, Effect, Event, Revision};

/// Commits entries, one event each.
fn fill(running: &Running, entries: usize) {
    let replica = running.replica.clone();
    let work = futures::stream::iter(0..entries).for_each_concurrent(200, move |n| {
        let replica = replica.clone();
        let event = Event::SettingChanged { key: format!("key-{}", n % 10), value: n.to_string() };
        async move {
            replica.propose(event).await.unwrap();
        }
    });
    running.run(work);
}

fn snapshot(running: &Running, file: &std::path::Path) {
    let before = std::fs::metadata(file).and_then(|file| file.modified()).ok();
    let replica = running.replica.clone();
    running.run(async move { replica.snapshot().await });
    eventually("a snapshot is written", || {
        std::fs::metadata(file).and_then(|file| file.modified()).is_ok_and(|time| Some(time) != before)
    });
}

/// Edges come online one after the other until `stop` is set; returns how many.
fn traffic(running: &Running, at: usize, stop: Arc<AtomicBool>) -> std::sync::mpsc::Receiver<u32> {
    let replica = running.replica.clone();
    running.spawn(async move {
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            let edge = 1_000 * (at as u64 + 1) + u64::from(done % 100);
            done += u32::from(replica.proposer().submit(online(edge)).await.is_ok());
        }
        done
    })
}

#[test]
fn member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3);
    let lagging = cluster.follower();
    cluster.at(lagging).submit(online(1)).unwrap();
    cluster.kill(lagging);
    let leader = cluster.leader();
    fill(cluster.at(leader), 1_500);
    cluster.at(leader).submit(online(2)).unwrap();
    for (at, running) in cluster.running() {
        snapshot(running, &cluster.places[at].dir.join("snapshot"));
        eventually("the log behind the snapshot is purged", || {
            running.replica.status().purged > Some(Revision(100))
        });
    }
    fill(cluster.at(leader), 50);
    // The member catches up under load.
    let stop = Arc::new(AtomicBool::new(false));
    let traffic: Vec<_> = cluster.running().map(|(at, running)| traffic(running, at, stop.clone())).collect();
    cluster.restart(lagging);
    eventually("the member has caught up", || {
        let applied = |at: usize| cluster.at(at).replica.status().applied;
        let jumped = !cluster.at(lagging).recorder.jumps.lock().is_empty();
        jumped && applied(lagging).0 + 100 > applied(leader).0
    });
    stop.store(true, Ordering::Relaxed);
    let done: Vec<u32> =
        traffic.into_iter().map(|result| result.recv_timeout(support::LIMIT).unwrap()).collect();
    assert!(done.iter().all(|done| *done > 0), "no event was committed meanwhile: {done:?}");
    let tables = cluster.agree();
    assert!(tables.edge(EdgeId(2)).is_some());
    let jumps = cluster.at(lagging).recorder.jumps.lock().clone();
    assert_eq!(jumps.len(), 1, "the member did not get one snapshot");
    let online = |effect: &Effect| matches!(effect, Effect::EdgeOnline { edge: EdgeId(2), .. });
    assert!(jumps[0].iter().any(online), "the effects lack a change: {jumps:?}");
    // The member works: its own events are applied, and it restarts from the snapshot.
    cluster.at(lagging).submit(support::online(3)).unwrap();
    cluster.kill(lagging);
    cluster.restart(lagging);
    assert!(cluster.agree().edge(EdgeId(2)).is_some());
}

#[test]
fn restart_begins_with_the_snapshot() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    fill(cluster.at(0), 20);
    snapshot(cluster.at(0), &cluster.places[0].dir.join("snapshot"));
    cluster.at(0).plain(Event::SettingChanged { key: "late".into(), value: "yes".into() }).unwrap();
    let before = cluster.at(0).replica.tables();
    cluster.kill(0);
    cluster.restart(0);
    let jumps = cluster.at(0).recorder.jumps.lock().len();
    assert_eq!(jumps, 1, "the snapshot was not loaded");
    let seen = cluster.at(0).recorder.seen().len();
    assert!(seen < 10, "{seen} batches were applied again");
    let settings = |tables: &limes_routing::Tables| {
        tables.settings().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(settings(&before), settings(&cluster.at(0).replica.tables()));
}

#[test]
fn snapshots_do_not_stop_commits() {
    let cluster = Cluster::start(3);
    let leader = cluster.at(cluster.leader());
    let replica = leader.replica.clone();
    let snapshots = leader.spawn(async move {
        for _ in 0..20 {
            replica.snapshot().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    fill(leader, 500);
    snapshots.recv_timeout(support::LIMIT).unwrap();
    cluster.agree();
}

#[test]
fn damaged_snapshot_is_refused_and_sent_again() {
    let mut cluster = Cluster::places(3);
    let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::default()).collect();
    for (at, proxy) in proxies.iter().enumerate() {
        let mesh = proxy.start(cluster.places[at].addr).to_string();
        cluster.places[at].mesh.clone_from(&mesh);
        cluster.initial[at].addr = mesh;
    }
    cluster.start_places(&[0, 1, 2]);
    cluster.places.iter().for_each(|place| place.running().wait_up());
    let marked = Event::SettingChanged { key: "marked".into(), value: "z".repeat(500) };
    cluster.at(0).plain(marked).unwrap();
    let lagging = cluster.follower();
    cluster.kill(lagging);
    let leader = cluster.leader();
    fill(cluster.at(leader), 1_500);
    for (at, running) in cluster.running() {
        snapshot(running, &cluster.places[at].dir.join("snapshot"));
        eventually("the log behind the snapshot is purged", || {
            running.replica.status().purged > Some(Revision(100))
        });
    }
    proxies[lagging].harm(2);
    cluster.restart(lagging);
    assert!(proxies[lagging].is_done(), "no snapshot was damaged");
    assert_eq!(cluster.at(lagging).recorder.jumps.lock().len(), 1, "no snapshot was accepted");
    let value = |tables: &limes_routing::Tables| {
        tables.settings().find(|(key, _)| *key == "marked").map(|(_, value)| value.to_owned())
    };
    assert_eq!(value(&cluster.agree()), Some("z".repeat(500)));
}
