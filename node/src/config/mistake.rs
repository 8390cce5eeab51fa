//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key path, as `edgebound.listen.addr`, or the environment variable; empty: the whole file.
    pub path: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// Every mistake of a configuration: one line if there is one, else a line for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where the settings came from, as a person calls it.
    pub source_name: String,
    /// What is wrong; never empty.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.as_slice() {
            [one] => write!(f, "{}: {one}", self.source_name),
            many => {
                write!(f, "{}: {} mistakes", self.source_name, many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What refuses the configuration.
    pub(super) mistakes: Vec<Mistake>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
    /// What means nothing here, each with the reason.
    pub(super) ignored: Vec<String>,
}

impl Findings {
    /// Notes a mistake.
    pub(super) fn mistake(&mut self, path: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.to_owned(), text: text.into() });
    }

    /// One warning for all that means nothing here.
    pub(super) fn name_ignored(&mut self) {
        if !self.ignored.is_empty() {
            let all = std::mem::take(&mut self.ignored).join(", ");
            self.warnings.insert(0, format!("without meaning here: {all}"));
        }
    }
}
