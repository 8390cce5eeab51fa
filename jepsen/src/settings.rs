//! The settings of a cluster's nodes, as files in its folder.

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rand::Rng;

use crate::error::Error;
use crate::net::Net;
use crate::proxy::Proxy;

/// Listeners of a node: edges, services, control, discovery, metrics, mesh.
const PORTS: usize = 6;
/// Below the range that systems use for outgoing connections: a node that restarts must find its ports free.
const RANGE: std::ops::Range<u16> = 11_000..30_000;
/// Random ports that are tried.
const DRAWS: usize = 2_000;

/// The addresses of one node, each `HOST:PORT`.
#[derive(Debug, Clone)]
pub struct NodeAddrs {
    /// For edges.
    pub edges: String,
    /// For services.
    pub services: String,
    /// For metrics and health.
    pub metrics: String,
    /// For operators.
    pub control: String,
}

/// Writes the `limes.yaml` of each node, which `limes dev` then uses: the defaults on free ports, and the proxies of
/// the [`Net`] as the addresses under which the nodes reach each other.
///
/// # Errors
/// The folder holds such files already or cannot be written, or no ports are free.
pub(crate) async fn write(dir: &Path, nodes: usize) -> Result<Net, Error> {
    std::fs::create_dir_all(dir)?;
    let net = Net::start(&dir.canonicalize()?, nodes).await?;
    let ports = free(nodes * PORTS)?;
    let founder =
        |(proxy, number): (&Proxy, usize)| format!("{{name: node-{number}, addr: \"{}\"}}", proxy.address());
    let initial: Vec<_> = net.proxies().iter().zip(1..).map(founder).collect();
    let initial = initial.join(", ");
    for ((proxy, number), ports) in net.proxies().iter().zip(1..).zip(ports.chunks_exact(PORTS)) {
        proxy.set_target(format!("127.0.0.1:{}", ports[PORTS - 1]));
        let folder = dir.join(format!("node-{number}"));
        std::fs::create_dir_all(&folder)?;
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).open(folder.join("limes.yaml"))?;
        std::io::Write::write_all(&mut file, text(number, &initial, ports).as_bytes())?;
    }
    Ok(net)
}

/// The settings of node `number`.
fn text(number: usize, initial: &str, ports: &[u16]) -> String {
    let mut text = "data: data\ndaemon: {pid_file: limes.pid}\n".to_owned();
    let sections = ["edgebound", "servicebound", "controlplane", "discovery", "metrics"];
    for (section, port) in sections.iter().zip(ports) {
        let _ = writeln!(text, "{section}: {{listen: {{addr: \"127.0.0.1:{port}\"}}}}");
    }
    let mesh = ports[PORTS - 1];
    let _ = writeln!(
        text,
        "cluster: {{name: node-{number}, listen: {{addr: \"127.0.0.1:{mesh}\"}}, initial: [{initial}]}}"
    );
    text
}

/// Free loopback ports, all different.
fn free(count: usize) -> Result<Vec<u16>, Error> {
    let mut held = Vec::with_capacity(count);
    let mut random = rand::rng();
    for _ in 0..DRAWS {
        if held.len() < count {
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, random.random_range(RANGE))));
        }
    }
    if held.len() < count {
        return Err(Error::NoPorts);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Reads the addresses of node `number` from the settings that `limes dev` wrote.
pub(crate) fn read(dir: &Path, number: usize) -> Result<NodeAddrs, Error> {
    let file = dir.join(format!("node-{number}/limes.yaml"));
    let text = std::fs::read_to_string(&file)?;
    let invalid = |what| Error::File { file: file.clone(), what };
    let settings: serde_norway::Value = serde_norway::from_str(&text).map_err(|_| invalid("settings"))?;
    let addr = |section: &str, what| {
        let addr = settings.get(section).and_then(|section| section.get("listen")?.get("addr")?.as_str());
        addr.map(str::to_owned).ok_or_else(|| invalid(what))
    };
    Ok(NodeAddrs {
        edges: addr("edgebound", "the address for edges")?,
        services: addr("servicebound", "the address for services")?,
        metrics: addr("metrics", "the address for metrics")?,
        control: addr("controlplane", "the address for operators")?,
    })
}
