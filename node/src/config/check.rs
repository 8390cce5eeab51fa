//! What one setting alone cannot show to be wrong.

use std::time::Duration;

use super::mistake::Findings;
use super::node::NodeConfig;
use limes_wire::limits as wire;

/// Notes every mistake between settings.
pub(super) fn check(config: &NodeConfig, findings: &mut Findings) {
    name(config, findings);
    founders(config, findings);
    mesh(config, findings);
    timing(config, findings);
    control(config, findings);
    listeners(config, findings);
    tls(config, findings);
    bypass(config, findings);
    limits(config, findings);
}

fn name(config: &NodeConfig, findings: &mut Findings) {
    let names = config.cluster.initial.iter().map(|member| ("cluster.initial", &member.name));
    for (path, name) in names.chain([("cluster.name", &config.cluster.name)]) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > wire::NAME_MAX || !name.chars().all(allowed) {
            let text =
                format!("{name:?} is no name for a node: letters, digits, '-', '_' and '.', at most 255");
            findings.mistake(path, text);
        }
    }
}

fn founders(config: &NodeConfig, findings: &mut Findings) {
    let initial = &config.cluster.initial;
    if ![0, 1, 3, 5].contains(&initial.len()) {
        let text = format!("{} nodes; a cluster is founded by 1, 3 or 5, and others join it", initial.len());
        findings.mistake("cluster.initial", text);
    }
    for (i, member) in initial.iter().enumerate() {
        if member.addr.port() == 0 {
            findings.mistake("cluster.initial", format!("{}: port 0 cannot be dialled", member.name));
        }
        if initial[..i].iter().any(|other| other.name == member.name || other.addr == member.addr) {
            let text = format!("{} at {} shares its name or address with another", member.name, member.addr);
            findings.mistake("cluster.initial", text);
        }
    }
}

fn mesh(config: &NodeConfig, findings: &mut Findings) {
    let addr = &config.cluster.listen.addr;
    if !addr.is_loopback() && !config.cluster.insecure {
        let text = format!(
            "{addr} is beyond loopback, where nodes would talk in the clear: mesh TLS is not yet supported in this \
             version; set cluster.insecure: true if you trust that network"
        );
        findings.mistake("cluster.listen.addr", text);
    }
    if config.cluster.initial.len() > 1 && config.addresses().mesh.is_unspecified() {
        let text = "must be given: the other nodes cannot dial the mesh listener's address";
        findings.mistake("cluster.advertise", text);
    }
}

fn timing(config: &NodeConfig, findings: &mut Findings) {
    let cluster = &config.cluster;
    let (heartbeat, election) = (cluster.heartbeat, cluster.election);
    if election.min < heartbeat * 2 {
        let text = format!("{:?} is less than two heartbeats of {heartbeat:?}", election.min);
        findings.mistake("cluster.election.min", text);
    }
    if election.max <= election.min {
        let text = format!("{:?} is not more than cluster.election.min, {:?}", election.max, election.min);
        findings.mistake("cluster.election.max", text);
    }
    if cluster.down_after() < heartbeat * 4 {
        let text = format!("{:?} is less than four heartbeats of {heartbeat:?}", cluster.down_after());
        findings.mistake("cluster.down_after", text);
    }
}

fn control(config: &NodeConfig, findings: &mut Findings) {
    let control = &config.controlplane;
    if control.is_open() && !control.read_only && !control.insecure {
        let text = format!(
            "{} is beyond loopback, where anybody could kick edges: control TLS is not yet supported in this version; \
             set controlplane.read_only: true, or controlplane.insecure: true if you trust that network",
            control.listen.addr
        );
        findings.mistake("controlplane.listen.addr", text);
    }
}

fn listeners(config: &NodeConfig, findings: &mut Findings) {
    let all = [
        ("edgebound.listen.addr", &config.edgebound.listen.addr),
        ("servicebound.listen.addr", &config.servicebound.listen.addr),
        ("cluster.listen.addr", &config.cluster.listen.addr),
        ("metrics.listen.addr", &config.metrics.listen.addr),
        ("controlplane.listen.addr", &config.controlplane.listen.addr),
        ("discovery.listen.addr", &config.discovery.listen.addr),
    ];
    for (i, (path, addr)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..i].iter().find(|(_, other)| other == addr && addr.port() != 0) {
            findings.mistake(path, format!("{addr} is also {other}"));
        }
    }
}

fn tls(config: &NodeConfig, findings: &mut Findings) {
    let ports =
        [("edgebound", &config.edgebound.listen.tls), ("servicebound", &config.servicebound.listen.tls)];
    for (port, tls) in ports.into_iter().filter(|(_, tls)| tls.enable) {
        if tls.certs.is_empty() {
            findings.mistake(&format!("{port}.listen.tls.certs"), "is empty; TLS needs a certificate");
        }
        if tls.mtls && tls.ca_certs.is_empty() {
            let text = "is empty; mtls needs to know who signs the clients' certificates";
            findings.mistake(&format!("{port}.listen.tls.ca_certs"), text);
        }
    }
}

fn bypass(config: &NodeConfig, findings: &mut Findings) {
    let edgebound = &config.edgebound;
    if !edgebound.bypass_enable {
        return;
    }
    if edgebound.bypass.addrs.is_empty() {
        findings.mistake("edgebound.bypass.addrs", "is empty; edgebound.bypass_enable needs to know whereto");
    }
    let tls = &edgebound.bypass.tls;
    if tls.enable && tls.mtls && tls.certs.is_empty() {
        findings.mistake("edgebound.bypass.tls.certs", "is empty; mtls needs a certificate to show");
    }
}

fn limits(config: &NodeConfig, findings: &mut Findings) {
    let limits = &config.limits;
    if limits.body.as_usize() > wire::FRAME_BODY_MAX {
        findings.mistake("limits.body", format!("{} is more than the protocol's 16MiB", limits.body));
    }
    if limits.calls > wire::CALLS_MAX {
        findings.mistake(
            "limits.calls",
            format!("{} is more than the protocol's {}", limits.calls, wire::CALLS_MAX),
        );
    }
    if limits.queued.as_usize() > wire::IN_FLIGHT_BYTES_MAX {
        findings.mistake("limits.queued", format!("{} is more than half a mailbox, 16MiB", limits.queued));
    }
    if limits.keepalive < wire::KEEPALIVE_MIN {
        findings.mistake("limits.keepalive", format!("less than {:?}", wire::KEEPALIVE_MIN));
    }
    if limits.handshake > Duration::from_secs(300) {
        findings.mistake("limits.handshake", "more than 5m keeps connections that never speak");
    }
}
