//! Whether a directory is still what its member left, by what the others know of it.
//!
//! An old copy of a directory has forgotten votes and entries: it must not vote again (R9). The
//! others know more than it does: a later life of the member, or entries that it has acknowledged. A
//! member that was removed, or replaced under its name, has no place at all.

use bytes::Bytes;

use crate::storage::identity::Identity;

/// What another member says of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// Who says it.
    pub(crate) from: String,
    /// Whether its cluster is made; before that nobody knows anything.
    pub(crate) made: bool,
    /// How far it has read the log.
    pub(crate) revision: u64,
    /// Whether this member belongs to the cluster.
    pub(crate) belongs: bool,
    /// The newest life that it knows of; empty: none.
    pub(crate) boot: Bytes,
    /// The newest number under this member's name, 0 for none.
    pub(crate) named: u64,
    /// The index up to which this member has acknowledged the log, if a leader says it, plus one.
    pub(crate) acknowledged: u64,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Sound,
    /// The directory is older than what the member has done since.
    Outdated(String),
    /// The member was removed for good.
    Removed(String),
}

/// Judges by one member's word; `last` is the index of the newest entry in the own log, plus one.
pub(crate) fn judge(me: &Identity, last: u64, word: &Word) -> Standing {
    let from = &word.from;
    // Who has not read as far as the own number's birth cannot know it.
    if !word.made || word.revision < me.node {
        return Standing::Sound;
    }
    if !word.belongs {
        let node = me.node;
        return match word.named {
            0 => Standing::Removed(format!("{from} says that member {node} was removed from the cluster")),
            number => {
                Standing::Outdated(format!("{from} says that member {number} has replaced member {node}"))
            }
        };
    }
    if let Ok(boot) = <[u8; 16]>::try_from(word.boot.as_ref())
        && !me.has_lived(boot)
    {
        return Standing::Outdated(format!(
            "{from} knows a later life of this member than its directory does"
        ));
    }
    if word.acknowledged > last {
        let (first, newest) = (last, word.acknowledged - 1);
        return Standing::Outdated(format!(
            "entries {first} to {newest} of its log are missing, which it has acknowledged to {from}"
        ));
    }
    Standing::Sound
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity { cluster: [7; 16], node: 57, log: 99, lives: 3, salt: 5 };

    fn word() -> Word {
        let boot = Bytes::copy_from_slice(&ME.boot());
        Word {
            from: "node-1".into(),
            made: true,
            revision: 100,
            belongs: true,
            boot,
            named: 57,
            acknowledged: 80,
        }
    }

    fn life(log: u64, lives: u32) -> Bytes {
        Bytes::copy_from_slice(&Identity { log, lives, ..ME }.boot())
    }

    #[test]
    fn what_others_know_decides() {
        assert_eq!(judge(&ME, 80, &word()), Standing::Sound);
        // A peer that lags knows an earlier life, or none.
        assert_eq!(judge(&ME, 80, &Word { boot: life(99, 1), ..word() }), Standing::Sound);
        assert_eq!(judge(&ME, 80, &Word { boot: Bytes::new(), ..word() }), Standing::Sound);
        let outdated = |word: Word, last: u64| matches!(judge(&ME, last, &word), Standing::Outdated(_));
        assert!(outdated(Word { boot: life(99, 4), ..word() }, 80), "a later life");
        let again = Identity { salt: 6, ..ME }.boot();
        assert!(outdated(Word { boot: Bytes::copy_from_slice(&again), ..word() }, 80), "another third life");
        assert!(outdated(Word { boot: life(98, 1), ..word() }, 80), "a life of another directory");
        assert!(outdated(word(), 79), "an entry that it has acknowledged is missing");
        let gone = Word { belongs: false, boot: Bytes::new(), ..word() };
        assert!(outdated(Word { named: 90, ..gone.clone() }, 80), "replaced");
        assert!(matches!(judge(&ME, 80, &Word { named: 0, ..gone.clone() }), Standing::Removed(_)));
        // Who has not read so far does not know.
        assert_eq!(judge(&ME, 80, &Word { named: 0, revision: 56, ..gone.clone() }), Standing::Sound);
        assert_eq!(judge(&ME, 80, &Word { named: 0, made: false, ..gone }), Standing::Sound);
    }
}
