//! From a file and the environment to settings, or to every mistake in them.

use std::path::Path;

use serde_norway::Value;

use super::check::check;
use super::mistake::{ConfigError, Findings, Mistake};
use super::node::{ControlPlane, NodeConfig};
use super::read::Strangers;
use super::{env, lax, print, read, reference};

/// Settings, and what the operator should know about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: NodeConfig,
    /// Things taken but without effect, a line each; to be said once.
    pub warnings: Vec<String>,
}

impl NodeConfig {
    /// Reads a limes.yaml, or a frontier.yaml as it is, and puts the environment over it.
    ///
    /// # Errors
    /// Every mistake in it, at once.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| whole(&name, format!("cannot be read: {error}")))?;
        let mut loaded = Self::from_yaml(&name, &text, std::env::vars())?;
        loaded.config.anchor(file.parent().unwrap_or(Path::new("")));
        Ok(loaded)
    }

    /// The embedded defaults under the environment.
    ///
    /// # Errors
    /// Every mistake in the environment, at once.
    pub fn embedded() -> Result<Loaded, ConfigError> {
        Self::from_yaml("environment", "", std::env::vars())
    }

    /// Settings from the text of a file and given variables.
    ///
    /// # Errors
    /// Every mistake in it, at once.
    pub fn from_yaml(
        name: &str,
        text: &str,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut value: Value =
            serde_norway::from_str(text).map_err(|error| whole(name, format!("no YAML: {error}")))?;
        let mut findings = Findings::default();
        let vars: Vec<_> = vars.into_iter().collect();
        let theirs = reference::wrote(&value);
        let mut config = if theirs { reference::defaults() } else { NodeConfig::default() };
        let unnamed = config.cluster.name.clone();
        if theirs {
            lax::tidy(&mut value, &mut findings);
            read::read(&value, &mut config, Strangers::Name, &mut findings);
            reference::adopt(&value, &vars, &mut config, &mut findings);
        } else {
            read::read(&value, &mut config, Strangers::Refuse, &mut findings);
            reference::miss(&vars, &mut findings);
        }
        env::read(vars.into_iter(), &mut config, &mut findings);
        config.translate(&unnamed);
        if theirs {
            reference::guard(&mut config, &mut findings);
        }
        findings.name_ignored();
        check(&config, &mut findings);
        if findings.mistakes.is_empty() {
            Ok(Loaded { config, warnings: findings.warnings })
        } else {
            Err(ConfigError { source_name: name.to_owned(), mistakes: findings.mistakes })
        }
    }

    /// A file with every setting, its default and what it means.
    pub fn default_file() -> String {
        let head = "# limes.yaml: every setting with its default. A variable goes over the file:\n\
                    # cluster.name is LIMES_CLUSTER_NAME. Durations: 300ms, 20s, 5m, 1h. Sizes: 64KiB, 16MiB.\n\n";
        format!("{head}{}", print::all(&mut NodeConfig::default()))
    }

    /// A file with the settings that are not the default.
    pub fn to_file(&self) -> String {
        self.to_file_beyond(&NodeConfig::default())
    }

    /// A file with the settings that are not as in `base`.
    pub(crate) fn to_file_beyond(&self, base: &NodeConfig) -> String {
        print::changed(&mut self.clone(), &mut base.clone())
    }

    /// The reference's words become ours.
    fn translate(&mut self, unnamed: &str) {
        if let Some(addr) = self.observability.addr.take() {
            self.metrics.listen.addr = addr;
        }
        self.control_plane = ControlPlane::default();
        let id = self.daemon.frontier_id.take().filter(|_| self.cluster.name == unnamed);
        self.cluster.name = id.unwrap_or_else(|| std::mem::take(&mut self.cluster.name));
    }

    /// Paths of a file are relative to its folder, so that a node starts the same from anywhere.
    fn anchor(&mut self, folder: &Path) {
        self.data = folder.join(&self.data);
        self.edgebound.listen.tls.anchor(folder);
        self.edgebound.bypass.tls.anchor(folder);
        self.servicebound.listen.tls.anchor(folder);
        self.daemon.pid_file = self.daemon.pid_file.take().map(|path| folder.join(path));
    }
}

fn whole(name: &str, text: String) -> ConfigError {
    let mistake = Mistake { path: String::new(), text };
    ConfigError { source_name: name.to_owned(), mistakes: vec![mistake] }
}
