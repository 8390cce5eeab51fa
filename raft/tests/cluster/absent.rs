//! A quorum that is lost with its disks. This test waits longest; by its name it starts first, and the other tests
//! run at the same time.

use std::time::Duration;

use crate::support::{BRISK, Cluster, LIMIT, eventually, online};

/// Two of three data directories are lost: there is no quorum, and the report says why. Then one is put back.
#[test]
fn quorum_lost_with_two_disks_returns_with_one_of_them() {
    let mut cluster = Cluster::start_with(3, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let stays = cluster.leader();
    let lost: Vec<usize> = (0..3).filter(|at| *at != stays).collect();
    let names: Vec<String> = lost.iter().map(|at| cluster.places[*at].name.clone()).collect();
    let kept = cluster.places[lost[0]].dir.with_extension("kept");
    lost.iter().for_each(|at| cluster.kill(*at));
    std::fs::rename(&cluster.places[lost[0]].dir, &kept).unwrap();
    cluster.wipe(lost[1]);
    let starting: Vec<_> = lost.iter().map(|at| cluster.begin(*at)).collect();
    let replica = cluster.at(stays).replica.clone();
    eventually("the report names the missing voters and the remedy", || {
        replica.quorum_loss().is_some_and(|report| {
            report.contains("2 of 3 voters are needed, and 1 are up with their data")
                && report.contains(&format!("without the data that they had: {}", names.join(", ")))
                && report.contains("put back the data directory")
        })
    });
    assert!(
        starting.iter().all(|one| one.is_waiting(Duration::from_millis(1))),
        "a node was admitted without a quorum"
    );
    let mut starting = starting.into_iter();
    starting.next().unwrap().kill();
    eventually("the new directory can be removed", || {
        let _ = std::fs::remove_dir_all(&cluster.places[lost[0]].dir);
        std::fs::rename(&kept, &cluster.places[lost[0]].dir).is_ok()
    });
    cluster.restart(lost[0]);
    // The third is admitted now, in place of its old number; no number is left over.
    cluster.places[lost[1]].running = Some(starting.next().unwrap().finish(LIMIT).unwrap());
    eventually("three vote again", || {
        let tables = cluster.agree();
        tables.members().count() == 3 && tables.members().all(|member| member.voter)
    });
    assert!(cluster.at(lost[0]).replica.node().0 <= 3, "the restored member has a new number");
    eventually("the report ends", || replica.quorum_loss().is_none());
}
