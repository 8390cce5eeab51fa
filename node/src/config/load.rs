//! Turns a file and the environment into settings, or into every problem in them.

use std::path::Path;

use serde_norway::Value;

use super::check::check;
use super::error::{ConfigError, Findings};
use super::node::{ControlPlane, NodeConfig};
use super::read::UnknownKeys;
use super::{env, lenient, print, read, reference};

/// Settings, and what the operator should know about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: NodeConfig,
    /// What was accepted without effect, a line each; to be shown once.
    pub warnings: Vec<String>,
}

impl NodeConfig {
    /// Reads a limes.yaml, or a frontier.yaml as it is, and overrides it with the environment.
    ///
    /// # Errors
    /// Every problem in it, at once.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::whole(&name, format!("cannot be read: {error}")))?;
        let mut loaded = Self::from_yaml(&name, &text, std::env::vars())?;
        loaded.config.anchor(file.parent().unwrap_or(Path::new("")));
        Ok(loaded)
    }

    /// The embedded defaults, overridden with the environment.
    ///
    /// # Errors
    /// Every problem in the environment, at once.
    pub fn embedded() -> Result<Loaded, ConfigError> {
        Self::from_yaml("environment", "", std::env::vars())
    }

    /// Settings from the text of a file and given variables.
    ///
    /// # Errors
    /// Every problem in it, at once.
    pub fn from_yaml(
        name: &str,
        text: &str,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut value: Value = serde_norway::from_str(text)
            .map_err(|error| ConfigError::whole(name, format!("is not valid YAML: {error}")))?;
        let mut findings = Findings::default();
        let vars: Vec<_> = vars.into_iter().collect();
        let of_reference = reference::is_reference_file(&value);
        let mut config = if of_reference { reference::defaults() } else { NodeConfig::default() };
        let default_name = config.cluster.name.clone();
        if of_reference {
            lenient::normalize(&mut value, &mut findings);
            read::read(&value, &mut config, UnknownKeys::Ignore, &mut findings);
            reference::apply(&value, &vars, &mut config, &mut findings);
        } else {
            read::read(&value, &mut config, UnknownKeys::Reject, &mut findings);
            reference::warn_of_unused_variables(&vars, &mut findings);
        }
        env::read(vars.into_iter(), &mut config, &mut findings);
        config.translate(&default_name);
        if of_reference {
            reference::restrict_open_control_plane(&mut config, &mut findings);
        }
        findings.warn_of_ignored();
        check(&config, &mut findings);
        if findings.problems.is_empty() {
            Ok(Loaded { config, warnings: findings.warnings })
        } else {
            Err(ConfigError { source_name: name.to_owned(), problems: findings.problems })
        }
    }

    /// A file with every setting, its default and its meaning.
    pub fn default_file() -> String {
        let head = "# limes.yaml: every setting with its default. An environment variable overrides the file:\n\
                    # cluster.name is LIMES_CLUSTER_NAME. Durations: 300ms, 20s, 5m, 1h. Sizes: 64KiB, 16MiB.\n\n";
        format!("{head}{}", print::all(&mut NodeConfig::default()))
    }

    /// A file with the settings that differ from the defaults.
    pub fn to_file(&self) -> String {
        self.to_file_beyond(&NodeConfig::default())
    }

    /// A file with the settings that differ from `base`.
    pub(crate) fn to_file_beyond(&self, base: &NodeConfig) -> String {
        print::changed(&mut self.clone(), &mut base.clone())
    }

    /// Moves the values of the reference's keys to the keys that replace them.
    fn translate(&mut self, default_name: &str) {
        if let Some(addr) = self.observability.addr.take() {
            self.metrics.listen.addr = addr;
        }
        self.control_plane = ControlPlane::default();
        let id = self.daemon.frontier_id.take().filter(|_| self.cluster.name == default_name);
        self.cluster.name = id.unwrap_or_else(|| std::mem::take(&mut self.cluster.name));
    }

    /// Resolves the file's relative paths against its folder, so that a node may be started from any folder.
    fn anchor(&mut self, folder: &Path) {
        self.data = folder.join(&self.data);
        self.edgebound.listen.tls.anchor(folder);
        self.edgebound.bypass.tls.anchor(folder);
        self.servicebound.listen.tls.anchor(folder);
        self.daemon.pid_file = self.daemon.pid_file.take().map(|path| folder.join(path));
    }
}
