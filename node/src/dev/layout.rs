//! The folder of a local cluster: `node-i/{limes.yaml,data/,limes.log,limes.pid}`.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::DevError;
use super::ports::{self, Ports};
use crate::config::{Addr, Cap, Member, NodeConfig};

/// Nodes of a new folder by default.
const NODES: usize = 3;
/// Ports of one node.
const PORTS: usize = 6;

/// A node's folder, and the settings in its limes.yaml.
#[derive(Debug)]
pub(super) struct NodeFolder {
    pub(super) folder: PathBuf,
    pub(super) config: NodeConfig,
}

/// All nodes of a folder.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) folders: Vec<NodeFolder>,
    /// Whether this run created it, and so may create it again with other ports.
    pub(super) fresh: bool,
}

impl Layout {
    /// Opens the layout of a folder, or creates one if there is none.
    pub(super) fn open(
        dir: &Path,
        nodes: Option<usize>,
        ports: Ports,
        adjust: &dyn Fn(&mut NodeConfig),
    ) -> Result<Self, DevError> {
        fs::create_dir_all(dir).map_err(DevError::file("cannot create", dir))?;
        let dir = dir.canonicalize().map_err(DevError::file("cannot open", dir))?;
        let folders = existing(&dir)?;
        if folders.is_empty() {
            return create(&dir, nodes.unwrap_or(NODES), ports, adjust);
        }
        match nodes {
            Some(asked) if asked != folders.len() => {
                Err(DevError::Nodes { dir, found: folders.len(), asked })
            }
            _ => Ok(Layout { folders, fresh: false }),
        }
    }

    /// Removes the folders of all nodes.
    pub(super) fn remove(&self) -> Result<(), DevError> {
        for node in &self.folders {
            fs::remove_dir_all(&node.folder).map_err(DevError::file("cannot remove", &node.folder))?;
        }
        Ok(())
    }
}

fn existing(dir: &Path) -> Result<Vec<NodeFolder>, DevError> {
    let mut folders = Vec::new();
    loop {
        let folder = dir.join(name(folders.len()));
        let file = folder.join("limes.yaml");
        if !file.exists() {
            return Ok(folders);
        }
        let text = fs::read_to_string(&file).map_err(DevError::file("cannot read", &file))?;
        // As the child reads it: its environment holds none of our variables.
        let config = NodeConfig::from_yaml(&file.display().to_string(), &text, [])?.config;
        folders.push(NodeFolder { folder, config });
    }
}

fn create(
    dir: &Path,
    nodes: usize,
    ports: Ports,
    adjust: &dyn Fn(&mut NodeConfig),
) -> Result<Layout, DevError> {
    let configs = plan(nodes, ports, adjust)?;
    let mut folders = Vec::with_capacity(nodes);
    for config in configs {
        let folder = dir.join(&config.cluster.name);
        fs::create_dir_all(&folder).map_err(DevError::file("cannot create", &folder))?;
        let file = folder.join("limes.yaml");
        let text =
            format!("# Written by limes dev, and read again by it.\n\n{}", config.to_file_beyond(&bare()));
        fs::write(&file, text).map_err(DevError::file("cannot write", &file))?;
        folders.push(NodeFolder { folder, config });
    }
    Ok(Layout { folders, fresh: true })
}

/// The settings of each node.
fn plan(nodes: usize, ports: Ports, adjust: &dyn Fn(&mut NodeConfig)) -> Result<Vec<NodeConfig>, DevError> {
    let free = match ports {
        Ports::Auto => ports::free(nodes * PORTS).map_err(DevError::Ports)?,
        Ports::Fixed => Vec::new(),
    };
    let mut configs: Vec<_> = (0..nodes).map(|i| one(i, free.get(i * PORTS..(i + 1) * PORTS))).collect();
    let founder = |config: &NodeConfig| Member {
        name: config.cluster.name.clone(),
        addr: config.cluster.listen.addr.clone(),
    };
    let initial: Vec<_> = configs.iter().take(voters(nodes)).map(founder).collect();
    for config in &mut configs {
        config.cluster.initial.clone_from(&initial);
        adjust(config);
    }
    Ok(configs)
}

/// The settings of node `i`, from 0, on given ports or on the default ones + 100*i.
fn one(i: usize, ports: Option<&[u16]>) -> NodeConfig {
    let mut config = NodeConfig::default();
    config.cluster.name = name(i);
    config.data = "data".into();
    config.daemon.pid_file = Some("limes.pid".into());
    // All peers of the cluster connect from this machine.
    config.limits.per_address = Cap::Unlimited;
    for (slot, addr) in listeners(&mut config).into_iter().enumerate() {
        let shifted = usize::from(addr.port()) + 100 * i;
        let port = ports.and_then(|ports| ports.get(slot).copied()).or(u16::try_from(shifted).ok());
        *addr = Addr::new("127.0.0.1", port.unwrap_or_default());
    }
    config
}

/// The base of the printed files: without a name and ports, so that each file states them even where they
/// are the defaults.
fn bare() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.cluster.name.clear();
    for addr in listeners(&mut config) {
        *addr = Addr::new("127.0.0.1", 0);
    }
    config
}

fn listeners(config: &mut NodeConfig) -> [&mut Addr; PORTS] {
    [
        &mut config.edgebound.listen.addr,
        &mut config.servicebound.listen.addr,
        &mut config.cluster.listen.addr,
        &mut config.metrics.listen.addr,
        &mut config.controlplane.listen.addr,
        &mut config.discovery.listen.addr,
    ]
}

fn name(i: usize) -> String {
    format!("node-{}", i + 1)
}

/// How many of so many nodes vote; the others are learners.
fn voters(nodes: usize) -> usize {
    match nodes {
        0..3 => nodes.min(1),
        3..5 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_one_three_or_five_nodes_vote() {
        let voting: Vec<_> = (1..=7).map(voters).collect();
        assert_eq!(voting, [1, 1, 3, 3, 5, 5, 5]);
    }

    #[test]
    fn fixed_ports_are_the_defaults_plus_a_hundred_per_node() {
        let configs = plan(4, Ports::Fixed, &|_| {}).unwrap();
        assert_eq!(&*configs[0].edgebound.listen.addr, "127.0.0.1:30012");
        assert_eq!(&*configs[2].edgebound.listen.addr, "127.0.0.1:30212");
        assert_eq!(&*configs[2].metrics.listen.addr, "127.0.0.1:9291");
        assert_eq!(configs[3].cluster.initial.len(), 3, "node-4 joins the three founders");
    }

    #[test]
    fn existing_folder_is_used_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let created = Layout::open(dir.path(), Some(3), Ports::Auto, &|_| {}).unwrap();
        let again = Layout::open(dir.path(), None, Ports::Fixed, &|_| {}).unwrap();
        assert!(created.fresh && !again.fresh);
        let configs =
            |layout: &Layout| layout.folders.iter().map(|node| node.config.clone()).collect::<Vec<_>>();
        assert_eq!(configs(&created), configs(&again));
        let error = Layout::open(dir.path(), Some(5), Ports::Auto, &|_| {}).unwrap_err();
        assert!(error.to_string().contains("holds 3 nodes, not 5"), "{error}");
    }

    #[test]
    fn data_folder_is_relative_to_the_settings_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path(), Some(1), Ports::Auto, &|_| {}).unwrap();
        let folder = &layout.folders[0].folder;
        let loaded = NodeConfig::load(&folder.join("limes.yaml")).unwrap();
        assert_eq!(loaded.config.data, folder.join("data"));
        assert_eq!(loaded.config.cluster.name, "node-1");
    }
}
