//! Snapshots: a member far behind gets one, and restarts begin with one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use limes_routing::{EdgeId, Effect, Event};
use support::{Cluster, Running, eventually, online};

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
    cluster.restart(lagging);
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
