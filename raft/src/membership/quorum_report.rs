//! A lost quorum in words.

use crate::storage::member_cache::Acquaintance;

/// A voter, and what is known of the node of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voter {
    pub(crate) name: String,
    pub(crate) state: State,
}

/// What is known of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs with its data.
    Here,
    /// Its node runs, but without the data it had.
    WithoutData,
    /// It does not answer.
    Silent,
}

/// What is to be said of voters that cannot agree; nothing if they can.
pub(crate) fn words(voters: &[Voter]) -> Option<String> {
    let of = |state| voters.iter().filter(move |voter| voter.state == state).map(|voter| voter.name.as_str());
    let (here, lost, silent) =
        (of(State::Here).count(), of(State::WithoutData).count(), of(State::Silent).count());
    let needed = voters.len() / 2 + 1;
    if voters.is_empty() || here >= needed {
        return None;
    }
    let list = |state| of(state).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "no quorum: {needed} of {} voters are needed, and {here} are here with their data",
        voters.len()
    );
    if here > 0 {
        text += &format!(" ({})", list(State::Here));
    }
    if silent > 0 {
        text += &format!("; silent: {}", list(State::Silent));
    }
    if lost > 0 {
        text += &format!("; without the data that they had: {}", list(State::WithoutData));
    }
    text += &if here + silent >= needed {
        "; start those that are silent".to_owned()
    } else {
        let back = needed - here - silent;
        format!(
            "; starting the silent ones is not enough: stop {back} of those without, put the data directory back that each \
             had when it last ran, and start them; if that is lost for good: stop all, run `limes recover` on the one with \
             the newest data, start it, and then the others with empty directories"
        )
    };
    Some(text)
}

/// What helps a node whose data cannot be trusted and whose `cluster.initial` names nobody but itself, by what it
/// knows of the members. The list is that of the founders: the cluster may have grown since.
pub(crate) fn help_alone(name: &str, members: &[Acquaintance]) -> String {
    let names = |voter: bool| {
        let others = members.iter().filter(|member| member.voter == voter && member.name != name);
        let mut names: Vec<&str> = others.map(|member| member.name.as_str()).collect();
        names.dedup();
        names.join(", ")
    };
    match (names(true), names(false)) {
        (voters, _) if !voters.is_empty() => format!(
            "its cluster has other voters by now ({voters}): name them in cluster.initial and start it again, and it joins \
             as a new member"
        ),
        (_, learners) if !learners.is_empty() => format!(
            "no other node votes, so nobody can let it in again: put a sound copy of the newest directory there; if that \
             is lost for good: stop all, run `limes recover` on one of {learners}, start that, name it in cluster.initial \
             here, and start this one with an empty directory"
        ),
        _ => "this is the only node of its cluster, so nobody can give it back: put a sound copy of the newest directory \
              there, or move it away to begin anew"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_founders_may_be_older_than_the_cluster() {
        let member = |node: u64, voter| {
            let (name, mesh) = (format!("node-{node}"), String::new());
            Acquaintance { node, name, mesh, voter, boot: bytes::Bytes::new() }
        };
        let help = |members: &[Acquaintance]| help_alone("node-1", members);
        assert!(help(&[]).contains("the only node") && help(&[member(1, true)]).contains("begin anew"));
        let grown = help(&[member(1, true), member(2, true), member(3, true), member(4, false)]);
        assert!(grown.contains("(node-2, node-3)") && !grown.contains("begin anew"), "{grown}");
        let learners = help(&[member(1, true), member(4, false)]);
        assert!(learners.contains("recover` on one of node-4") && !learners.contains("anew"), "{learners}");
    }

    fn voters(states: &[State]) -> Vec<Voter> {
        let named = |(state, at): (&State, usize)| Voter { name: format!("node-{at}"), state: *state };
        states.iter().zip(1..).map(named).collect()
    }

    #[test]
    fn it_says_who_is_missing_and_what_helps() {
        use State::{Here, Silent, WithoutData};
        assert_eq!(words(&voters(&[Here, Here, WithoutData])), None);
        let silent = words(&voters(&[Here, Silent, WithoutData])).unwrap_or_default();
        assert!(
            silent.contains("silent: node-2") && silent.ends_with("start those that are silent"),
            "{silent}"
        );
        let lost = words(&voters(&[WithoutData, Here, WithoutData])).unwrap_or_default();
        assert!(lost.contains("without the data that they had: node-1, node-3"), "{lost}");
        assert!(lost.contains("stop 1 of those") && lost.contains("limes recover"), "{lost}");
    }
}
