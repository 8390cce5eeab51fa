//! The report on a lost quorum: which voters are missing, and what the operator can do.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::survey::{survey, unlisted_peers};
use crate::config::Config;
use crate::consensus::member::Member;
use crate::consensus::read_barrier::read_index;
use crate::network::PeerInfo;
use crate::storage::member_cache::{CachedMember, MemberCache};

/// The shortest interval between two reports.
const INTERVAL: Duration = Duration::from_secs(5);

/// A voter, and what is known of the node of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voter {
    pub(crate) name: String,
    pub(crate) state: VoterState,
}

/// What is known of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoterState {
    /// The node runs with its data.
    Up,
    /// The node runs without the data that it had.
    WithoutData,
    /// The node does not answer.
    Silent,
}

/// The voters of a cluster, by the answers of a survey. `known` gives the state of a member where that is known
/// without an answer.
pub(crate) fn voters(
    cache: &MemberCache,
    answers: &[(String, PeerInfo)],
    known: impl Fn(&CachedMember) -> Option<VoterState>,
) -> Vec<Voter> {
    let answered = |member: &CachedMember| {
        let mut answers = answers.iter().filter(|(name, _)| *name == member.name).map(|(_, info)| info);
        match answers.next() {
            Some(first) if first.is_member(member.node) => VoterState::Up,
            Some(_) if answers.any(|info| info.is_member(member.node)) => VoterState::Up,
            Some(_) => VoterState::WithoutData,
            None => VoterState::Silent,
        }
    };
    let voters = cache.members.iter().filter(|member| member.voter);
    let voter = |member: &CachedMember| Voter {
        name: member.name.clone(),
        state: known(member).unwrap_or_else(|| answered(member)),
    };
    voters.map(voter).collect()
}

/// Reports the missing voters while there is no quorum, to the log and to
/// [`quorum_loss`](Member::quorum_loss). Ends when the member leaves.
pub(crate) async fn run(member: Arc<Member>, config: Config) {
    let pause = INTERVAL.max(member.timing.no_quorum_after() * 2);
    while member.leaving.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let cache = member.state.read(MemberCache::of);
        let mut report = None;
        // A known leader is no proof of a quorum: a leader without a quorum stays in office for long, and
        // so does the view of its followers.
        if cache.made && read_index(&member).await.is_none() {
            report = describe(&survey_voters(&config, &member, &cache).await);
        }
        if let Some(report) = &report {
            error!("{report}");
        }
        member.quorum_loss.send_replace(report);
    }
}

/// The voters, as a running member finds them: at the addresses of the configuration and of the tables.
async fn survey_voters(config: &Config, member: &Member, cache: &MemberCache) -> Vec<Voter> {
    let unlisted = unlisted_peers(config, cache);
    let mut answers = survey(config, &member.clients, &config.initial, None).await.answers;
    answers.extend(survey(config, &member.clients, &unlisted, None).await.answers);
    voters(cache, &answers, |voter| (voter.node == member.identity.node).then_some(VoterState::Up))
}

/// Describes voters that are no quorum; `None` if they are one.
pub(crate) fn describe(voters: &[Voter]) -> Option<String> {
    let of = |state| voters.iter().filter(move |voter| voter.state == state).map(|voter| voter.name.as_str());
    let up = of(VoterState::Up).count();
    let lost = of(VoterState::WithoutData).count();
    let silent = of(VoterState::Silent).count();
    let needed = voters.len() / 2 + 1;
    if voters.is_empty() || up >= needed {
        return None;
    }
    let list = |state| of(state).collect::<Vec<_>>().join(", ");
    let total = voters.len();
    let mut text =
        format!("no quorum: {needed} of {total} voters are needed, and {up} are up with their data");
    if up > 0 {
        text += &format!(" ({})", list(VoterState::Up));
    }
    if silent > 0 {
        text += &format!("; silent: {}", list(VoterState::Silent));
    }
    if lost > 0 {
        text += &format!("; without the data that they had: {}", list(VoterState::WithoutData));
    }
    text += &if up + silent >= needed {
        "; start the silent voters".to_owned()
    } else {
        let back = needed - up - silent;
        format!(
            "; starting the silent voters is not enough: stop {back} of those without data, put back the data \
             directory that each had when it last ran, and start them; if those directories are lost for good: \
             stop all nodes, run `limes recover` on the one with the newest data, start it, and then start the \
             others with empty directories"
        )
    };
    Some(text)
}

/// What helps a node whose data cannot be trusted and whose `cluster.initial` names no other node, by the
/// members that it knows. `cluster.initial` lists the founders: the cluster may have grown since.
pub(crate) fn help_alone(name: &str, members: &[CachedMember]) -> String {
    let names = |voter: bool| {
        let others = members.iter().filter(|member| member.voter == voter && member.name != name);
        let mut names: Vec<&str> = others.map(|member| member.name.as_str()).collect();
        names.dedup();
        names.join(", ")
    };
    match (names(true), names(false)) {
        (voters, _) if !voters.is_empty() => format!(
            "its cluster has other voters by now ({voters}): name them in cluster.initial and start the node again, \
             and it joins as a new member"
        ),
        (_, learners) if !learners.is_empty() => format!(
            "no other node votes, so none can admit it again: put back an intact copy of its newest data directory; \
             if there is none: stop all nodes, run `limes recover` on one of {learners}, start that one, name it in \
             cluster.initial here, and start this node with an empty directory"
        ),
        _ => "this is the only node of its cluster, so no other node has its data: put back an intact copy of its \
              newest data directory, or move the directory away to start over"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, voter: bool) -> CachedMember {
        let (name, mesh) = (format!("node-{node}"), String::new());
        CachedMember { node, name, mesh, voter, boot: None }
    }

    #[test]
    fn only_node_is_advised_to_restore_or_start_over() {
        let help = |members: &[CachedMember]| help_alone("node-1", members);
        assert!(help(&[]).contains("the only node"));
        assert!(help(&[member(1, true)]).contains("start over"));
    }

    #[test]
    fn founder_of_a_grown_cluster_is_advised_to_name_the_other_voters() {
        let members = [member(1, true), member(2, true), member(3, true), member(4, false)];
        let help = help_alone("node-1", &members);
        assert!(help.contains("(node-2, node-3)") && !help.contains("start over"), "{help}");
    }

    #[test]
    fn only_voter_is_advised_to_recover_from_a_learner() {
        let help = help_alone("node-1", &[member(1, true), member(4, false)]);
        assert!(help.contains("recover` on one of node-4") && !help.contains("start over"), "{help}");
    }

    fn voters(states: &[VoterState]) -> Vec<Voter> {
        let named = |(state, at): (&VoterState, usize)| Voter { name: format!("node-{at}"), state: *state };
        states.iter().zip(1..).map(named).collect()
    }

    #[test]
    fn quorum_needs_no_report() {
        use VoterState::{Up, WithoutData};
        assert_eq!(describe(&voters(&[Up, Up, WithoutData])), None);
    }

    #[test]
    fn report_names_the_silent_voters() {
        use VoterState::{Silent, Up, WithoutData};
        let report = describe(&voters(&[Up, Silent, WithoutData])).unwrap_or_default();
        assert!(report.contains("silent: node-2") && report.ends_with("start the silent voters"), "{report}");
    }

    #[test]
    fn report_names_the_voters_whose_data_must_come_back() {
        use VoterState::{Up, WithoutData};
        let report = describe(&voters(&[WithoutData, Up, WithoutData])).unwrap_or_default();
        assert!(report.contains("without the data that they had: node-1, node-3"), "{report}");
        assert!(report.contains("stop 1 of those") && report.contains("limes recover"), "{report}");
    }
}
