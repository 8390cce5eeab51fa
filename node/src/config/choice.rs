//! Settings that are one of a few words.

use super::setting::Leaf;

/// By what a service is chosen for a call or message of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashBy {
    /// The edge's id, modulo the number of services.
    EdgeId,
    /// The edge's address, modulo the number of services.
    SrcIp,
    /// Chance.
    Random,
    /// The edge's id, such that few edges move when a service comes or goes.
    Rendezvous,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What failed.
    Error,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        word(&LEVELS, self)
    }
}

const HASHES: [(&str, HashBy); 4] = [
    ("edgeid", HashBy::EdgeId),
    ("srcip", HashBy::SrcIp),
    ("random", HashBy::Random),
    ("rendezvous", HashBy::Rendezvous),
];

const LEVELS: [(&str, Level); 4] =
    [("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn choose<T: Copy>(words: &[(&'static str, T)], text: &str) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is none of {}", known.join(", "))
    })
}

impl Leaf for HashBy {
    fn from_text(text: &str) -> Result<Self, String> {
        // The reference's files say nothing by "".
        choose(&HASHES, if text.is_empty() { "edgeid" } else { text })
    }

    fn to_yaml(&self) -> String {
        word(&HASHES, *self).into()
    }
}

impl Leaf for Level {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(&LEVELS, text)
    }

    fn to_yaml(&self) -> String {
        self.as_str().into()
    }
}
