//! `/metrics` of a running node, compared with `deploy/METRICS.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Bed, until};

/// The tables of `deploy/METRICS.md`.
struct Dictionary {
    /// Type and labels of each series.
    series: BTreeMap<String, (String, Vec<String>)>,
    /// The values of each label.
    labels: BTreeMap<String, Vec<String>>,
}

impl Dictionary {
    fn read() -> Dictionary {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/METRICS.md")).unwrap();
        let mut dictionary = Dictionary { series: BTreeMap::new(), labels: BTreeMap::new() };
        let items =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = items(cells[1]).remove(0);
            if cells.len() == 7 {
                let kind = cells[2].split(' ').next().unwrap().to_owned();
                dictionary.series.insert(name, (kind, items(cells[4])));
            } else {
                dictionary.labels.insert(name, items(cells[2]));
            }
        }
        assert!(dictionary.series.len() > 30 && dictionary.labels.len() > 5, "the document has no tables");
        dictionary
    }

    /// All series with their label values; of a histogram its count.
    fn rows(&self) -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        for (name, (kind, labels)) in &self.series {
            let mut sets = vec![Vec::new()];
            for label in labels {
                let with = |set: &Vec<String>, value: &String| {
                    set.iter().cloned().chain([format!("{label}=\"{value}\"")]).collect::<Vec<_>>()
                };
                sets = sets
                    .iter()
                    .flat_map(|set| self.labels[label].iter().map(|value| with(set, value)))
                    .collect();
            }
            let suffix = if kind == "histogram" { "_count" } else { "" };
            rows.extend(sets.into_iter().map(|set| match set.join(",") {
                set if set.is_empty() => format!("{name}{suffix}"),
                set => format!("{name}{suffix}{{{set}}}"),
            }));
        }
        rows
    }

    /// Whether a sample is one of those that a histogram has beside its count.
    fn is_derived(&self, sample: &str) -> bool {
        let name = sample.split('{').next().unwrap();
        let histogram = name.strip_suffix("_bucket").or(name.strip_suffix("_sum"));
        histogram.and_then(|name| self.series.get(name)).is_some_and(|(kind, _)| kind == "histogram")
    }
}

/// The samples of Prometheus text, by series and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.split_once("\r\n\r\n").map_or(text, |(_, body)| body);
    let lines = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_exactly_the_series_of_its_dictionary() {
    let bed = Bed::start(1).await;
    let (dictionary, text) = (Dictionary::read(), bed.scrape(1).await);
    let served: BTreeSet<String> =
        samples(&text).into_keys().filter(|sample| !dictionary.is_derived(sample)).collect();
    let expected = dictionary.rows();
    let missing: Vec<&String> = expected.difference(&served).collect();
    let unknown: Vec<&String> = served.difference(&expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}; not in the dictionary: {unknown:?}"
    );
    for (name, (kind, _)) in &dictionary.series {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is not a {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_count_what_a_client_does() {
    let bed = Bed::start(1).await;
    let call = r#"limes_call_duration_seconds_count{direction="edge_to_service",result="ok",path="local"}"#;
    assert_eq!(bed.metric(1, call).await, 0, "no call was made");
    let (edge, _service) = (bed.edge(1).await, bed.service(1, "echoes").await);
    assert_eq!(edge.call("echo", "x").await.unwrap(), "x");
    let counts = [
        call,
        r#"limes_connect_duration_seconds_count{phase="admission"}"#,
        r#"limes_connect_duration_seconds_count{phase="commit"}"#,
        "limes_raft_commit_duration_seconds_count",
        "limes_raft_apply_duration_seconds_count",
        "limes_raft_fsync_duration_seconds_count",
        "limes_raft_batch_events_count",
    ];
    for count in counts {
        until(count, || async { (bed.metric(1, count).await >= 1).then_some(()) }).await;
    }
    assert_eq!(bed.metric(1, call).await, 1, "one call was made");
}
