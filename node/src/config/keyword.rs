//! Settings whose value is one of a few keywords.

pub use limes_routing::pick::HashBy;

use super::setting::Leaf;
use super::value_error::ValueError;

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
        parse(&HashBy::KEYWORDS, if text.is_empty() { "edgeid" } else { text })
    }

    fn to_yaml(&self) -> String {
        keyword(&HashBy::KEYWORDS, *self).into()
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
