//! Judges the calls of a run: R4 and R6.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::workload::{End, History};

/// Longest time that a call may take: its deadline of 5 s, and a margin for a busy machine.
const LATEST: Duration = Duration::from_secs(6);

/// The figures of a run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Calls in all.
    pub calls: usize,
    /// Calls that failed.
    pub failed: usize,
    /// The longest time of a call that succeeded.
    pub slowest: Duration,
    /// Failures by their text.
    pub failures: BTreeMap<String, usize>,
}

/// The figures, and each guarantee that did not hold, in one line; none: the run passed.
pub fn judge(history: &History) -> (Figures, Vec<String>) {
    let mut broken = Vec::new();
    let mut figures = Figures { calls: history.operations.len(), ..Figures::default() };
    for operation in &history.operations {
        let ran = history.ran.get(&operation.number).copied().unwrap_or(0);
        let number = operation.number;
        match &operation.end {
            End::Ok if ran == 1 => figures.slowest = figures.slowest.max(operation.took),
            End::Ok => broken.push(format!("R6 call {number} succeeded, but ran {ran} times")),
            End::Wrong => broken.push(format!("R6 call {number} got the reply of another call")),
            End::NotRun(text) => {
                figures.fail(text);
                if ran > 0 {
                    broken.push(format!("R6 call {number} failed as \"not run\", but ran: {text}"));
                }
            }
            End::MayHaveRun(text) => {
                figures.fail(text);
                if ran > 1 {
                    broken.push(format!("R6 call {number} ran {ran} times"));
                }
            }
        }
        if operation.took > LATEST {
            broken.push(format!("R6 call {number} took {:?}, past its deadline of 5 s", operation.took));
        }
    }
    if history.lost_ids > 0 {
        broken.push(format!("{} edges lost their ids", history.lost_ids));
    }
    if history.unreachable > 0 {
        broken.push(format!(
            "R4 {} edges could not be called after all faults were healed",
            history.unreachable
        ));
    }
    (figures, broken)
}

impl Figures {
    fn fail(&mut self, text: &str) {
        self.failed += 1;
        *self.failures.entry(text.to_owned()).or_default() += 1;
    }
}
