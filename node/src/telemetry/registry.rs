//! Creates the handles of the dictionary's series in a recorder of the node's own.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::dictionary::{ALL, Series, SeriesKind};

/// What the recorder wants to know of the place that records; it does not use it.
const PLACE: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// A recorder that knows the dictionary. Not the process's global one: unit tests run several nodes at once.
pub(super) struct Registry(PrometheusRecorder);

impl Registry {
    /// A recorder with the help texts and buckets of the dictionary, and no series yet.
    pub(super) fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for series in ALL {
            if let SeriesKind::Histogram(buckets) = series.kind {
                let name = Matcher::Full(series.name.to_owned());
                #[expect(
                    clippy::expect_used,
                    reason = "the dictionary is a constant, and its tests look at this"
                )]
                let with_bounds =
                    builder.set_buckets_for_metric(name, buckets.bounds).expect("there are bounds");
                builder = with_bounds;
            }
        }
        let recorder = builder.build_recorder();
        for series in ALL {
            let (name, unit, help) = (series.name.into(), Some(series.unit), series.help.into());
            match series.kind {
                SeriesKind::Counter => recorder.describe_counter(name, unit, help),
                SeriesKind::FractionalCounter | SeriesKind::Gauge => {
                    recorder.describe_gauge(name, unit, help)
                }
                SeriesKind::Histogram(_) => recorder.describe_histogram(name, unit, help),
            }
        }
        Registry(recorder)
    }

    /// Renders what the handles have recorded.
    pub(super) fn exporter(&self) -> PrometheusHandle {
        self.0.handle()
    }

    /// The counter of a series for these label values, each given by its position among the label's values.
    pub(super) fn counter<const N: usize>(&self, series: &Series, values: [usize; N]) -> Counter {
        self.0.register_counter(&key(series, &values), &PLACE)
    }

    /// The gauge of a series without labels, or of one with a single value for each label.
    pub(super) fn gauge(&self, series: &Series) -> Gauge {
        self.0.register_gauge(&key(series, &vec![0; series.labels.len()]), &PLACE)
    }

    /// As [`Registry::counter`], for a histogram.
    pub(super) fn histogram<const N: usize>(&self, series: &Series, values: [usize; N]) -> Histogram {
        self.0.register_histogram(&key(series, &values), &PLACE)
    }
}

/// The key of a series with these label values. Positions beyond a label's values leave the label out, which
/// the comparison with the dictionary reports.
fn key(series: &Series, values: &[usize]) -> Key {
    let pairs = series.labels.iter().zip(values);
    let labels = pairs.filter_map(|(label, at)| Some(Label::new(label.name, *(label.values)().get(*at)?)));
    Key::from_parts(series.name, labels.collect::<Vec<Label>>())
}
