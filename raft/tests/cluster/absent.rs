//! A quorum that is lost with its disks. What it takes is mostly waiting, longer than anything else here: by its name
//! it comes first, and the others run beside it.

use std::time::Duration;

use crate::support::{BRISK, Cluster, LIMIT, eventually, online};

/// Two of three directories are gone: nobody can agree, and it is said why. One of them comes back.
#[test]
fn two_lost_disks_are_a_lost_quorum_until_one_is_back() {
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
    eventually("it says what is missing, and what to do", || {
        replica.trouble().is_some_and(|words| {
            words.contains("2 of 3 voters are needed, and 1 are here with their data")
                && words.contains(&format!("without the data that they had: {}", names.join(", ")))
                && words.contains("put the data directory back")
        })
    });
    assert!(starting.iter().all(|one| one.is_waiting(Duration::from_millis(1))), "nobody may let them in");
    let mut starting = starting.into_iter();
    starting.next().unwrap().kill();
    eventually("it can be removed", || {
        let _ = std::fs::remove_dir_all(&cluster.places[lost[0]].dir);
        std::fs::rename(&kept, &cluster.places[lost[0]].dir).is_ok()
    });
    cluster.restart(lost[0]);
    // The third is let in now, in the place of its old number; no number is left over.
    cluster.places[lost[1]].running = Some(starting.next().unwrap().finish(LIMIT).unwrap());
    eventually("three vote again", || {
        let tables = cluster.agree();
        tables.members().count() == 3 && tables.members().all(|member| member.voter)
    });
    assert!(cluster.at(lost[0]).replica.node().0 <= 3, "what came back goes on");
    eventually("it is said no more", || replica.trouble().is_none());
}
