//! The settings of a cluster's nodes, as files in its folder.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rand::Rng;

use crate::cluster::NodeAddrs;
use crate::net::Net;

/// Listeners of a node: edges, services, control, discovery, metrics, mesh.
const PORTS: usize = 6;
/// Below what systems hand out to outgoing connections: a node that is down for a while must find its
/// ports free when it comes back.
const RANGE: std::ops::Range<u16> = 11_000..30_000;
/// Random draws before giving up.
const DRAWS: usize = 2_000;

/// Writes the limes.yaml of each node, which `limes dev` then uses as they are: the defaults on free
/// ports, and the proxies of the [`Net`] as the nodes' addresses for each other.
///
/// # Errors
/// The folder holds such files already, or cannot be written; no ports are free.
pub(crate) async fn write(dir: &Path, nodes: usize) -> io::Result<Net> {
    std::fs::create_dir_all(dir)?;
    let net = Net::start(&dir.canonicalize()?, nodes).await?;
    let ports = free(nodes * PORTS)?;
    let founder = |(proxy, i): (&crate::proxy::Proxy, usize)| {
        format!("{{name: node-{i}, addr: \"{}\"}}", proxy.address())
    };
    let initial: Vec<_> = net.proxies().iter().zip(1..).map(founder).collect();
    for (proxy, i) in net.proxies().iter().zip(1..) {
        let ports = &ports[(i - 1) * PORTS..i * PORTS];
        let mut text = "data: data\ndaemon: {pid_file: limes.pid}\n".to_owned();
        for (section, port) in
            ["edgebound", "servicebound", "controlplane", "discovery", "metrics"].iter().zip(ports)
        {
            let _ = writeln!(text, "{section}: {{listen: {{addr: \"127.0.0.1:{port}\"}}}}");
        }
        let mesh = format!("127.0.0.1:{}", ports[PORTS - 1]);
        let initial = initial.join(", ");
        let _ =
            writeln!(text, "cluster: {{name: node-{i}, listen: {{addr: \"{mesh}\"}}, initial: [{initial}]}}");
        proxy.set_target(mesh);
        let folder = dir.join(format!("node-{i}"));
        std::fs::create_dir_all(&folder)?;
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).open(folder.join("limes.yaml"))?;
        io::Write::write_all(&mut file, text.as_bytes())?;
    }
    Ok(net)
}

/// Free loopback ports, all different.
fn free(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let mut random = rand::rng();
    for _ in 0..DRAWS {
        if held.len() < count {
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, random.random_range(RANGE))));
        }
    }
    if held.len() < count {
        return Err(io::Error::other("no free ports"));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Reads a node's addresses from the settings that `limes dev` wrote.
pub(crate) fn read(dir: &Path, i: usize) -> io::Result<NodeAddrs> {
    let text = std::fs::read_to_string(dir.join(format!("node-{i}/limes.yaml")))?;
    let settings: serde_norway::Value = serde_norway::from_str(&text).map_err(io::Error::other)?;
    let addr = |section: &str| {
        let addr = settings.get(section)?.get("listen")?.get("addr")?.as_str()?;
        Some(addr.to_owned())
    };
    let all = addr("edgebound").zip(addr("servicebound")).zip(addr("metrics")).zip(addr("controlplane"));
    let (((edges, services), metrics), control) =
        all.ok_or_else(|| io::Error::other("no addresses in limes.yaml"))?;
    Ok(NodeAddrs { edges, services, metrics, control })
}
