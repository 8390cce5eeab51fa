//! Settings from a YAML file.

use serde_norway::{Mapping, Value};

use super::mistake::Findings;
use super::setting::{Leaf, Settings, Visitor};

/// What is done about keys that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strangers {
    /// They are mistakes.
    Refuse,
    /// They mean nothing: the reference takes no notice of them.
    Name,
}

/// Reads one block; notes every mistake and goes on.
struct Reader<'a> {
    path: String,
    block: Option<&'a Mapping>,
    known: Vec<&'static str>,
    strangers: Strangers,
    findings: &'a mut Findings,
}

/// Puts what the file says into `settings`.
pub(super) fn read<S: Settings>(
    value: &Value,
    settings: &mut S,
    strangers: Strangers,
    findings: &mut Findings,
) {
    block(value, String::new(), settings, strangers, findings);
}

fn block<S: Settings>(
    value: &Value,
    path: String,
    settings: &mut S,
    strangers: Strangers,
    findings: &mut Findings,
) {
    let block = match value {
        Value::Mapping(block) => Some(block),
        // A block whose every line is a comment.
        Value::Null => None,
        _ => return findings.mistake(&path, "is one value; a block of settings is wanted"),
    };
    let mut reader = Reader { path, block, known: Vec::new(), strangers, findings };
    settings.visit(&mut reader);
    reader.heed_strangers();
}

impl<'a> Reader<'a> {
    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.block.and_then(|block| block.get(key))
    }

    fn heed_strangers(self) {
        for key in self.block.into_iter().flat_map(Mapping::keys) {
            let key = super::setting::scalar(key).unwrap_or_else(|_| "?".into());
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let path = self.path(&key);
            match self.strangers {
                Strangers::Name => self.findings.ignored.push(format!("{path} (nobody knows this key)")),
                Strangers::Refuse => {
                    let text = format!("unknown key; known here: {}", self.known.join(", "));
                    self.findings.mistake(&path, text);
                }
            }
        }
    }
}

impl Visitor for Reader<'_> {
    fn leaf<T: Leaf>(&mut self, key: &'static str, _: &'static str, slot: &mut T) {
        match self.take(key).map(T::from_yaml) {
            Some(Ok(value)) => *slot = value,
            Some(Err(text)) => self.findings.mistake(&self.path(key), text),
            None => {}
        }
    }

    fn section<S: Settings>(&mut self, key: &'static str, _: &'static str, slot: &mut S) {
        if let Some(value) = self.take(key) {
            block(value, self.path(key), slot, self.strangers, self.findings);
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
            self.findings.mistake(&self.path(key), text);
        }
    }
}

/// Whether a value is `true`, or a block that says `enable: true`; or, if it says neither, one with such a
/// block in it. As in the reference, what is below a block that is off is off.
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
