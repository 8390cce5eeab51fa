//! Settings whose value is one of a few keywords.

use super::setting::Leaf;
use super::value_error::ValueError;

/// How a service is selected for a call or message of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashBy {
    /// The edge's id, modulo the number of services.
    EdgeId,
    /// The edge's address, modulo the number of services.
    SrcIp,
    /// At random.
    Random,
    /// Rendezvous hashing of the edge's id: few edges move when a service comes or goes.
    Rendezvous,
}

/// The lowest severity that is logged.
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
    /// Its keyword.
    pub fn as_str(self) -> &'static str {
        keyword(&LEVELS, self)
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

fn keyword<T: Copy + PartialEq>(keywords: &[(&'static str, T)], value: T) -> &'static str {
    keywords.iter().find(|(_, known)| *known == value).map_or("", |(keyword, _)| keyword)
}

fn parse<T: Copy>(keywords: &[(&'static str, T)], text: &str) -> Result<T, ValueError> {
    let found = keywords.iter().find(|(keyword, _)| *keyword == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<_> = keywords.iter().map(|(keyword, _)| *keyword).collect();
        ValueError::Keyword { text: text.to_owned(), known: known.join(", ") }
    })
}

impl Leaf for HashBy {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        // In files of the reference "" means the default.
        parse(&HASHES, if text.is_empty() { "edgeid" } else { text })
    }

    fn to_yaml(&self) -> String {
        keyword(&HASHES, *self).into()
    }
}

impl Leaf for Level {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        parse(&LEVELS, text)
    }

    fn to_yaml(&self) -> String {
        self.as_str().into()
    }
}
