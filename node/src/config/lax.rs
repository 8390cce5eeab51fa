//! What a file of the reference may say and starts there all the same: its YAML is read laxly, and what is
//! off is not looked at. Our own files are not: a mistake in one is told.

use serde_norway::{Mapping, Value};

use super::addr::Addr;
use super::choice::{HashBy, Level};
use super::mistake::Findings;
use super::setting::{Leaf, scalar};

/// Switches, in which YAML 1.1 takes more words than 1.2.
const SWITCHES: [&str; 5] =
    ["enable", "mtls", "bypass_enable", "insecure_skip_verify", "edgeid_alloc_when_no_idservice_on"];

/// Makes a file of the reference say what it means there.
pub(super) fn tidy(file: &mut Value, findings: &mut Findings) {
    plain(file);
    let control = block(file, "controlplane");
    if let Some(control) = control.filter(|control| !is_on(control, "enable"))
        && let Some(listen) = control.get_mut("listen").and_then(Value::as_mapping_mut)
    {
        idle(listen, "controlplane.listen", findings);
    }
    let edges = block(file, "edgebound");
    if let Some(edges) = edges.filter(|edges| !is_on(edges, "bypass_enable"))
        && let Some(bypass) = edges.get_mut("bypass").and_then(Value::as_mapping_mut)
    {
        idle(bypass, "edgebound.bypass", findings);
    }
    if let Some(log) = block(file, "log") {
        let level = log.get("level").and_then(|level| scalar(level).ok());
        match level.map(|level| level.to_lowercase()) {
            Some(level) if level.is_empty() => drop(log.remove("level")),
            Some(level) if Level::from_text(&level).is_ok() => {
                log.insert("level".into(), level.into());
            }
            _ => {}
        }
    }
    if let Some(exchange) = block(file, "exchange")
        && let Some(word) = exchange.get("hashby").map(scalar)
        && word.as_deref().map(HashBy::from_text).is_ok_and(|hash| hash.is_err())
    {
        let word = word.unwrap_or_default();
        findings.ignored.push(format!("exchange.hashby: {word} (taken for edgeid, as in the reference)"));
        exchange.remove("hashby");
    }
}

/// A block of a file.
fn block<'a>(file: &'a mut Value, key: &str) -> Option<&'a mut Mapping> {
    file.get_mut(key)?.as_mapping_mut()
}

fn is_on(block: &Mapping, switch: &str) -> bool {
    block.get(switch).and_then(Value::as_bool) == Some(true)
}

/// What has no value is not there, and a switch is on or off.
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

/// A block that is off: what could not be served matters to nobody.
fn idle(block: &mut Mapping, path: &str, findings: &mut Findings) {
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
