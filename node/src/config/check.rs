//! Checks that involve more than one setting, and limits of single ones that depend on the protocol.

use std::time::Duration;

use super::error::Findings;
use super::node::NodeConfig;
use limes_wire::limits as wire;

/// The longest handshake time: more would keep silent connections.
const HANDSHAKE_MAX: Duration = Duration::from_secs(300);

/// Records every problem between settings.
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
            let text = format!(
                "{name:?} is not a node name; write letters, digits, '-', '_' and '.', at most {}",
                wire::NAME_MAX
            );
            findings.problem(path, text);
        }
    }
}

fn founders(config: &NodeConfig, findings: &mut Findings) {
    let initial = &config.cluster.initial;
    if ![0, 1, 3, 5].contains(&initial.len()) {
        let text = format!("{} nodes; list the 1, 3 or 5 founders, other nodes join them", initial.len());
        findings.problem("cluster.initial", text);
    }
    for (i, member) in initial.iter().enumerate() {
        if member.addr.port() == 0 {
            findings.problem("cluster.initial", format!("{}: port 0 cannot be dialled", member.name));
        }
        if initial[..i].iter().any(|other| other.name == member.name || other.addr == member.addr) {
            let text = format!("{} at {} shares its name or address with another", member.name, member.addr);
            findings.problem("cluster.initial", text);
        }
    }
}

fn mesh(config: &NodeConfig, findings: &mut Findings) {
    let addr = &config.cluster.listen.addr;
    if !addr.is_loopback() && !config.cluster.insecure {
        let text = format!(
            "{addr} is beyond loopback, and mesh TLS is not yet supported in this version: nodes would talk in the \
             clear; set cluster.insecure: true if you trust that network"
        );
        findings.problem("cluster.listen.addr", text);
    }
    if config.cluster.initial.len() > 1 && config.addresses().mesh.is_unspecified() {
        let text = "is required: the other nodes cannot dial the mesh listener's address";
        findings.problem("cluster.advertise", text);
    }
}

fn timing(config: &NodeConfig, findings: &mut Findings) {
    let cluster = &config.cluster;
    let (heartbeat, election) = (cluster.heartbeat, cluster.election);
    if election.min < heartbeat * 2 {
        let text = format!("{:?} is less than two heartbeats of {heartbeat:?}", election.min);
        findings.problem("cluster.election.min", text);
    }
    if election.max <= election.min {
        let text = format!("{:?} is not more than cluster.election.min, {:?}", election.max, election.min);
        findings.problem("cluster.election.max", text);
    }
    if cluster.down_after() < heartbeat * 4 {
        let text = format!("{:?} is less than four heartbeats of {heartbeat:?}", cluster.down_after());
        findings.problem("cluster.down_after", text);
    }
}

fn control(config: &NodeConfig, findings: &mut Findings) {
    let control = &config.controlplane;
    if control.is_open() && !control.read_only && !control.insecure {
        let text = format!(
            "{} is beyond loopback, and control TLS is not yet supported in this version: any host that reaches it \
             could kick edges; set controlplane.read_only: true, or controlplane.insecure: true if you trust that \
             network",
            control.listen.addr
        );
        findings.problem("controlplane.listen.addr", text);
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
            findings.problem(path, format!("{addr} is also {other}"));
        }
    }
}

fn tls(config: &NodeConfig, findings: &mut Findings) {
    let ports =
        [("edgebound", &config.edgebound.listen.tls), ("servicebound", &config.servicebound.listen.tls)];
    for (port, tls) in ports.into_iter().filter(|(_, tls)| tls.enable) {
        if tls.certs.is_empty() {
            findings.problem(&format!("{port}.listen.tls.certs"), "is empty; TLS needs a certificate");
        }
        if tls.mtls && tls.ca_certs.is_empty() {
            let text = "is empty; mtls needs the authorities that sign the clients' certificates";
            findings.problem(&format!("{port}.listen.tls.ca_certs"), text);
        }
    }
}

fn bypass(config: &NodeConfig, findings: &mut Findings) {
    let edgebound = &config.edgebound;
    if !edgebound.bypass_enable {
        return;
    }
    if edgebound.bypass.addrs.is_empty() {
        findings.problem("edgebound.bypass.addrs", "is empty; edgebound.bypass_enable needs an address");
    }
    let tls = &edgebound.bypass.tls;
    if tls.enable && tls.mtls && tls.certs.is_empty() {
        findings.problem("edgebound.bypass.tls.certs", "is empty; mtls needs a certificate to present");
    }
}

fn limits(config: &NodeConfig, findings: &mut Findings) {
    let limits = &config.limits;
    if limits.body.as_usize() > wire::FRAME_BODY_MAX {
        findings.problem("limits.body", format!("{} is more than the protocol's 16MiB", limits.body));
    }
    if limits.calls > wire::CALLS_MAX {
        findings.problem(
            "limits.calls",
            format!("{} is more than the protocol's {}", limits.calls, wire::CALLS_MAX),
        );
    }
    if limits.queued.as_usize() > wire::IN_FLIGHT_BYTES_MAX {
        findings.problem("limits.queued", format!("{} is more than half a mailbox, 16MiB", limits.queued));
    }
    if limits.keepalive < wire::KEEPALIVE_MIN {
        findings.problem("limits.keepalive", format!("is less than {:?}", wire::KEEPALIVE_MIN));
    }
    if limits.handshake > HANDSHAKE_MAX {
        findings.problem("limits.handshake", format!("is more than {HANDSHAKE_MAX:?}"));
    }
}
