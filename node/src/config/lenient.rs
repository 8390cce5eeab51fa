//! Reads files of the reference as leniently as the reference does: YAML 1.1 switches, keys without a value,
//! and settings of features that are off. In our own files each of these is an error.

use serde_norway::{Mapping, Value};

use super::addr::Addr;
use super::error::Findings;
use super::keyword::{HashBy, Level};
use super::setting::{Leaf, scalar};

/// Switches, for which YAML 1.1 accepts more words than 1.2.
const SWITCHES: [&str; 5] =
    ["enable", "mtls", "bypass_enable", "insecure_skip_verify", "edgeid_alloc_when_no_idservice_on"];

/// Rewrites a file of the reference to one that the strict reader understands in the same way.
pub(super) fn normalize(file: &mut Value, findings: &mut Findings) {
    plain(file);
    let control = block(file, "controlplane");
    if let Some(control) = control.filter(|control| !is_on(control, "enable"))
        && let Some(listen) = control.get_mut("listen").and_then(Value::as_mapping_mut)
    {
        drop_unusable(listen, "controlplane.listen", findings);
    }
    let edges = block(file, "edgebound");
    if let Some(edges) = edges.filter(|edges| !is_on(edges, "bypass_enable"))
        && let Some(bypass) = edges.get_mut("bypass").and_then(Value::as_mapping_mut)
    {
        drop_unusable(bypass, "edgebound.bypass", findings);
    }
    if let Some(log) = block(file, "log") {
        log_level(log);
    }
    if let Some(exchange) = block(file, "exchange") {
        hashby(exchange, findings);
    }
}

/// A block of a file.
fn block<'a>(file: &'a mut Value, key: &str) -> Option<&'a mut Mapping> {
    file.get_mut(key)?.as_mapping_mut()
}

fn is_on(block: &Mapping, switch: &str) -> bool {
    block.get(switch).and_then(Value::as_bool) == Some(true)
}

/// An empty log level is the default, and a level may be in capitals.
fn log_level(log: &mut Mapping) {
    let level = log.get("level").and_then(|level| scalar(level).ok());
    match level.map(|level| level.to_lowercase()) {
        Some(level) if level.is_empty() => drop(log.remove("level")),
        Some(level) if Level::from_text(&level).is_ok() => {
            log.insert("level".into(), level.into());
        }
        _ => {}
    }
}

/// An unknown hash is the default.
fn hashby(exchange: &mut Mapping, findings: &mut Findings) {
    if let Some(word) = exchange.get("hashby").map(scalar)
        && word.as_deref().map(HashBy::from_text).is_ok_and(|hash| hash.is_err())
    {
        let word = word.unwrap_or_default();
        findings.ignored.push(format!("exchange.hashby: {word} (taken for edgeid, as in the reference)"));
        exchange.remove("hashby");
    }
}

/// Removes keys without a value and turns the words of YAML 1.1 into booleans.
fn plain(value: &mut Value) {
    let Value::Mapping(block) = value else { return };
    block.retain(|_, value| !value.is_null());
    for (key, value) in block {
        match value.as_str().filter(|_| key.as_str().is_some_and(|key| SWITCHES.contains(&key))) {
            Some("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "True" | "TRUE") => {
                *value = Value::Bool(true);
            }
            Some("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "False" | "FALSE") => {
                *value = Value::Bool(false);
            }
            _ => plain(value),
        }
    }
}

/// Removes from a block that is off the values that could not be used if it were on.
fn drop_unusable(block: &mut Mapping, path: &str, findings: &mut Findings) {
    let is_addr = |value: &Value| scalar(value).is_ok_and(|text| Addr::from_text(&text).is_ok());
    for key in ["network", "addr", "addrs"] {
        let Some(value) = block.get(key) else { continue };
        let usable = match key {
            "network" => value.as_str() == Some("tcp"),
            "addr" => is_addr(value),
            _ => value.as_sequence().is_some_and(|addrs| addrs.iter().all(is_addr)),
        };
        if !usable {
            if value.as_str() != Some("") {
                findings.ignored.push(format!("{path}.{key} (it is off)"));
            }
            block.remove(key);
        }
    }
}
