//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key path, as `edgebound.listen.addr`, or the environment variable; empty: the whole file.
    pub path: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// Every problem of a configuration: displayed as one line if there is one, else as a headline and a
/// line for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where the settings came from: a file's path, or `environment`.
    pub source_name: String,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// The source as a whole cannot be used.
    pub(super) fn whole(source_name: &str, text: String) -> Self {
        let problem = Problem { path: String::new(), text };
        ConfigError { source_name: source_name.to_owned(), problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "{}: {one}", self.source_name),
            many => {
                write!(f, "{}: {} problems", self.source_name, many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Reasons to refuse the configuration.
    pub(super) problems: Vec<Problem>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
    /// Keys and variables without effect, each with the reason.
    pub(super) ignored: Vec<String>,
}

impl Findings {
    /// Records a problem.
    pub(super) fn problem(&mut self, path: &str, text: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), text: text.into() });
    }

    /// Turns everything without effect into one warning, which comes first.
    pub(super) fn warn_of_ignored(&mut self) {
        if !self.ignored.is_empty() {
            let all = std::mem::take(&mut self.ignored).join(", ");
            self.warnings.insert(0, format!("without effect here: {all}"));
        }
    }
}
