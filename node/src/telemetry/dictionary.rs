//! The dictionary of metrics: every series that the node exports, with its type, unit, labels and help.
//!
//! A series that is added to the list at the end is exported, at 0, and has an [`Id`] to record it with
//! ([`super::metrics::Metrics`]). `deploy/METRICS.md` is generated from this module, as its first lines say.

use std::marker::PhantomData;

use metrics::{Counter, Gauge, Histogram, Unit};

use super::labels::{AnswerClass, ConnectPhase, Direction, Path, RequestKind, code_names};
use super::port::Port;

/// The type of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SeriesKind {
    /// Counts whole numbers, from 0 at the start of the process.
    Counter,
    /// A counter of fractions. The exporter counts whole numbers only, so this is a gauge inside.
    FractionalCounter,
    /// A value that goes up and down.
    Gauge,
    /// Samples by size.
    Histogram(&'static Buckets),
}

/// Upper bounds of the buckets of a histogram.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Names the bounds in the document.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the document"))]
    pub(crate) name: &'static str,
    /// The bounds, ascending, without the infinite one.
    pub(crate) bounds: &'static [f64],
}

/// A label with its closed set of values.
#[derive(Debug)]
pub(crate) struct Label {
    /// Its name.
    pub(crate) name: &'static str,
    /// All values that it can have.
    pub(crate) values: fn() -> Vec<&'static str>,
    /// What it tells apart.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the document"))]
    pub(crate) meaning: &'static str,
}

/// One series: a name with a set of labels.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its name; ends in its unit, or in `_total`.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) kind: SeriesKind,
    /// What its value counts.
    pub(crate) unit: Unit,
    /// Its labels. Every combination of their values is exported from the start.
    pub(crate) labels: &'static [&'static Label],
    /// One or two sentences.
    pub(crate) help: &'static str,
}

/// Names a series to record. `H` is the sort of handle that records it, `N` the number of its labels.
#[derive(Debug)]
pub(crate) struct Id<H, const N: usize> {
    /// The position of the series in [`ALL`].
    pub(crate) at: usize,
    handle: PhantomData<fn() -> H>,
}

/// Bounds of times from an exchange on one machine to the longest deadline, in seconds.
pub(crate) const LATENCY: Buckets = Buckets {
    name: "latency",
    bounds: &[
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 30.0,
    ],
};
/// Bounds of the times that large work takes, in seconds.
pub(crate) const WORK: Buckets =
    Buckets { name: "work", bounds: &[0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0] };
/// Bounds of the sizes of batches; 500 events are the most.
pub(crate) const BATCH: Buckets =
    Buckets { name: "batch", bounds: &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 500.0] };

const KIND: Label = Label {
    name: "kind",
    values: || RequestKind::NAMES.to_vec(),
    meaning: "a call is answered by a reply, a message by an acknowledgement",
};
const OUTCOME: Label = Label {
    name: "outcome",
    values: code_names,
    meaning: "the code that the request ended with (PROTOCOL 8); `other` is every code without a name",
};
const REASON: Label = Label {
    name: "reason",
    values: code_names,
    meaning: "the code of the disconnect (PROTOCOL 8); `other` is every code without a name",
};
const PORT: Label =
    Label { name: "port", values: || Port::ALL.map(Port::name).to_vec(), meaning: "the listener" };
const DIRECTION: Label =
    Label { name: "direction", values: || Direction::NAMES.to_vec(), meaning: "which side sent the request" };
const RESULT: Label = Label {
    name: "result",
    values: || AnswerClass::NAMES.to_vec(),
    meaning: "`timeout`: no answer within the deadline; `error`: any other failure",
};
const PATH: Label = Label {
    name: "path",
    values: || Path::NAMES.to_vec(),
    meaning: "`remote`: the receiver is connected to another node; `local`: to this one, or there was no receiver",
};
const PHASE: Label = Label {
    name: "phase",
    values: || ConnectPhase::NAMES.to_vec(),
    meaning: "`admission`: from the hello to the welcome; `commit`: the part of it until the session's row is committed",
};
const VERSION: Label = Label {
    name: "version",
    values: || vec![env!("CARGO_PKG_VERSION")],
    meaning: "the version of the program",
};

/// Writes the [`Id`] of each series, and the list of all.
macro_rules! dictionary {
    ($($id:ident: $handle:ident = $name:literal, $kind:expr, $unit:ident, [$($label:ident),*], $help:literal;)*) => {
        /// The positions of the series.
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "these are the names of the constants")]
        enum At { $($id),* }

        $(
            #[doc = $help]
            pub(crate) const $id: Id<$handle, { <[&str]>::len(&[$(stringify!($label)),*]) }> =
                Id { at: At::$id as usize, handle: PhantomData };
        )*

        /// All series, in the order of the document.
        pub(crate) const ALL: &[Series] = &[$(Series {
            name: $name,
            kind: $kind,
            unit: Unit::$unit,
            labels: &[$(&$label),*],
            help: $help,
        }),*];
    };
}

dictionary! {
    ACCEPTED: Counter = "limes_connections_accepted_total", SeriesKind::Counter, Count, [],
        "Connections of edges and services accepted.";
    REFUSED: Counter = "limes_connections_refused_total", SeriesKind::Counter, Count, [],
        "Edges and services refused after their hello.";
    TURNED_AWAY: Counter = "limes_connections_turned_away_total", SeriesKind::Counter, Count, [],
        "Connections closed at once because there were too many.";
    CLOSED: Counter = "limes_connections_closed_total", SeriesKind::Counter, Count, [],
        "Connections ended.";
    CLOSED_BY_NODE: Counter = "limes_connections_closed_by_node_total", SeriesKind::Counter, Count, [],
        "Connections that the node ended.";
    DISCONNECTS: Counter = "limes_connections_cut_total", SeriesKind::Counter, Count, [PORT, REASON],
        "Connections that the node ended because the peer broke a rule or crossed a limit.";
    CONNECT: Histogram = "limes_connect_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [PHASE],
        "How long edges and services that were admitted waited, by phase.";
    ORPHANS: Counter = "limes_ghosts_total", SeriesKind::Counter, Count, [],
        "Rows of this node that had no session and were removed.";
    REQUESTS: Counter = "limes_requests_total", SeriesKind::Counter, Count, [KIND, OUTCOME],
        "Calls and messages of peers of this node, by how they ended.";
    CALLS: Histogram = "limes_call_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [DIRECTION, RESULT, PATH],
        "Time from reading a call to writing its answer, on the caller's node. A sample of one in 7 of all calls and messages; canceled calls, and calls refused because of a limit of their connection, are not measured.";
    ACKS: Histogram = "limes_message_ack_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [DIRECTION, RESULT, PATH],
        "Time from reading a message to writing its acknowledgement, on the sender's node. Sampled as calls are.";
    STREAMS: Counter = "limes_streams_total", SeriesKind::Counter, Count, [],
        "Streams relayed to their end.";
    STREAM_BYTES: Counter = "limes_stream_bytes_total", SeriesKind::Counter, Bytes, [],
        "Bytes of streams relayed.";
    SLOW_STREAMS: Counter = "limes_slow_streams_total", SeriesKind::Counter, Count, [],
        "Streams of the reference's clients closed because their receivers are too slow.";
    SESSIONS: Gauge = "limes_sessions", SeriesKind::Gauge, Count, [],
        "Sessions of edges and services on this node.";
    EDGES: Gauge = "limes_edges", SeriesKind::Gauge, Count, [],
        "Edges of the whole cluster.";
    SERVICES: Gauge = "limes_services", SeriesKind::Gauge, Count, [],
        "Sessions of services of the whole cluster.";
    READY: Gauge = "limes_ready", SeriesKind::Gauge, Count, [],
        "1 while this node has a quorum and admits edges and services.";
    MEMORY: Gauge = "limes_memory_resident_bytes", SeriesKind::Gauge, Bytes, [],
        "Resident memory of the process as measured for limits.memory; 0 without that limit.";
    LEADER: Gauge = "limes_raft_leader", SeriesKind::Gauge, Count, [],
        "1 while this node is the leader.";
    TERM: Gauge = "limes_raft_term", SeriesKind::Gauge, Count, [],
        "The current term.";
    APPLIED: Gauge = "limes_raft_applied", SeriesKind::Gauge, Count, [],
        "Index of the newest entry applied.";
    LAST_LOG: Gauge = "limes_raft_last_log", SeriesKind::Gauge, Count, [],
        "Index of the newest entry of the log.";
    VOTERS: Gauge = "limes_raft_voters", SeriesKind::Gauge, Count, [],
        "Members that vote.";
    COMMIT: Histogram = "limes_raft_commit_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [],
        "Time from the submission of an event on this node to its verdict.";
    APPLY: Histogram = "limes_raft_apply_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [],
        "Time to read and apply one group of committed entries.";
    FSYNC: Histogram = "limes_raft_fsync_duration_seconds", SeriesKind::Histogram(&LATENCY), Seconds, [],
        "Time of one fdatasync of the log.";
    BATCH_EVENTS: Histogram = "limes_raft_batch_events", SeriesKind::Histogram(&BATCH), Count, [],
        "Events in one proposed batch.";
    QUEUE_DEPTH: Gauge = "limes_raft_queue_depth", SeriesKind::Gauge, Count, [],
        "Events of this node that have no verdict yet.";
    SNAPSHOT_BUILD: Histogram = "limes_raft_snapshot_build_duration_seconds", SeriesKind::Histogram(&WORK), Seconds, [],
        "Time to build and store one snapshot.";
    SNAPSHOT_INSTALL: Histogram = "limes_raft_snapshot_install_duration_seconds", SeriesKind::Histogram(&WORK), Seconds, [],
        "Time to check, store and load one snapshot that the leader sent.";
    LOG_BYTES: Gauge = "limes_raft_log_bytes", SeriesKind::Gauge, Bytes, [],
        "Bytes of the entries that the log holds.";
    BUILD: Gauge = "limes_build_info", SeriesKind::Gauge, Count, [VERSION],
        "Always 1; the label names the build.";
    CPU: Gauge = "process_cpu_seconds_total", SeriesKind::FractionalCounter, Seconds, [],
        "User and system CPU time of the process.";
    RESIDENT: Gauge = "process_resident_memory_bytes", SeriesKind::Gauge, Bytes, [],
        "Resident memory of the process.";
    OPEN_FDS: Gauge = "process_open_fds", SeriesKind::Gauge, Count, [],
        "Open file descriptors.";
    MAX_FDS: Gauge = "process_max_fds", SeriesKind::Gauge, Count, [],
        "Most file descriptors that the process may open.";
    START_TIME: Gauge = "process_start_time_seconds", SeriesKind::Gauge, Seconds, [],
        "When the process started, in seconds since the Unix epoch.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let names: BTreeSet<&str> = ALL.iter().map(|series| series.name).collect();
        assert_eq!(names.len(), ALL.len());
        for series in ALL {
            let name = series.name.strip_suffix("_total").unwrap_or(series.name);
            let unit = match series.unit {
                Unit::Seconds => "_seconds",
                Unit::Bytes => "_bytes",
                _ => "",
            };
            assert!(name.ends_with(unit), "{} does not end in {unit}", series.name);
            let counts = matches!(series.kind, SeriesKind::Counter | SeriesKind::FractionalCounter);
            assert_eq!(series.name.ends_with("_total"), counts, "{}", series.name);
        }
    }

    #[test]
    fn a_label_has_the_same_values_in_every_series() {
        for label in ALL.iter().flat_map(|series| series.labels) {
            for other in ALL.iter().flat_map(|series| series.labels) {
                assert!(label.name != other.name || (label.values)() == (other.values)(), "{}", label.name);
            }
        }
    }

    #[test]
    fn bounds_ascend() {
        for series in ALL {
            if let SeriesKind::Histogram(buckets) = series.kind {
                assert!(buckets.bounds.is_sorted() && !buckets.bounds.is_empty(), "{}", series.name);
            }
        }
    }
}
