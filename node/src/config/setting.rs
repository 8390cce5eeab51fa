//! How settings describe themselves: one visit names every key, and reading a file, reading the
//! environment and printing are visitors.

use serde_norway::Value;

use super::value_error::ValueError;

/// A block of settings. Its `visit` is the only place where its keys, texts and fields meet.
pub(super) trait Settings {
    /// Shows every key to the visitor, in the order of the printed file.
    fn visit<V: Visitor>(&mut self, visitor: &mut V);
}

/// What is done with each setting.
pub(super) trait Visitor {
    /// A setting: its key, what it means, and the field that holds its value.
    fn leaf<T: Leaf>(&mut self, key: &'static str, about: &'static str, slot: &mut T);
    /// A block of settings below a key.
    fn section<S: Settings>(&mut self, key: &'static str, about: &'static str, slot: &mut S);
    /// A key of the reference that has no effect here: accepted with a warning.
    fn ignored(&mut self, key: &'static str, why: &'static str);
    /// A key of the reference that this version does not support: accepted unless it enables something.
    fn unsupported(&mut self, key: &'static str, what: &'static str);
}

/// The value of one setting.
pub(super) trait Leaf: Sized {
    /// Reads it from text, as in an environment variable.
    ///
    /// # Errors
    /// The text is not a value of this type.
    fn from_text(text: &str) -> Result<Self, ValueError>;

    /// Reads it from the file. Scalars go through their text, so both ways agree.
    ///
    /// # Errors
    /// The node is not a value of this type.
    fn from_yaml(value: &Value) -> Result<Self, ValueError> {
        Self::from_text(&scalar(value)?)
    }

    /// Writes it as one line of YAML.
    fn to_yaml(&self) -> String;
}

/// The text of a YAML scalar.
///
/// # Errors
/// The node is not a scalar.
pub(super) fn scalar(value: &Value) -> Result<String, ValueError> {
    let kind = |found| Err(ValueError::Kind { found, wanted: "expected one value" });
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(ValueError::Missing),
        Value::Sequence(_) => kind("is a list"),
        Value::Mapping(_) => kind("is a block"),
        Value::Tagged(_) => kind("has a YAML tag"),
    }
}

/// Text as a YAML scalar, quoted where YAML would read it as something else.
pub(super) fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c))
        && !text.ends_with(':')
        && matches!(serde_norway::from_str(text), Ok(Value::String(_)));
    if plain { text.to_owned() } else { format!("{text:?}") }
}

/// The entries of a list in an environment variable, which are separated by commas.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

impl Leaf for String {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(text.to_owned())
    }

    fn to_yaml(&self) -> String {
        quoted(self)
    }
}

impl Leaf for bool {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(ValueError::syntax(other, "true or false")),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

impl Leaf for usize {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text.replace('_', "").parse() {
            Ok(0) => Err(ValueError::NotPositive { text: text.to_owned() }),
            Ok(number) => Ok(number),
            Err(_) => Err(ValueError::syntax(text, "a whole number")),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

/// An empty text is `None`.
impl<T: Leaf> Leaf for Option<T> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn to_yaml(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".into(), T::to_yaml)
    }
}
