//! Reads settings from a YAML file.

use serde_norway::{Mapping, Value};

use super::error::Findings;
use super::setting::{Leaf, Settings, Visitor, scalar};

/// What to do with keys that are not defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKeys {
    /// Record a problem for each.
    Reject,
    /// List them as without effect: the reference ignores them.
    Ignore,
}

/// Reads one block; records every problem and goes on.
struct Reader<'a> {
    path: String,
    block: Option<&'a Mapping>,
    known: Vec<&'static str>,
    unknown: UnknownKeys,
    findings: &'a mut Findings,
}

/// Sets `settings` to what the file says; keys that it lacks keep their value.
pub(super) fn read<S: Settings>(
    value: &Value,
    settings: &mut S,
    unknown: UnknownKeys,
    findings: &mut Findings,
) {
    block(value, String::new(), settings, unknown, findings);
}

fn block<S: Settings>(
    value: &Value,
    path: String,
    settings: &mut S,
    unknown: UnknownKeys,
    findings: &mut Findings,
) {
    let block = match value {
        Value::Mapping(block) => Some(block),
        // A key whose block consists of comments only.
        Value::Null => None,
        _ => return findings.problem(&path, "is one value; expected a block of settings"),
    };
    let mut reader = Reader { path, block, known: Vec::new(), unknown, findings };
    settings.visit(&mut reader);
    reader.report_unknown();
}

impl<'a> Reader<'a> {
    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.block.and_then(|block| block.get(key))
    }

    fn report_unknown(self) {
        for key in self.block.into_iter().flat_map(Mapping::keys) {
            let key = scalar(key).unwrap_or_else(|_| "?".into());
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let path = self.path(&key);
            match self.unknown {
                UnknownKeys::Ignore => self.findings.ignored.push(format!("{path} (unknown key)")),
                UnknownKeys::Reject => {
                    let text = format!("unknown key; known here: {}", self.known.join(", "));
                    self.findings.problem(&path, text);
                }
            }
        }
    }
}

impl Visitor for Reader<'_> {
    fn leaf<T: Leaf>(&mut self, key: &'static str, _: &'static str, slot: &mut T) {
        match self.take(key).map(T::from_yaml) {
            Some(Ok(value)) => *slot = value,
            Some(Err(error)) => self.findings.problem(&self.path(key), error.to_string()),
            None => {}
        }
    }

    fn section<S: Settings>(&mut self, key: &'static str, _: &'static str, slot: &mut S) {
        if let Some(value) = self.take(key) {
            block(value, self.path(key), slot, self.unknown, self.findings);
        }
    }

    fn ignored(&mut self, key: &'static str, why: &'static str) {
        if self.take(key).is_some() {
            let path = self.path(key);
            self.findings.ignored.push(format!("{path} ({why})"));
        }
    }

    fn unsupported(&mut self, key: &'static str, what: &'static str) {
        if self.take(key).is_some_and(enabled) {
            let text = format!("{what} is not yet supported in this version; leave it out or disable it");
            self.findings.problem(&self.path(key), text);
        }
    }
}

/// Whether a value enables something: `true`, a block with `enable: true`, or a block without `enable` that
/// contains such a block. As in the reference, everything below a block with `enable: false` is off.
fn enabled(value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::Mapping(block) => match block.get("enable") {
            Some(enable) => enable.as_bool() == Some(true),
            None => block.values().any(|value| value.is_mapping() && enabled(value)),
        },
        _ => false,
    }
}
