//! Which nodes there are, where they listen, and what their processes spend.

use std::fs;
use std::path::Path;

use serde_norway::Value;

use crate::Context;
use crate::client::{Error, connect};
use crate::commands::node_name;
use limes_api::v1::StatusRequest;

/// Ticks of `/proc` in a second; fixed in what Linux shows to programs.
const TICKS: u64 = 100;

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its name.
    pub(super) name: String,
    /// Where edges connect.
    pub(super) edges: String,
    /// Where services connect.
    pub(super) services: String,
    /// Its process, if it is known.
    pid: Option<u32>,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Place>);

impl Nodes {
    /// Those of a folder of `limes dev`, else those that a node names.
    pub(super) async fn find(context: &Context, dir: Option<&Path>) -> Result<Nodes, Error> {
        match dir {
            Some(dir) => Self::of_folder(dir),
            None => Self::of_cluster(context).await,
        }
    }

    fn of_folder(dir: &Path) -> Result<Nodes, Error> {
        let mut places = Vec::new();
        for i in 1.. {
            let folder = dir.join(format!("node-{i}"));
            let Ok(text) = fs::read_to_string(folder.join("limes.yaml")) else { break };
            let settings: Value = serde_norway::from_str(&text).map_err(Error::bench)?;
            let addr = |bound: &str| {
                let found = settings.get(bound).and_then(|bound| bound.get("listen")?.get("addr")?.as_str());
                found
                    .map(str::to_owned)
                    .ok_or_else(|| Error::bench(format!("{bound}.listen.addr is missing")))
            };
            let pid = fs::read_to_string(folder.join("limes.pid")).ok();
            let pid = pid.and_then(|text| text.trim().parse().ok());
            let pid = pid.filter(|pid: &u32| Path::new(&format!("/proc/{pid}")).exists());
            let pid =
                pid.ok_or_else(|| Error::bench(format!("node-{i} of {} does not run", dir.display())))?;
            let (edges, services) = (addr("edgebound")?, addr("servicebound")?);
            places.push(Place { name: format!("node-{i}"), edges, services, pid: Some(pid) });
        }
        if places.is_empty() {
            return Err(Error::bench(format!("{} holds no cluster of `limes dev`", dir.display())));
        }
        Ok(Nodes(places))
    }

    async fn of_cluster(context: &Context) -> Result<Nodes, Error> {
        let request = StatusRequest { local: context.local };
        let status = connect(context).await?.status(request).await?.into_inner();
        let up = status.nodes.into_iter().filter(|node| node.up);
        let place = |node: limes_api::v1::Node| Place {
            name: node.name,
            edges: node.edges_addr,
            services: node.services_addr,
            pid: None,
        };
        Ok(Nodes(up.map(place).collect()))
    }

    /// A node by its name, or the first.
    pub(super) fn named(&self, name: Option<&str>) -> Result<Place, Error> {
        let wanted = name.map(|name| node_name(name.to_owned()));
        let found = self.0.iter().find(|place| wanted.as_ref().is_none_or(|wanted| *wanted == place.name));
        found.cloned().ok_or_else(|| Error::bench(format!("no node {}", wanted.unwrap_or_default())))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What all processes have spent so far, in µs; nothing if they are not known.
    pub(super) fn cpu_us(&self) -> Option<u64> {
        self.0.iter().map(|place| cpu_us(place.pid?)).sum()
    }

    /// What all processes hold, in KiB; nothing if they are not known.
    pub(super) fn resident_kb(&self) -> Option<u64> {
        self.0.iter().map(|place| resident_kb(place.pid?)).sum()
    }
}

fn cpu_us(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows it does not (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) * (1_000_000 / TICKS))
}

fn resident_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_spends_and_holds_something() {
        let me = std::process::id();
        let before = cpu_us(me).unwrap();
        let mut sum = 0u64;
        while cpu_us(me).unwrap() < before + 20_000 {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(resident_kb(me).unwrap() > 500, "{sum}");
    }
}
