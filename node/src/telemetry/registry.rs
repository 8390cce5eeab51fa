//! Creates the handles of the dictionary's series in a recorder of the node's own.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::dictionary::{ALL, Id, Series, SeriesKind};

/// What the recorder wants to know of the code that records; it does not use it.
const PLACE: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// The handles of one series.
#[derive(Debug)]
struct Family {
    /// How many values each label has.
    widths: Vec<usize>,
    /// One for each combination of label values; the values of the last label follow each other.
    handles: Handles,
}

/// Handles of one sort.
#[derive(Debug)]
pub(super) enum Handles {
    /// Of a counter.
    Counters(Vec<Counter>),
    /// Of a gauge, or a counter of fractions.
    Gauges(Vec<Gauge>),
    /// Of a histogram.
    Histograms(Vec<Histogram>),
}

/// A sort of handle.
pub(super) trait Handle: Sized {
    /// The handles of this sort among those of a series.
    fn among(handles: &Handles) -> &[Self];
}

macro_rules! handle {
    ($handle:ident, $variant:ident) => {
        impl Handle for $handle {
            fn among(handles: &Handles) -> &[Self] {
                if let Handles::$variant(handles) = handles { handles } else { &[] }
            }
        }
    };
}

handle!(Counter, Counters);
handle!(Gauge, Gauges);
handle!(Histogram, Histograms);

/// The handles of all series, in a recorder that is not the process's global one: unit tests run several nodes
/// at once.
#[derive(Debug)]
pub(super) struct Registry {
    families: Vec<Family>,
    exporter: PrometheusHandle,
}

impl Registry {
    /// Registers every combination of label values of every series.
    pub(super) fn new() -> Self {
        let recorder = recorder();
        let families = ALL.iter().map(|series| Family::new(&recorder, series)).collect();
        Registry { families, exporter: recorder.handle() }
    }

    /// The handle of a series for these label values, each given by its position among the label's values. `None`
    /// if a position is beyond them.
    pub(super) fn handle<H: Handle, const N: usize>(&self, id: &Id<H, N>, values: [usize; N]) -> Option<&H> {
        let family = self.families.get(id.at)?;
        let at = family.widths.iter().zip(values).fold(0, |at, (width, value)| at * width + value);
        H::among(&family.handles).get(at)
    }

    /// Renders and drains what the handles have recorded.
    pub(super) fn exporter(&self) -> &PrometheusHandle {
        &self.exporter
    }
}

impl Family {
    fn new(recorder: &PrometheusRecorder, series: &Series) -> Self {
        let keys = keys(series);
        let handles = match series.kind {
            SeriesKind::Counter => {
                Handles::Counters(keys.iter().map(|key| recorder.register_counter(key, &PLACE)).collect())
            }
            SeriesKind::FractionalCounter | SeriesKind::Gauge => {
                Handles::Gauges(keys.iter().map(|key| recorder.register_gauge(key, &PLACE)).collect())
            }
            SeriesKind::Histogram(_) => {
                Handles::Histograms(keys.iter().map(|key| recorder.register_histogram(key, &PLACE)).collect())
            }
        };
        Family { widths: series.labels.iter().map(|label| (label.values)().len()).collect(), handles }
    }
}

/// A recorder with the help texts and buckets of the dictionary.
fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for series in ALL {
        if let SeriesKind::Histogram(buckets) = series.kind {
            let name = Matcher::Full(series.name.to_owned());
            #[expect(
                clippy::expect_used,
                reason = "a test of the dictionary makes sure that there are bounds"
            )]
            let with_bounds = builder.set_buckets_for_metric(name, buckets.bounds).expect("there are bounds");
            builder = with_bounds;
        }
    }
    let recorder = builder.build_recorder();
    for series in ALL {
        let (name, unit, help) = (series.name.into(), Some(series.unit), series.help.into());
        match series.kind {
            SeriesKind::Counter => recorder.describe_counter(name, unit, help),
            SeriesKind::FractionalCounter | SeriesKind::Gauge => recorder.describe_gauge(name, unit, help),
            SeriesKind::Histogram(_) => recorder.describe_histogram(name, unit, help),
        }
    }
    recorder
}

/// The keys of a series for all combinations of label values, in the order of [`Family`].
fn keys(series: &Series) -> Vec<Key> {
    let mut rows: Vec<Vec<Label>> = vec![Vec::new()];
    for label in series.labels {
        let values = (label.values)();
        let with = |row: &Vec<Label>, value| {
            row.iter().cloned().chain([Label::new(label.name, value)]).collect::<Vec<_>>()
        };
        rows = rows.iter().flat_map(|row| values.iter().map(|value| with(row, *value))).collect();
    }
    rows.into_iter().map(|labels| Key::from_parts(series.name, labels)).collect()
}
