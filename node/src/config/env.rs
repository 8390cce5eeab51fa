//! Reads settings from the environment: `edgebound.listen.addr` is `LIMES_EDGEBOUND_LISTEN_ADDR`.

use std::collections::BTreeMap;

use super::error::Findings;
use super::setting::{Leaf, Settings, Visitor};

/// Prefix of every variable.
const PREFIX: &str = "LIMES_";
/// Variables that are not settings: the log filter, which the command line reads.
const NOT_SETTINGS: [&str; 1] = ["LIMES_LOG"];

struct Override<'a> {
    prefix: String,
    unused: &'a mut BTreeMap<String, String>,
    findings: &'a mut Findings,
}

/// Overrides `settings` with the variables; warns of `LIMES_` variables that name no setting.
pub(super) fn read<S: Settings>(
    vars: impl Iterator<Item = (String, String)>,
    settings: &mut S,
    findings: &mut Findings,
) {
    let mut unused: BTreeMap<_, _> =
        vars.filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str())).collect();
    settings.visit(&mut Override { prefix: PREFIX.to_owned(), unused: &mut unused, findings });
    for name in unused.into_keys().filter(|name| !is_kubernetes(name)) {
        findings.warnings.push(format!("environment variable {name} names no setting"));
    }
}

/// Kubernetes sets such variables in every pod for a Service called `limes`.
fn is_kubernetes(name: &str) -> bool {
    name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT")
}

impl Override<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }
}

impl Visitor for Override<'_> {
    fn leaf<T: Leaf>(&mut self, key: &'static str, _: &'static str, slot: &mut T) {
        let name = self.name(key);
        match self.unused.remove(&name).map(|text| T::from_text(&text)) {
            Some(Ok(value)) => *slot = value,
            Some(Err(error)) => self.findings.problem(&name, error.to_string()),
            None => {}
        }
    }

    fn section<S: Settings>(&mut self, key: &'static str, _: &'static str, slot: &mut S) {
        let prefix = format!("{}_", self.name(key));
        slot.visit(&mut Override { prefix, unused: self.unused, findings: self.findings });
    }

    fn ignored(&mut self, _: &'static str, _: &'static str) {}

    fn unsupported(&mut self, _: &'static str, _: &'static str) {}
}
