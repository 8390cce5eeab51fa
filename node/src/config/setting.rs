//! How settings describe themselves: one visit names every key, and reading, environment,
//! printing and checking are visitors.

use serde_norway::Value;

/// A block of settings. Its `visit` is the only place where its keys, texts and slots meet.
pub(super) trait Settings {
    /// Shows every key to the visitor, in the order of the printed file.
    fn visit<V: Visitor>(&mut self, visitor: &mut V);
}

/// What is done with each setting.
pub(super) trait Visitor {
    /// A setting: its key, what it means, and where its value lives.
    fn leaf<T: Leaf>(&mut self, key: &'static str, about: &'static str, slot: &mut T);
    /// A block of settings below a key.
    fn section<S: Settings>(&mut self, key: &'static str, about: &'static str, slot: &mut S);
    /// A key of the reference that means nothing here: taken, with a warning.
    fn ignored(&mut self, key: &'static str, why: &'static str);
    /// A key of the reference that this version cannot serve: taken unless something is enabled.
    fn unsupported(&mut self, key: &'static str, what: &'static str);
}

/// The value of one setting.
pub(super) trait Leaf: Sized {
    /// Reads it from text, as in an environment variable.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Reads it from the file. Scalars go through their text, so both ways agree.
    fn from_yaml(value: &Value) -> Result<Self, String> {
        Self::from_text(&scalar(value)?)
    }

    /// Writes it as one line of YAML.
    fn to_yaml(&self) -> String;
}

/// The text of a YAML scalar.
pub(super) fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("has no value; leave the key out to get the default".into()),
        Value::Sequence(_) => Err("is a list; one value is wanted".into()),
        Value::Mapping(_) => Err("is a block; one value is wanted".into()),
        Value::Tagged(_) => Err("has a YAML tag; a plain value is wanted".into()),
    }
}

/// Text as a YAML scalar, quoted where it would be read as something else.
pub(super) fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c))
        && !text.ends_with(':')
        && matches!(serde_norway::from_str(text), Ok(Value::String(_)));
    if plain { text.to_owned() } else { format!("{text:?}") }
}

impl Leaf for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_yaml(&self) -> String {
        quoted(self)
    }
}

impl Leaf for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for usize {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.replace('_', "").parse() {
            Ok(0) => Err("must be at least 1".into()),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("{text:?} is not a whole number")),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

/// An empty text is "not given".
impl<T: Leaf> Leaf for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn to_yaml(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".into(), T::to_yaml)
    }
}
