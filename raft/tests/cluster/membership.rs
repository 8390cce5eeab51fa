//! Changes of the membership: new members, members that lost their disk, promotions, removals, recovery.

use std::time::Duration;

use crate::support::{BRISK, Cluster, LIMIT, concurrently, damage_log, eventually, online, tests};
use futures::FutureExt;
use limes_raft::{AdminError, PeerAddr, Replica, StartError};
use limes_routing::{EdgeId, Event, NodeId, Verdict};

/// Tests that mostly wait.
#[test]
fn changes_of_the_membership() {
    concurrently(tests! {
        new_member_is_a_learner_and_can_be_promoted
        recovered_member_becomes_a_new_cluster
        name_in_use_at_another_address_is_refused
    });
}

fn new_member_is_a_learner_and_can_be_promoted() {
    let mut cluster = Cluster::start_with(1, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let (second, third) = (cluster.add_place(), cluster.add_place());
    cluster.restart(second);
    cluster.restart(third);
    assert!(cluster.at(second).replica.node().0 > 1, "the number is not the index of the admission");
    assert!(cluster.agree().edge(EdgeId(1)).is_some());
    let verdict = cluster.at(second).submit(online(2)).unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "a learner does not commit: {verdict:?}");
    assert_eq!(cluster.at(0).replica.status().voters, [NodeId(1)]);
    let name = cluster.places[second].name.clone();
    // The request goes to a node that does not lead.
    eventually("the learner has caught up and is promoted", || {
        let name = name.clone();
        ask(&cluster, third, |replica| async move { replica.promote(&name).await }).is_ok()
    });
    // The caller of the second promotion goes away at once. The change must not stop half-way, where the old
    // voters must still agree.
    let leader = cluster.leader();
    let name = cluster.places[third].name.clone();
    eventually("the second learner is promoted", || {
        let (replica, name) = (cluster.at(leader).replica.clone(), name.clone());
        cluster.at(leader).run(async move {
            let _ = replica.promote(&name).now_or_never();
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        cluster.agree().members().all(|member| member.voter)
    });
    assert_eq!(cluster.at(0).replica.status().voters.len(), 3);
    eventually("the member cache of the founder is written", || votes_by_file(&cluster, 0, third));
    cluster.kill(0);
    eventually("the promoted members commit alone", || {
        matches!(cluster.at(second).submit(online(3)), Ok(Verdict::Accepted(_)))
    });
    // By its own list the founder is alone. The message must name the other voters, not a new beginning.
    damage_log(&cluster.places[0].dir);
    let Err(error) = cluster.begin(0).finish(LIMIT) else { panic!("the member started") };
    assert!(matches!(error, StartError::Damaged(..)), "{error}");
    assert!(error.to_string().contains("other voters by now (node-2, node-3)"), "{error}");
    for at in [second, third] {
        let place = &cluster.places[at];
        cluster.initial.push(PeerAddr { name: place.name.clone(), addr: place.addr.to_string() });
    }
    cluster.restart(0);
    assert!(cluster.at(0).replica.node().0 > 1, "the founder uses its old number");
    assert!(cluster.agree().edge(EdgeId(3)).is_some());
}

/// Whether a member's cache says that another member votes.
fn votes_by_file(cluster: &Cluster, at: usize, other: usize) -> bool {
    let cache = std::fs::read(cluster.places[at].dir.join("members")).unwrap_or_default();
    let mesh = cluster.places[other].mesh.as_bytes();
    let start = cache.windows(mesh.len()).position(|bytes| bytes == mesh);
    start.is_some_and(|start| cache.get(start + mesh.len()) == Some(&1))
}

#[test]
fn member_that_lost_its_disk_gets_a_new_number() {
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
    // Its vote counts: with another member down it is half of the quorum.
    let other = (0..3).find(|at| *at != wiped && *at != leader).unwrap();
    cluster.kill(other);
    let verdict = cluster.at(wiped).submit(online(2));
    assert!(matches!(verdict, Ok(Verdict::Accepted(_))), "{verdict:?}");
    cluster.restart(other);
    cluster.agree();
}

/// Two of three members are lost for good. An operator recovers the third, and three members vote again.
fn recovered_member_becomes_a_new_cluster() {
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
    // The directory is a symbolic link, and stays one.
    let disk = config.dir.with_extension("disk");
    std::fs::rename(&config.dir, &disk).unwrap();
    std::os::unix::fs::symlink(&disk, &config.dir).unwrap();
    let recovered = runtime.block_on(limes_raft::recover(&config)).unwrap();
    assert!(recovered.kept.join("log").is_dir(), "the old directory is not kept");
    assert!(config.dir.is_symlink() && disk.join("identity").exists());
    let old = cluster.places[lost[0]].dir.with_extension("old");
    eventually("the directory can be moved", || std::fs::rename(&cluster.places[lost[0]].dir, &old).is_ok());
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
    // A directory of the old cluster turns up later.
    cluster.kill(lost[0]);
    cluster.wipe(lost[0]);
    std::fs::rename(&old, &cluster.places[lost[0]].dir).unwrap();
    let Err(error) = cluster.begin(lost[0]).finish(LIMIT) else { panic!("the member started") };
    assert!(matches!(error, StartError::WrongCluster { .. }), "{error}");
}

#[test]
fn empty_directory_is_not_recovered() {
    let cluster = Cluster::places(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(limes_raft::recover(&cluster.config(0))).unwrap_err();
    assert!(error.to_string().contains("holds no member's data"), "{error}");
    assert!(!cluster.places[0].dir.exists(), "a directory was made");
}

fn name_in_use_at_another_address_is_refused() {
    let mut cluster = Cluster::start(3);
    let at = cluster.add_place();
    cluster.places[at].name = "node-2".to_owned();
    let starting = cluster.begin(at);
    assert!(starting.is_waiting(Duration::from_millis(1_500)), "node-2 is up elsewhere");
    starting.kill();
    assert_eq!(cluster.agree().members().count(), 3);
}

#[test]
fn removed_member_is_gone_with_its_rows() {
    let mut cluster = Cluster::start_with(3, BRISK);
    let leader = cluster.leader();
    let gone = cluster.follower();
    let number = cluster.at(gone).replica.node();
    cluster.at(gone).submit(online(5)).unwrap();
    let leader_name = cluster.places[leader].name.clone();
    let refused = ask(&cluster, gone, |replica| async move { replica.remove(&leader_name).await });
    assert!(refused.is_err(), "the leader was removed");
    let name = cluster.places[gone].name.clone();
    ask(&cluster, leader, |replica| async move { replica.remove(&name).await }).unwrap();
    cluster.kill(gone);
    let Err(error) = cluster.begin(gone).finish(LIMIT) else { panic!("the removed member started") };
    assert!(matches!(error, StartError::Removed(..)), "{error}");
    let tables = cluster.agree();
    assert!(tables.edge(EdgeId(5)).is_none());
    assert!(tables.members().all(|member| member.node != number));
    eventually("the member is gone from raft too", || {
        let status = cluster.at(leader).replica.status();
        status.voters.len() == 2 && status.learners.is_empty()
    });
    // Two voters are left: removing one of them would lose the quorum.
    let other = cluster.follower();
    cluster.kill(other);
    let other_name = cluster.places[other].name.clone();
    let refused = ask(&cluster, leader, |replica| async move { replica.remove(&other_name).await });
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn leadership_is_transferred_to_the_named_voter() {
    let cluster = Cluster::start(3);
    for at in [2, 0, 1] {
        let name = cluster.places[at].name.clone();
        let from = cluster.follower();
        // An attempt fails if a disk stalls, and the error says: ask again.
        eventually("the leadership is transferred", || {
            let name = name.clone();
            ask(&cluster, from, |replica| async move { replica.transfer_leader(Some(&name)).await }).is_ok()
        });
        eventually("the voter leads", || cluster.at(at).replica.is_leader());
    }
    let unknown = ask(&cluster, 0, |replica| async move { replica.transfer_leader(Some("node-8")).await });
    assert!(unknown.unwrap_err().to_string().contains("node-8"));
}

fn ask<F>(cluster: &Cluster, at: usize, ask: impl FnOnce(Replica) -> F) -> Result<(), AdminError>
where
    F: Future<Output = Result<(), AdminError>> + Send + 'static,
{
    let replica = cluster.at(at).replica.clone();
    cluster.at(at).run(ask(replica))
}
