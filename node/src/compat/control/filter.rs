//! What the filters of both kinds of rows share.

/// A row's time in seconds of Unix time, from milliseconds.
pub(super) fn seconds(at_ms: u64) -> i64 {
    i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX)
}

/// A text filter, if it is set; an empty one is not.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Whether `text` contains `part`, without regard to the case of ASCII letters.
pub(super) fn contains(text: &str, part: &str) -> bool {
    text.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}
