//! The staleness check: whether a data directory is still what its member left, by what other members know.
//!
//! An old copy of a directory lacks votes and entries: its member must not vote again (R9). Other members can
//! tell, because they know a later boot of the member, or entries that it has acknowledged. A member that was
//! removed, or replaced under its name, must not come back either.

use limes_routing::NodeId;

use crate::storage::identity::Identity;

/// What another member knows of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Testimony {
    /// The name of the other member.
    pub(super) from: String,
    /// Whether the cluster is made; before that, no member knows anything.
    pub(super) made: bool,
    /// How far the other member has read the log.
    pub(super) revision: u64,
    /// Whether this member belongs to the cluster.
    pub(super) belongs: bool,
    /// The newest boot of this member.
    pub(super) boot: Option<[u8; 16]>,
    /// The newest number under this member's name.
    pub(super) newest_number: Option<NodeId>,
    /// The index up to which this member has acknowledged the log; only a leader knows it.
    pub(super) acknowledged: Option<u64>,
}

/// What follows for the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No evidence against it.
    Valid,
    /// The directory is older than what the member has done since.
    Stale(String),
    /// The member was removed for good.
    Removed(String),
}

/// Judges a directory by the testimony of one member. `next_index` is the index behind the newest entry of the
/// directory.
pub(super) fn judge(me: &Identity, next_index: u64, testimony: &Testimony) -> Verdict {
    let from = &testimony.from;
    // A member that has not read the log up to this number's creation cannot know the number.
    if !testimony.made || testimony.revision < me.node {
        return Verdict::Valid;
    }
    if !testimony.belongs {
        let node = me.node;
        return match testimony.newest_number {
            None => Verdict::Removed(format!("by {from}, member {node} was removed from the cluster")),
            Some(number) => Verdict::Stale(format!("by {from}, member {number} has replaced member {node}")),
        };
    }
    if testimony.boot.is_some_and(|boot| !me.includes(boot)) {
        return Verdict::Stale(format!("{from} knows a later boot of this member than its directory does"));
    }
    if let Some(acknowledged) = testimony.acknowledged.filter(|index| *index >= next_index) {
        return Verdict::Stale(format!(
            "entries {next_index} to {acknowledged} are missing from its log, which it has acknowledged to {from}"
        ));
    }
    Verdict::Valid
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity { cluster: [7; 16], node: 57, log: 99, boots: 3, salt: 5 };

    fn testimony() -> Testimony {
        Testimony {
            from: "node-1".into(),
            made: true,
            revision: 100,
            belongs: true,
            boot: Some(ME.nonce()),
            newest_number: Some(NodeId(57)),
            acknowledged: Some(79),
        }
    }

    fn removed() -> Testimony {
        Testimony { belongs: false, boot: None, newest_number: None, ..testimony() }
    }

    fn boot(log: u64, boots: u32) -> Option<[u8; 16]> {
        Some(Identity { log, boots, ..ME }.nonce())
    }

    fn is_stale(testimony: &Testimony, next_index: u64) -> bool {
        matches!(judge(&ME, next_index, testimony), Verdict::Stale(_))
    }

    #[test]
    fn directory_as_it_was_left_is_valid() {
        assert_eq!(judge(&ME, 80, &testimony()), Verdict::Valid);
    }

    #[test]
    fn lagging_peer_knows_an_earlier_boot_or_none() {
        assert_eq!(judge(&ME, 80, &Testimony { boot: boot(99, 1), ..testimony() }), Verdict::Valid);
        assert_eq!(judge(&ME, 80, &Testimony { boot: None, ..testimony() }), Verdict::Valid);
    }

    #[test]
    fn later_boot_makes_the_directory_stale() {
        assert!(is_stale(&Testimony { boot: boot(99, 4), ..testimony() }, 80));
    }

    #[test]
    fn same_boot_of_another_copy_makes_the_directory_stale() {
        let copy = Some(Identity { salt: 6, ..ME }.nonce());
        assert!(is_stale(&Testimony { boot: copy, ..testimony() }, 80));
    }

    #[test]
    fn boot_of_another_log_makes_the_directory_stale() {
        assert!(is_stale(&Testimony { boot: boot(98, 1), ..testimony() }, 80));
    }

    #[test]
    fn missing_acknowledged_entry_makes_the_directory_stale() {
        assert!(is_stale(&testimony(), 79));
    }

    #[test]
    fn replaced_member_is_stale() {
        assert!(is_stale(&Testimony { newest_number: Some(NodeId(90)), ..removed() }, 80));
    }

    #[test]
    fn member_without_a_successor_was_removed() {
        assert!(matches!(judge(&ME, 80, &removed()), Verdict::Removed(_)));
    }

    #[test]
    fn peer_that_has_not_read_so_far_knows_nothing() {
        assert_eq!(judge(&ME, 80, &Testimony { revision: 56, ..removed() }), Verdict::Valid);
        assert_eq!(judge(&ME, 80, &Testimony { made: false, ..removed() }), Verdict::Valid);
    }
}
