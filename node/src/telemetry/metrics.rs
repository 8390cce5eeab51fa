//! Counters, and what the metrics port says.

use std::sync::atomic::{AtomicU64, Ordering};

use limes_wire::{By, CloseReason, Code};

use crate::router::message::Kind;
use crate::telemetry::port::Port;

/// Counters of a node; all from its start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    accepted: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    closed: AtomicU64,
    closed_by_us: AtomicU64,
    ghosts: AtomicU64,
    streams: AtomicU64,
    stream_bytes: AtomicU64,
    slow_streams: AtomicU64,
    requests: [Outcomes; 2],
    cut: [Outcomes; Port::ALL.len()],
}

/// Requests of one kind by the code that they ended with.
#[derive(Debug)]
struct Outcomes([AtomicU64; CODES]);

/// Codes that are counted one by one; what a peer makes up beyond them is counted together.
const CODES: usize = 64;

impl Default for Outcomes {
    fn default() -> Self {
        Outcomes(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Writes a counter with two labels, the second a code; what is 0 is left out.
fn by_code<'a>(
    text: &mut String,
    name: &str,
    help: &str,
    (label, code): (&str, &str),
    rows: impl Iterator<Item = (&'a str, &'a Outcomes)>,
) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
    for (row, Outcomes(counters)) in rows {
        for (number, counter) in (0..).zip(counters) {
            let value = counter.load(Ordering::Relaxed);
            if value > 0 {
                let number = Code(number);
                text.push_str(&format!("{name}{{{label}=\"{row}\",{code}=\"{number}\"}} {value}\n"));
            }
        }
    }
}

impl Metrics {
    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        count(&self.accepted, 1);
    }

    /// A newcomer was refused after its hello.
    pub(crate) fn refused(&self) {
        count(&self.refused, 1);
    }

    /// A connection was closed because there are too many.
    pub(crate) fn turned_away(&self) {
        count(&self.turned_away, 1);
    }

    /// A connection ended.
    pub(crate) fn closed(&self, reason: &CloseReason) {
        count(&self.closed, 1);
        if reason.by == By::Us {
            count(&self.closed_by_us, 1);
        }
    }

    /// The node ended a connection whose peer broke a rule or crossed a limit.
    pub(crate) fn disconnected(&self, port: Port, code: Code) {
        let at = usize::try_from(code.0).unwrap_or(CODES).min(CODES - 1);
        count(&self.cut[port as usize].0[at], 1);
    }

    /// A row of this node had no session here, and nothing had been proposed about it.
    pub(crate) fn ghost(&self) {
        count(&self.ghosts, 1);
    }

    /// A stream ended after so many bytes.
    pub(crate) fn stream_ended(&self, bytes: u64) {
        count(&self.streams, 1);
        count(&self.stream_bytes, bytes);
    }

    /// A stream was closed because its receiver is too slow for a sender that cannot be slowed down.
    pub(crate) fn slow_stream(&self) {
        count(&self.slow_streams, 1);
    }

    /// A call or message of a peer of this node has ended.
    pub(crate) fn ended(&self, kind: Kind, outcome: Code) {
        let Outcomes(outcomes) = &self.requests[usize::from(kind == Kind::Message)];
        let at = usize::try_from(outcome.0).unwrap_or(CODES).min(CODES - 1);
        count(&outcomes[at], 1);
    }

    pub(crate) fn requests(&self, text: &mut String) {
        let rows = ["call", "message"].into_iter().zip(&self.requests);
        let help = "Calls and messages of peers of this node, by how they ended.";
        by_code(text, "limes_requests_total", help, ("kind", "outcome"), rows);
    }

    pub(crate) fn cuts(&self, text: &mut String) {
        let rows = Port::ALL.iter().map(|port| port.name()).zip(&self.cut);
        let help = "Connections whose peer broke a rule or crossed a limit.";
        by_code(text, "limes_connections_cut_total", help, ("port", "reason"), rows);
    }

    pub(crate) fn series(&self) -> [(&'static str, &'static str, &AtomicU64); 9] {
        [
            (
                "limes_connections_accepted_total",
                "Connections of edges and services accepted",
                &self.accepted,
            ),
            ("limes_connections_refused_total", "Newcomers refused after their hello", &self.refused),
            ("limes_connections_turned_away_total", "Connections over the limit", &self.turned_away),
            ("limes_connections_closed_total", "Connections ended", &self.closed),
            ("limes_connections_closed_by_node_total", "Connections that the node ended", &self.closed_by_us),
            ("limes_ghosts_total", "Rows of this node that had no session and were taken out", &self.ghosts),
            ("limes_streams_total", "Streams relayed to their end", &self.streams),
            ("limes_stream_bytes_total", "Bytes of streams relayed", &self.stream_bytes),
            (
                "limes_slow_streams_total",
                "Streams of the reference's clients closed because their receivers are too slow",
                &self.slow_streams,
            ),
        ]
    }
}
