//! Why a text or a YAML node is not a value of a setting's type.

/// Why a value cannot be read. It displays as the end of a line that begins with the key's path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// The key has no value.
    #[error("has no value; leave the key out to get the default")]
    Missing,
    /// The YAML node is of another kind.
    #[error("{found}; {wanted}")]
    Kind {
        /// What it is, as `is a list`.
        found: &'static str,
        /// What to write instead.
        wanted: &'static str,
    },
    /// The text is empty.
    #[error("is empty; expected {wanted}")]
    Empty {
        /// What the text should be.
        wanted: &'static str,
    },
    /// The text does not have the form of the type.
    #[error("{text:?} is not {wanted}")]
    Syntax {
        /// The text.
        text: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The text is not one of the keywords.
    #[error("{text:?} is none of {known}")]
    Keyword {
        /// The text.
        text: String,
        /// The keywords, separated by commas.
        known: String,
    },
    /// The text is neither of the type nor one of its additional keywords.
    #[error("{source}; or write {keywords}")]
    Alternative {
        /// Why it is not of the type.
        source: Box<ValueError>,
        /// The keywords.
        keywords: &'static str,
    },
    /// A duration or size without a unit.
    #[error("{text:?} has no unit; write it like {example}")]
    NoUnit {
        /// The text.
        text: String,
        /// Two values with units.
        example: &'static str,
    },
    /// A duration, size or count of zero.
    #[error("{text:?} must be greater than zero")]
    NotPositive {
        /// The text.
        text: String,
    },
    /// An address without a port.
    #[error("{text:?} has no port; write host:port")]
    NoPort {
        /// The address.
        text: String,
    },
    /// A part of an address is malformed.
    #[error("{part:?} in {text:?} is not a {name}")]
    AddrPart {
        /// The part.
        part: String,
        /// The address.
        text: String,
        /// `port` or `host`.
        name: &'static str,
    },
    /// An IPv6 address without brackets.
    #[error("{text:?}: write an IPv6 address in brackets, [::1]:30012")]
    NoBrackets {
        /// The address.
        text: String,
    },
    /// The reference knows this value, limes does not.
    #[error("{text} is not supported; limes uses {instead}")]
    Unsupported {
        /// The value.
        text: String,
        /// What limes uses.
        instead: &'static str,
    },
    /// An entry of a list is not a block of the wanted keys.
    #[error("an entry is not {form}")]
    Entry {
        /// The form, as `{name, addr}`.
        form: &'static str,
    },
    /// An entry of a list lacks a key.
    #[error("an entry has no {key}")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// An entry of a list has a key that is not defined.
    #[error("an entry has an unknown key {key:?}; known: {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The defined keys.
        known: &'static str,
    },
    /// The value of a key of an entry cannot be read.
    #[error("{key} {source}")]
    Field {
        /// The key.
        key: &'static str,
        /// Why.
        source: Box<ValueError>,
    },
}

impl ValueError {
    /// The text does not have the form of the type.
    pub(super) fn syntax(text: &str, wanted: &'static str) -> Self {
        ValueError::Syntax { text: text.to_owned(), wanted }
    }

    /// Adds the keywords that the type takes beside its values.
    pub(super) fn or_keywords(self, keywords: &'static str) -> Self {
        ValueError::Alternative { source: Box::new(self), keywords }
    }

    /// The same, as the reason why a key of an entry cannot be read.
    pub(super) fn in_field(self, key: &'static str) -> Self {
        ValueError::Field { key, source: Box::new(self) }
    }
}
