//! Founding a cluster, and directories that do not belong to it.

use std::time::Duration;

use crate::support::{
    BRISK, Cluster, LIMIT, Running, Starting, concurrently, copy, eventually, online, tests,
};
use limes_raft::{PeerAddr, StartError};
use limes_routing::{NodeId, Verdict};

/// Tests that mostly wait.
#[test]
fn foundings() {
    concurrently(tests! {
        cluster_is_founded_only_when_every_founder_answers
        founders_killed_while_founding_continue_later
        founder_may_lose_its_disk_while_founding
        first_founder_that_lost_its_disk_rejoins
    });
}

fn cluster_is_founded_only_when_every_founder_answers() {
    let mut cluster = Cluster::places(3);
    cluster.timing = BRISK;
    let first = cluster.begin(0);
    let second = cluster.begin(1);
    assert!(first.is_waiting(Duration::from_millis(1_200)), "the first founder does not wait for the third");
    assert!(second.is_waiting(Duration::from_millis(1)), "the second founder does not wait for the third");
    cluster.start_places(&[2]);
    cluster.places[0].running = Some(first.finish(LIMIT).unwrap());
    cluster.places[1].running = Some(second.finish(LIMIT).unwrap());
    cluster.places.iter().for_each(|place| place.running().wait_up());
    cluster.agree();
}

fn founders_killed_while_founding_continue_later() {
    founders_are_killed(2..4);
}

fn founder_may_lose_its_disk_while_founding() {
    founders_are_killed(0..2);
}

fn founders_are_killed(rounds: std::ops::Range<u64>) {
    for round in rounds {
        let mut cluster = Cluster::places(3);
        cluster.timing = BRISK;
        let starting: Vec<_> = (0..3).map(|at| cluster.begin(at)).collect();
        std::thread::sleep(Duration::from_millis(40 + round * 40));
        starting.into_iter().for_each(Starting::kill);
        // In some rounds a founder loses its disk in between, and another one starts late.
        let wiped = usize::try_from(round).ok().filter(|round| *round < 2);
        if let Some(at) = wiped {
            eventually("the directory can be removed", || {
                let _ = std::fs::remove_dir_all(&cluster.places[at].dir);
                !cluster.places[at].dir.exists()
            });
        }
        let first: Vec<_> = [0, 1].map(|at| (at, cluster.begin(at))).into();
        std::thread::sleep(Duration::from_millis(100));
        cluster.start_places(&[2]);
        for (at, starting) in first {
            cluster.places[at].running = Some(starting.finish(LIMIT).unwrap());
        }
        cluster.places.iter().for_each(|place| place.running().wait_up());
        eventually("three vote", || {
            let tables = cluster.agree();
            tables.members().count() == 3 && tables.members().all(|member| member.voter)
        });
        let numbers = |(at, running): (usize, &Running)| running.replica.node().0 == at as u64 + 1;
        assert!(
            wiped.is_some() || cluster.running().all(numbers),
            "a founder was admitted under another number"
        );
    }
}

#[test]
fn founder_of_another_cluster_is_refused() {
    let mut one = Cluster::start(1);
    let other = Cluster::start(1);
    // A new node whose list names nodes of two clusters cannot know where it belongs.
    let (first, second) = (one.initial[0].clone(), other.initial[0].clone());
    let at = one.add_place();
    one.initial = vec![first, PeerAddr { name: "node-9".to_owned(), addr: "127.0.0.1:1".to_owned() }, second];
    one.initial[2].name = "node-1".to_owned();
    let Err(error) = one.begin(at).finish(LIMIT) else { panic!("the member started") };
    assert!(matches!(error, StartError::FounderOfOtherCluster { .. }), "{error}");
}

#[test]
fn directory_of_another_cluster_is_refused() {
    let mut one = Cluster::start_with(3, BRISK);
    another_members_directory_is_refused(&mut one);
    let mut other = Cluster::start(1);
    other.kill(0);
    one.kill(1);
    one.wipe(1);
    std::fs::rename(&other.places[0].dir, &one.places[1].dir).unwrap();
    let refused = |one: &mut Cluster| {
        let Err(error) = one.begin(1).finish(LIMIT) else { panic!("the member started") };
        assert!(matches!(error, StartError::WrongCluster { .. }), "{error}");
        assert!(error.to_string().contains("node-1 and node-3 belong to cluster"), "{error}");
    };
    refused(&mut one);
    // The same if the nodes of the other cluster, whose addresses the directory knows, would accept it.
    let mut other = Cluster::start_with(3, BRISK);
    eventually("the member cache is written", || other.places[1].dir.join("members").exists());
    other.kill(1);
    eventually("the directory can be removed", || std::fs::remove_dir_all(&one.places[1].dir).is_ok());
    std::fs::rename(&other.places[1].dir, &one.places[1].dir).unwrap();
    refused(&mut one);
    // The other members are not affected.
    assert!(matches!(one.at(0).submit(online(1)), Ok(Verdict::Accepted(_))));
}

/// A member's directory in another's place: swapped, or a copy of a running one. Two processes with one number
/// would be taken for each other, so the second is refused before it answers anything.
fn another_members_directory_is_refused(cluster: &mut Cluster) {
    let (first, second) = (cluster.places[1].dir.clone(), cluster.places[2].dir.clone());
    let kept = first.with_extension("kept");
    let swap = || {
        std::fs::rename(&first, &kept).unwrap();
        std::fs::rename(&second, &first).unwrap();
        std::fs::rename(&kept, &second).unwrap();
    };
    let refused = |cluster: &mut Cluster, at: usize, of: &str| {
        let Err(error) = cluster.begin(at).finish(LIMIT) else { panic!("the member started") };
        assert!(matches!(&error, StartError::WrongMember { owner, .. } if owner == of), "{error}");
    };
    eventually("the member caches are written", || {
        first.join("members").exists() && second.join("members").exists()
    });
    cluster.kill(1);
    cluster.kill(2);
    swap();
    refused(cluster, 1, "node-3");
    refused(cluster, 2, "node-2");
    swap();
    cluster.start_places(&[1, 2]);
    [1, 2].iter().for_each(|at| cluster.at(*at).wait_up());
    cluster.kill(1);
    cluster.leader();
    std::fs::rename(&first, &kept).unwrap();
    copy(&second, &first);
    refused(cluster, 1, "node-3");
    // Without a member cache, the running members tell whose directory it is.
    std::fs::remove_file(first.join("members")).unwrap();
    refused(cluster, 1, "node-3");
    eventually("the directory can be removed", || std::fs::remove_dir_all(&first).is_ok());
    std::fs::rename(&kept, &first).unwrap();
    cluster.restart(1);
    assert_eq!(cluster.at(1).replica.node(), NodeId(2));
    assert_eq!(cluster.at(2).replica.node(), NodeId(3), "the copied member is affected");
}

fn first_founder_that_lost_its_disk_rejoins() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let id = cluster.at(1).replica.cluster();
    cluster.kill(0);
    cluster.wipe(0);
    cluster.restart(0);
    assert_eq!(cluster.at(0).replica.cluster(), id, "it has founded another cluster");
    eventually("three vote again", || {
        let tables = cluster.agree();
        tables.members().count() == 3 && cluster.at(1).replica.status().voters.len() == 3
    });
}
