//! Who belongs to a cluster: founders, newcomers, members that lost their disk, promotions, removals.

use std::time::Duration;

use crate::support::{BRISK, Cluster, LIMIT, at_once, copy, damage_log, eventually, online, tests};
use futures::FutureExt;
use limes_raft::{ChangeError, PeerAddr, Replica, StartError};
use limes_routing::{EdgeId, Event, NodeId, Verdict};

/// What mostly waits.
#[test]
fn who_belongs() {
    at_once(tests! {
        a_cluster_is_founded_only_when_every_founder_answers
        founders_killed_while_founding_go_on_later
        a_founder_may_lose_its_disk_in_between
        a_newcomer_learns_and_may_be_promoted
        what_is_left_becomes_a_new_cluster
        the_first_founder_may_lose_its_disk_too
        a_name_in_use_elsewhere_is_not_given_away
    });
}

fn a_cluster_is_founded_only_when_every_founder_answers() {
    let mut cluster = Cluster::places(3);
    cluster.timing = BRISK;
    let first = cluster.begin(0);
    let second = cluster.begin(1);
    assert!(first.is_waiting(Duration::from_millis(1_200)), "it must wait for the third");
    assert!(second.is_waiting(Duration::from_millis(1)), "it must wait for the third");
    cluster.start_places(&[2]);
    cluster.places[0].running = Some(first.finish(LIMIT).unwrap());
    cluster.places[1].running = Some(second.finish(LIMIT).unwrap());
    cluster.places.iter().for_each(|place| place.running().wait_up());
    cluster.agree();
}

fn founders_killed_while_founding_go_on_later() {
    founders_are_killed(2..4);
}

fn a_founder_may_lose_its_disk_in_between() {
    founders_are_killed(0..2);
}

fn founders_are_killed(rounds: std::ops::Range<u64>) {
    for round in rounds {
        let mut cluster = Cluster::places(3);
        cluster.timing = BRISK;
        let starting: Vec<_> = (0..3).map(|at| cluster.begin(at)).collect();
        std::thread::sleep(Duration::from_millis(40 + round * 40));
        starting.into_iter().for_each(crate::support::Starting::kill);
        // In some rounds a founder loses its disk in between, and another is late.
        let wiped = usize::try_from(round).ok().filter(|round| *round < 2);
        if let Some(at) = wiped {
            eventually("it can be removed", || {
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
        let numbers =
            |(at, running): (usize, &crate::support::Running)| running.replica.node().0 == at as u64 + 1;
        assert!(wiped.is_some() || cluster.running().all(numbers), "none was let in as a stranger");
    }
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let mut one = Cluster::start(1);
    let other = Cluster::start(1);
    // A newcomer whose list names nodes of two clusters cannot know where it belongs.
    let (first, second) = (one.initial[0].clone(), other.initial[0].clone());
    let at = one.add_place();
    one.initial = vec![first, PeerAddr { name: "node-9".to_owned(), addr: "127.0.0.1:1".to_owned() }, second];
    one.initial[2].name = "node-1".to_owned();
    let Err(error) = one.begin(at).finish(LIMIT) else { panic!("it must not start") };
    assert!(matches!(error, StartError::OtherCluster(..)), "{error}");
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut one = Cluster::start_with(3, BRISK);
    another_members_directory_is_refused(&mut one);
    let mut other = Cluster::start(1);
    other.kill(0);
    one.kill(1);
    one.wipe(1);
    std::fs::rename(&other.places[0].dir, &one.places[1].dir).unwrap();
    let refused = |one: &mut Cluster| {
        let Err(error) = one.begin(1).finish(LIMIT) else { panic!("it must not start") };
        assert!(matches!(error, StartError::Elsewhere { .. }), "{error}");
        assert!(error.to_string().contains("node-1 and node-3 are of cluster"), "{error}");
    };
    refused(&mut one);
    // Nor if the nodes of the other cluster, which the directory knows, would take it in.
    let mut other = Cluster::start_with(3, BRISK);
    eventually("it knows where they are", || other.places[1].dir.join("members").exists());
    other.kill(1);
    eventually("it can be removed", || std::fs::remove_dir_all(&one.places[1].dir).is_ok());
    std::fs::rename(&other.places[1].dir, &one.places[1].dir).unwrap();
    refused(&mut one);
    // The others were never in doubt.
    assert!(matches!(one.at(0).submit(online(1)), Ok(Verdict::Accepted(_))));
}

/// A member's directory in another's place: swapped, or a copy of one that runs. Two processes of one number would
/// each be taken for the other, so it is refused before it has said anything.
fn another_members_directory_is_refused(cluster: &mut Cluster) {
    let (first, second) = (cluster.places[1].dir.clone(), cluster.places[2].dir.clone());
    let kept = first.with_extension("kept");
    let swap = || {
        std::fs::rename(&first, &kept).unwrap();
        std::fs::rename(&second, &first).unwrap();
        std::fs::rename(&kept, &second).unwrap();
    };
    let refused = |cluster: &mut Cluster, at: usize, of: &str| {
        let Err(error) = cluster.begin(at).finish(LIMIT) else { panic!("it must not start") };
        assert!(matches!(&error, StartError::OfAnother { owner, .. } if owner == of), "{error}");
    };
    eventually("they know each other", || first.join("members").exists() && second.join("members").exists());
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
    // Those that run say whose it is, if it does not know itself.
    std::fs::remove_file(first.join("members")).unwrap();
    refused(cluster, 1, "node-3");
    eventually("it can be removed", || std::fs::remove_dir_all(&first).is_ok());
    std::fs::rename(&kept, &first).unwrap();
    cluster.restart(1);
    assert_eq!(cluster.at(1).replica.node(), NodeId(2));
    assert_eq!(cluster.at(2).replica.node(), NodeId(3), "the one that was copied goes on");
}

fn a_newcomer_learns_and_may_be_promoted() {
    let mut cluster = Cluster::start_with(1, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let (second, third) = (cluster.add_place(), cluster.add_place());
    cluster.restart(second);
    cluster.restart(third);
    assert!(cluster.at(second).replica.node().0 > 1, "its number is the index of its joining");
    assert!(cluster.agree().edge(EdgeId(1)).is_some());
    let verdict = cluster.at(second).submit(online(2)).unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "a learner serves as well: {verdict:?}");
    assert_eq!(cluster.at(0).replica.status().voters, [NodeId(1)]);
    let name = cluster.places[second].name.clone();
    // Asked of a node that does not lead.
    eventually("it has caught up and is promoted", || {
        let name = name.clone();
        ask(&cluster, third, |replica| async move { replica.promote(&name).await }).is_ok()
    });
    // Whoever asks for the other goes away at once: it must not end half way, where the old voters still count.
    let leader = cluster.leader();
    let name = cluster.places[third].name.clone();
    eventually("the other is promoted", || {
        let (replica, name) = (cluster.at(leader).replica.clone(), name.clone());
        cluster.at(leader).run(async move {
            let _ = replica.promote(&name).now_or_never();
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        cluster.agree().members().all(|member| member.voter)
    });
    assert_eq!(cluster.at(0).replica.status().voters.len(), 3);
    eventually("the founder has written it down", || votes_by_file(&cluster, 0, third));
    cluster.kill(0);
    eventually("the promoted go on alone", || {
        matches!(cluster.at(second).submit(online(3)), Ok(Verdict::Accepted(_)))
    });
    // By its own list the founder is alone. It is not, and it is not told to begin anew.
    damage_log(&cluster.places[0].dir);
    let Err(error) = cluster.begin(0).finish(LIMIT) else { panic!("it must not start") };
    assert!(matches!(error, StartError::Damaged(..)), "{error}");
    assert!(error.to_string().contains("other voters by now (node-2, node-3)"), "{error}");
    for at in [second, third] {
        let place = &cluster.places[at];
        cluster.initial.push(PeerAddr { name: place.name.clone(), addr: place.addr.to_string() });
    }
    cluster.restart(0);
    assert!(cluster.at(0).replica.node().0 > 1, "it has joined as a new member");
    assert!(cluster.agree().edge(EdgeId(3)).is_some());
}

/// Whether a member has written down that another votes.
fn votes_by_file(cluster: &Cluster, at: usize, other: usize) -> bool {
    let known = std::fs::read(cluster.places[at].dir.join("members")).unwrap_or_default();
    let mesh = cluster.places[other].mesh.as_bytes();
    let place = known.windows(mesh.len()).position(|bytes| bytes == mesh);
    place.is_some_and(|place| known.get(place + mesh.len()) == Some(&1))
}

#[test]
fn a_member_that_lost_its_disk_comes_back_under_a_new_number() {
    let mut cluster = Cluster::start_with(3, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let wiped = cluster.follower();
    let old = cluster.at(wiped).replica.node();
    cluster.kill(wiped);
    cluster.wipe(wiped);
    cluster.restart(wiped);
    let new = cluster.at(wiped).replica.node();
    assert!(new.0 > 3, "{new}");
    let leader = cluster.leader();
    eventually("the new number votes in place of the old", || {
        let status = cluster.at(leader).replica.status();
        status.voters.contains(&new) && !status.voters.contains(&old) && status.learners.is_empty()
    });
    eventually("the old number is gone from the tables", || {
        let tables = cluster.agree();
        tables.members().all(|member| member.node != old) && tables.members().all(|member| member.voter)
    });
    // It counts: with another one dead it is half of the quorum.
    let other = (0..3).find(|at| *at != wiped && *at != leader).unwrap();
    cluster.kill(other);
    let verdict = cluster.at(wiped).submit(online(2));
    assert!(matches!(verdict, Ok(Verdict::Accepted(_))), "{verdict:?}");
    cluster.restart(other);
    cluster.agree();
}

/// Two of three are lost for good: a person says so, the third goes on with all it has, and three vote again.
fn what_is_left_becomes_a_new_cluster() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let id = cluster.at(0).replica.cluster();
    let setting = |value: &str| Event::SettingChanged { key: "colour".into(), value: value.into() };
    cluster.at(0).plain(setting("green")).unwrap();
    let stays = cluster.follower();
    let lost: Vec<usize> = (0..3).filter(|at| *at != stays).collect();
    cluster.agree();
    (0..3).for_each(|at| cluster.kill(at));
    let config = cluster.config(stays);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let other = limes_raft::Config { name: "node-9".to_owned(), ..config.clone() };
    let error = runtime.block_on(limes_raft::recover(&other)).unwrap_err().to_string();
    assert!(error.contains(&format!("the data of {}, not of node-9", config.name)), "{error}");
    // The data lies elsewhere, and stays there.
    let disk = config.dir.with_extension("disk");
    std::fs::rename(&config.dir, &disk).unwrap();
    std::os::unix::fs::symlink(&disk, &config.dir).unwrap();
    let recovered = runtime.block_on(limes_raft::recover(&config)).unwrap();
    assert!(recovered.aside.join("log").is_dir(), "what was there is kept");
    assert!(config.dir.is_symlink() && disk.join("identity").exists());
    let old = cluster.places[lost[0]].dir.with_extension("old");
    eventually("it can be moved", || std::fs::rename(&cluster.places[lost[0]].dir, &old).is_ok());
    cluster.wipe(lost[1]);
    cluster.restart(stays);
    assert_eq!(limes_raft::hex(&cluster.at(stays).replica.cluster()), recovered.cluster);
    assert_ne!(cluster.at(stays).replica.cluster(), id);
    cluster.at(stays).submit(online(7)).unwrap();
    lost.iter().for_each(|at| cluster.restart(*at));
    eventually("three vote again", || {
        let tables = cluster.agree();
        cluster.at(stays).replica.status().voters.len() == 3
            && tables.members().count() == 3
            && tables.members().all(|member| member.voter)
    });
    let tables = cluster.agree();
    assert_eq!(tables.settings().find(|(key, _)| *key == "colour").map(|(_, value)| value), Some("green"));
    // What turns up later is of another cluster.
    cluster.kill(lost[0]);
    cluster.wipe(lost[0]);
    std::fs::rename(&old, &cluster.places[lost[0]].dir).unwrap();
    let Err(error) = cluster.begin(lost[0]).finish(LIMIT) else { panic!("it must not start") };
    assert!(matches!(error, StartError::Elsewhere { .. }), "{error}");
}

#[test]
fn nothing_is_recovered_out_of_nothing() {
    let cluster = Cluster::places(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(limes_raft::recover(&cluster.config(0))).unwrap_err();
    assert!(error.to_string().contains("holds no member's data"), "{error}");
    assert!(!cluster.places[0].dir.exists(), "nothing was made");
}

fn the_first_founder_may_lose_its_disk_too() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let id = cluster.at(1).replica.cluster();
    cluster.kill(0);
    cluster.wipe(0);
    cluster.restart(0);
    assert_eq!(cluster.at(0).replica.cluster(), id, "it must not found another cluster");
    eventually("three vote again", || {
        let tables = cluster.agree();
        tables.members().count() == 3 && cluster.at(1).replica.status().voters.len() == 3
    });
}

fn a_name_in_use_elsewhere_is_not_given_away() {
    let mut cluster = Cluster::start(3);
    let at = cluster.add_place();
    cluster.places[at].name = "node-2".to_owned();
    let starting = cluster.begin(at);
    assert!(starting.is_waiting(Duration::from_millis(1_500)), "node-2 is up elsewhere");
    starting.kill();
    assert_eq!(cluster.agree().members().count(), 3);
}

#[test]
fn a_removed_member_is_gone_with_its_rows() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let leader = cluster.leader();
    let gone = cluster.follower();
    let number = cluster.at(gone).replica.node();
    cluster.at(gone).submit(online(5)).unwrap();
    let leader_name = cluster.places[leader].name.clone();
    let refused = ask(&cluster, gone, |replica| async move { replica.remove(&leader_name).await });
    assert!(refused.is_err(), "the leader is not removed");
    let name = cluster.places[gone].name.clone();
    ask(&cluster, leader, |replica| async move { replica.remove(&name).await }).unwrap();
    cluster.kill(gone);
    let Err(error) = cluster.begin(gone).finish(LIMIT) else { panic!("it was removed") };
    assert!(matches!(error, StartError::Removed(..)), "{error}");
    let tables = cluster.agree();
    assert!(tables.edge(EdgeId(5)).is_none());
    assert!(tables.members().all(|member| member.node != number));
    eventually("it is gone from raft too", || {
        let status = cluster.at(leader).replica.status();
        status.voters.len() == 2 && status.learners.is_empty()
    });
    // Two are left; losing one of them would be the end.
    let other = cluster.follower();
    cluster.kill(other);
    let other_name = cluster.places[other].name.clone();
    let refused = ask(&cluster, leader, |replica| async move { replica.remove(&other_name).await });
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn the_leadership_goes_where_it_is_sent() {
    let cluster = Cluster::start(3);
    for at in [2, 0, 1] {
        let name = cluster.places[at].name.clone();
        let from = cluster.follower();
        // A disk that stands still makes an attempt fail, and the answer says: ask again.
        eventually("the leadership is handed over", || {
            let name = name.clone();
            ask(&cluster, from, |replica| async move { replica.transfer_leader(&name).await }).is_ok()
        });
        eventually("it leads", || cluster.at(at).replica.is_leader());
    }
    let nobody = ask(&cluster, 0, |replica| async move { replica.transfer_leader("node-8").await });
    assert!(nobody.unwrap_err().to_string().contains("node-8"));
}

fn ask<F>(cluster: &Cluster, at: usize, ask: impl FnOnce(Replica) -> F) -> Result<(), ChangeError>
where
    F: Future<Output = Result<(), ChangeError>> + Send + 'static,
{
    let replica = cluster.at(at).replica.clone();
    cluster.at(at).run(ask(replica))
}
