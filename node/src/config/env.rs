//! Settings from the environment: `edgebound.listen.addr` is `LIMES_EDGEBOUND_LISTEN_ADDR`.

use std::collections::BTreeMap;

use super::mistake::Findings;
use super::setting::{Leaf, Settings, Visitor};

/// What the names of all variables begin with.
const PREFIX: &str = "LIMES_";
/// Read elsewhere: the log filter.
const ELSEWHERE: [&str; 1] = ["LIMES_LOG"];

struct Override<'a> {
    prefix: String,
    unused: &'a mut BTreeMap<String, String>,
    findings: &'a mut Findings,
}

/// Puts what the variables say over `settings`.
pub(super) fn read<S: Settings>(
    vars: impl Iterator<Item = (String, String)>,
    settings: &mut S,
    findings: &mut Findings,
) {
    let mut unused: BTreeMap<_, _> =
        vars.filter(|(name, _)| name.starts_with(PREFIX) && !ELSEWHERE.contains(&name.as_str())).collect();
    settings.visit(&mut Override { prefix: PREFIX.to_owned(), unused: &mut unused, findings });
    for name in unused.into_keys().filter(|name| !is_kubernetes(name)) {
        findings.warnings.push(format!("environment variable {name} names no setting"));
    }
}

/// Kubernetes announces a Service called `limes` to every pod by such variables.
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
            Some(Err(text)) => self.findings.mistake(&name, text),
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
