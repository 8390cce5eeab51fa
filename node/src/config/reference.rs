//! Files and environment variables of the reference.

use std::time::Duration;

use serde_norway::Value;

use super::addr::Addr;
use super::error::Findings;
use super::keyword::Level;
use super::node::NodeConfig;
use super::setting::Leaf;

/// Sections that only a limes.yaml has.
const OUR_SECTIONS: [&str; 5] = ["data", "cluster", "limits", "metrics", "discovery"];
/// Variables of the reference that have no effect here.
const WITHOUT_EFFECT: [&str; 11] = [
    "FRONTLAS_FRONTIERPLANE_PORT",
    "REDIS_TYPE",
    "REDIS_ADDRS",
    "REDIS_USER",
    "REDIS_PASSWORD",
    "REDIS_DB",
    "MASTER_NAME",
    "LOG_OUTPUT",
    "LOG_FORMAT",
    "LOG_FILE",
    "FRONTLAS_ADDR",
];
/// Variables that apply only to a file of the reference, each with the variable that replaces it for our own
/// file. Other programs use the last two names as well, so those are reported only beside one of the first.
const REPLACED: [(&str, &str); 8] = [
    ("FRONTIER_EDGEBOUND_PORT", "LIMES_EDGEBOUND_LISTEN_ADDR"),
    ("FRONTIER_SERVICEBOUND_PORT", "LIMES_SERVICEBOUND_LISTEN_ADDR"),
    ("FRONTIER_DRAIN_SECONDS", "LIMES_CLUSTER_DRAIN_GRACE"),
    ("FRONTLAS_CONTROLPLANE_PORT", "LIMES_DISCOVERY_LISTEN_ADDR"),
    ("FRONTLAS_FRONTIERPLANE_PORT", ""),
    ("FRONTLAS_ADDR", ""),
    ("NODE_NAME", "LIMES_CLUSTER_NAME"),
    ("LOG_LEVEL", "LIMES_LOG_LEVEL"),
];
/// The port of the reference's directory.
const DIRECTORY_PORT: u16 = 40011;
/// The drain time that the reference uses in place of an invalid one.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// Whether this is a file of the reference: it names the transport of its listeners, which the
/// reference requires, and has none of our sections.
pub(super) fn is_reference_file(value: &Value) -> bool {
    let network = |bound: &&str| value.get(*bound).and_then(|b| b.get("listen")?.get("network")).is_some();
    !OUR_SECTIONS.iter().any(|key| value.get(key).is_some())
        && ["edgebound", "servicebound", "control_plane"].iter().any(network)
}

/// Our defaults, with the reference's where those differ.
pub(super) fn defaults() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.edgebound.edgeid_alloc_when_no_idservice_on = false;
    config.controlplane.enable = false;
    config.discovery.enable = false;
    config
}

/// Overrides a file of the reference with the reference's variables, and enables discovery if the file or a
/// variable names a directory server.
pub(super) fn apply(
    value: &Value,
    vars: &[(String, String)],
    config: &mut NodeConfig,
    findings: &mut Findings,
) {
    let var = |name: &str| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    let enabled = |value: &Value| value.get("enable").and_then(Value::as_bool) == Some(true);
    let clustered = value.get("frontlas").is_some_and(enabled) || var("FRONTLAS_ADDR").is_some();
    if clustered && config.directory().is_none() {
        config.discovery.enable = true;
        config.discovery.listen.addr = Addr::new(config.servicebound.listen.addr.host(), DIRECTORY_PORT);
    }
    if let Some(addr) = config.directory() {
        config.discovery.enable = true;
        config.discovery.listen.addr = addr;
    }
    let mut port = |name: &str, addr: &mut Addr| match var(name).map(str::parse) {
        Some(Ok(port)) => *addr = Addr::new(addr.host(), port),
        Some(Err(_)) => findings.problem(name, "is not a port"),
        None => {}
    };
    port("FRONTIER_EDGEBOUND_PORT", &mut config.edgebound.listen.addr);
    port("FRONTIER_SERVICEBOUND_PORT", &mut config.servicebound.listen.addr);
    port("FRONTLAS_CONTROLPLANE_PORT", &mut config.discovery.listen.addr);
    if let Some(name) = var("NODE_NAME") {
        config.daemon.frontier_id = Some(format!("frontier-{name}"));
    }
    if let Some(text) = var("FRONTIER_DRAIN_SECONDS") {
        config.cluster.drain_grace = text.parse().map_or(DEFAULT_DRAIN, Duration::from_secs);
    }
    match var("LOG_LEVEL").map(|level| Level::from_text(&level.to_lowercase())) {
        Some(Ok(level)) => config.log.level = level,
        Some(Err(error)) => findings.problem("LOG_LEVEL", error.to_string()),
        None => {}
    }
    for name in WITHOUT_EFFECT.into_iter().filter(|name| var(name).is_some()) {
        findings.ignored.push(format!("{name} (a limes cluster needs no other server)"));
    }
}

/// Warns of variables that applied to the file of the reference from which ours was imported.
pub(super) fn warn_of_unused_variables(vars: &[(String, String)], findings: &mut Findings) {
    let is_set = |name: &str| vars.iter().any(|(known, value)| known == name && !value.is_empty());
    let unused = REPLACED.iter().filter(|(name, ours)| is_set(name) && !is_set(ours));
    let unused: Vec<_> = unused.collect();
    if unused.iter().any(|(name, _)| name.starts_with("FRONT")) {
        let named = unused.iter().map(|(name, ours)| match *ours {
            "" => format!("{name} (leave it out)"),
            ours => format!("{name} (use {ours})"),
        });
        let named: Vec<_> = named.collect();
        findings.warnings.push(format!(
            "environment variables of the reference apply to a frontier.yaml only, not to this file: {}",
            named.join(", ")
        ));
    }
}

/// Makes a control plane that other machines can reach read-only: a file of the reference has no
/// authentication to protect it.
pub(super) fn restrict_open_control_plane(config: &mut NodeConfig, findings: &mut Findings) {
    let control = &mut config.controlplane;
    if control.is_open() && !control.insecure && !control.read_only {
        control.read_only = true;
        findings.warnings.push(format!(
            "controlplane: {} is beyond loopback without TLS, so it is served read-only; \
             controlplane.insecure in a limes.yaml serves all of it",
            control.listen.addr
        ));
    }
}
