//! Generates `deploy/METRICS.md` from the dictionary, and compares both with what a node renders.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use metrics::Unit;

use super::dictionary::{ALL, Buckets, Series, SeriesKind};
use super::metrics::Metrics;

const HEAD: &str = "\
<!-- Generated from `node/src/telemetry/dictionary.rs`. To write it again: -->
<!-- LIMES_BLESS=1 cargo test -p limes-node --lib telemetry::document -->

# Metrics

Each node serves these series as Prometheus text at `/metrics` of `metrics.listen.addr`. All combinations of
label values are there from the start, at 0. Label values come from the closed sets below: no series is named
after an edge, a service, a method or an address.

A histogram `x` has the series `x_bucket`, `x_sum` and `x_count`.

";

fn unit(series: &Series) -> &'static str {
    match series.unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        _ => "",
    }
}

fn kind(series: &Series) -> String {
    match series.kind {
        SeriesKind::Counter | SeriesKind::FractionalCounter => "counter".to_owned(),
        SeriesKind::Gauge => "gauge".to_owned(),
        SeriesKind::Histogram(buckets) => format!("histogram ({})", buckets.name),
    }
}

/// Items in backticks, separated by commas.
fn code<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("## Series\n\n| Series | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for series in ALL {
        let labels = code(series.labels.iter().map(|label| label.name));
        let (kind, unit) = (kind(series), unit(series));
        let _ = writeln!(text, "| `{}` | {kind} | {unit} | {labels} | {} |", series.name, series.help);
    }
    text.push_str("\n## Labels\n\n| Label | Values | Meaning |\n|---|---|---|\n");
    let mut seen = BTreeSet::new();
    for label in ALL.iter().flat_map(|series| series.labels).filter(|label| seen.insert(label.name)) {
        let values = code((label.values)().into_iter());
        let _ = writeln!(text, "| `{}` | {values} | {} |", label.name, label.meaning);
    }
    text.push_str("\n## Buckets\n\n| Buckets | Upper bounds |\n|---|---|\n");
    let mut seen = BTreeSet::new();
    for series in ALL {
        if let SeriesKind::Histogram(Buckets { name, bounds }) = series.kind
            && seen.insert(name)
        {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| {name} | {} and infinity |", bounds.join(", "));
        }
    }
    text
}

/// The series of the dictionary with all label values, without those that a histogram derives.
fn rows() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for series in ALL {
        let mut labels = vec![String::new()];
        for label in series.labels {
            let values = (label.values)();
            let with = |before: &String, value: &str| {
                let comma = if before.is_empty() { "" } else { "," };
                format!("{before}{comma}{}=\"{value}\"", label.name)
            };
            labels = labels
                .iter()
                .flat_map(|before| values.iter().map(move |value| with(before, value)))
                .collect();
        }
        let suffix = if matches!(series.kind, SeriesKind::Histogram(_)) { "_count" } else { "" };
        rows.extend(labels.into_iter().map(|labels| match &labels[..] {
            "" => format!("{}{suffix}", series.name),
            labels => format!("{}{suffix}{{{labels}}}", series.name),
        }));
    }
    rows
}

#[test]
fn the_document_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/METRICS.md");
    if std::env::var_os("LIMES_BLESS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document(), "deploy/METRICS.md is stale; its first lines say how to write it again");
}

#[test]
fn every_series_is_rendered_from_the_start_and_no_other() {
    let text = Metrics::default().render();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let names = samples.filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name.to_owned()));
    let is_derived = |name: &String| {
        ALL.iter().any(|series| {
            let rest = name.strip_prefix(series.name).unwrap_or_default();
            rest.starts_with("_bucket{") || rest == "_sum" || rest.starts_with("_sum{")
        })
    };
    let rendered: BTreeSet<String> = names.filter(|name| !is_derived(name)).collect();
    let missing: Vec<String> = rows().difference(&rendered).cloned().collect();
    let unknown: Vec<String> = rendered.difference(&rows()).cloned().collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}; unknown: {unknown:?}");
}
