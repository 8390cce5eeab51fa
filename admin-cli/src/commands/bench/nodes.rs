//! The nodes of the cluster: where they listen, and what their processes have used.

use std::fs;
use std::path::Path;

use limes_api::v1::{Node, StatusRequest};
use serde_norway::Value;

use super::process;
use crate::client::connect;
use crate::commands::names::node_name;
use crate::context::Context;
use crate::error::Error;

/// One node's listeners and process.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The node's name.
    pub(super) name: String,
    /// Where edges connect, `HOST:PORT`.
    pub(super) edges: String,
    /// Where services connect, `HOST:PORT`.
    pub(super) services: String,
    /// The node's process, if it is known.
    pid: Option<u32>,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Target>);

impl Nodes {
    /// The nodes in a folder of `limes dev`, else those that the asked node names.
    pub(super) async fn find(context: &Context, dir: Option<&Path>) -> Result<Nodes, Error> {
        match dir {
            Some(dir) => Self::of_folder(dir),
            None => Self::of_cluster(context).await,
        }
    }

    fn of_folder(dir: &Path) -> Result<Nodes, Error> {
        let mut targets = Vec::new();
        for number in 1.. {
            match read_target(dir, number)? {
                Some(target) => targets.push(target),
                None => break,
            }
        }
        if targets.is_empty() {
            return Err(Error::NoCluster(dir.to_owned()));
        }
        Ok(Nodes(targets))
    }

    async fn of_cluster(context: &Context) -> Result<Nodes, Error> {
        let request = StatusRequest { local: context.local };
        let status = connect(context).await?.status(request).await?.into_inner();
        let up = status.nodes.into_iter().filter(|node| node.up);
        let target = |node: Node| Target {
            name: node.name,
            edges: node.edges_addr,
            services: node.services_addr,
            pid: None,
        };
        Ok(Nodes(up.map(target).collect()))
    }

    /// The node of this name, or the first.
    pub(super) fn named(&self, name: Option<&str>) -> Result<Target, Error> {
        let wanted = name.map(|name| node_name(name.to_owned()));
        let found = self.0.iter().find(|target| wanted.as_ref().is_none_or(|wanted| *wanted == target.name));
        found.cloned().ok_or_else(|| Error::NoSuchNode(wanted.unwrap_or_default()))
    }

    /// The number of nodes.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// CPU time that all processes have used, in µs; `None` if one of them is not known.
    pub(super) fn cpu_us(&self) -> Option<u64> {
        self.0.iter().map(|target| process::cpu_us(target.pid?)).sum()
    }

    /// Resident memory of all processes, in KiB; `None` if one of them is not known.
    pub(super) fn resident_kb(&self) -> Option<u64> {
        self.0.iter().map(|target| process::resident_kb(target.pid?)).sum()
    }
}

/// Node `number` of a folder of `limes dev`; `None` if the folder has no such node.
fn read_target(dir: &Path, number: u32) -> Result<Option<Target>, Error> {
    let name = format!("node-{number}");
    let folder = dir.join(&name);
    let file = folder.join("limes.yaml");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
    let settings: Value =
        serde_norway::from_str(&text).map_err(|error| Error::Settings { file: file.clone(), error })?;
    let address = |section: &'static str| {
        let found = settings.get(section).and_then(|section| section.get("listen")?.get("addr")?.as_str());
        found.map(str::to_owned).ok_or_else(|| Error::NoAddress { file: file.clone(), section })
    };
    let pid = fs::read_to_string(folder.join("limes.pid")).ok();
    let pid = pid.and_then(|text| text.trim().parse().ok()).filter(|pid| process::exists(*pid));
    if pid.is_none() {
        return Err(Error::NotRunning { dir: dir.to_owned(), number });
    }
    Ok(Some(Target { name, edges: address("edgebound")?, services: address("servicebound")?, pid }))
}
