//! Snapshots: a member far behind gets one, and restarts begin with one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::proxy::Proxy;
use crate::support::{self, Cluster, Running, eventually, online};
use futures::StreamExt;
use limes_routing::{EdgeId, Effect, Event};

/// Entries of their own, more than a leader keeps behind a snapshot.
fn fill(running: &Running, entries: usize) {
    let replica = running.replica.clone();
    let work = futures::stream::iter(0..entries).for_each_concurrent(200, move |n| {
        let replica = replica.clone();
        let event = Event::SettingChanged { key: format!("key-{}", n % 10), value: n.to_string() };
        async move {
            replica.propose_plain(event).await.unwrap();
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

/// Edges that come online one after the other until it is stopped; gives how many.
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
fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3);
    let lagging = cluster.follower();
    cluster.at(lagging).submit(online(1)).unwrap();
    cluster.kill(lagging);
    let leader = cluster.leader();
    fill(cluster.at(leader), 1_500);
    cluster.at(leader).submit(online(2)).unwrap();
    for (at, running) in cluster.running() {
        snapshot(running, &cluster.places[at].dir.join("snapshot"));
        eventually("the log behind it is let go", || running.replica.status().purged.0 > 100);
    }
    fill(cluster.at(leader), 50);
    // It is caught up while all goes on.
    let stop = Arc::new(AtomicBool::new(false));
    let traffic: Vec<_> = cluster.running().map(|(at, running)| traffic(running, at, stop.clone())).collect();
    cluster.restart(lagging);
    eventually("the member that was far behind decides with the others", || {
        let applied = |at: usize| cluster.at(at).replica.status().applied;
        let jumped = !cluster.at(lagging).recorder.jumps.lock().unwrap().is_empty();
        jumped && applied(lagging).0 + 100 > applied(leader).0
    });
    stop.store(true, Ordering::Relaxed);
    let done: Vec<u32> = traffic.into_iter().map(|told| told.recv_timeout(support::LIMIT).unwrap()).collect();
    assert!(done.iter().all(|done| *done > 0), "nothing flowed meanwhile: {done:?}");
    let tables = cluster.agree();
    assert!(tables.edge(EdgeId(2)).is_some());
    let jumps = cluster.at(lagging).recorder.jumps.lock().unwrap().clone();
    assert_eq!(jumps.len(), 1, "it was caught up by a snapshot");
    let online = |effect: &Effect| matches!(effect, Effect::EdgeOnline { edge: EdgeId(2), .. });
    assert!(jumps[0].iter().any(online), "its effects are what has changed: {jumps:?}");
    // It works on: its own events are applied, and it restarts from what it was sent.
    cluster.at(lagging).submit(support::online(3)).unwrap();
    cluster.kill(lagging);
    cluster.restart(lagging);
    assert!(cluster.agree().edge(EdgeId(2)).is_some());
}

#[test]
fn a_restart_begins_with_the_snapshot() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    fill(cluster.at(0), 20);
    snapshot(cluster.at(0), &cluster.places[0].dir.join("snapshot"));
    cluster.at(0).plain(Event::SettingChanged { key: "late".into(), value: "yes".into() }).unwrap();
    let before = cluster.at(0).replica.tables();
    cluster.kill(0);
    cluster.restart(0);
    let jumps = cluster.at(0).recorder.jumps.lock().unwrap().len();
    assert_eq!(jumps, 1, "the snapshot was loaded");
    let seen = cluster.at(0).recorder.seen().len();
    assert!(seen < 10, "only what is behind it was applied again, not {seen} batches");
    let settings = |tables: &limes_routing::Tables| {
        tables.settings().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(settings(&before), settings(&cluster.at(0).replica.tables()));
}

#[test]
fn snapshots_do_not_stop_what_is_being_agreed_on() {
    let cluster = Cluster::start(3);
    let leader = cluster.at(cluster.leader());
    let replica = leader.replica.clone();
    let shots = leader.spawn(async move {
        for _ in 0..20 {
            replica.snapshot().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    fill(leader, 500);
    shots.recv_timeout(support::LIMIT).unwrap();
    cluster.agree();
}

#[test]
fn a_snapshot_that_came_damaged_is_refused_and_sent_again() {
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
        eventually("the log behind it is let go", || running.replica.status().purged.0 > 100);
    }
    proxies[lagging].harm(2);
    cluster.restart(lagging);
    assert!(proxies[lagging].is_done(), "none came damaged");
    assert_eq!(cluster.at(lagging).recorder.jumps.lock().unwrap().len(), 1, "one was taken");
    let value = |tables: &limes_routing::Tables| {
        tables.settings().find(|(key, _)| *key == "marked").map(|(_, value)| value.to_owned())
    };
    assert_eq!(value(&cluster.agree()), Some("z".repeat(500)));
}
