//! Judges a run of crashes: every acknowledged event is in the log of every node, once and in one position.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Event, History, Incarnation, Seen};

/// The result of judging a history.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events that were acknowledged.
    pub acknowledged: usize,
    /// Kills of all nodes at the same moment.
    pub kills: usize,
    /// Audits of one node.
    pub audits: usize,
    /// Each guarantee that did not hold, in one line.
    pub broken: Vec<String>,
}

/// What one node has reported in all its audits.
#[derive(Default)]
struct Log<'a> {
    to: u64,
    /// Revisions that the node had certainly reached, each with the time of the report.
    reached: Vec<(u64, u64)>,
    seen: Vec<&'a Seen>,
}

impl History {
    /// Whether every acknowledged event is in the log of every node, once and in one position.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let logs = self.logs(&mut verdict);
        verdict.kills = self.kills_of_all();
        compare_logs(&logs, &mut verdict);
        self.judge_acknowledged(&logs, &mut verdict);
        verdict
    }

    /// Collects each node's audits; an audit must continue where the one before ended.
    fn logs(&self, verdict: &mut Verdict) -> BTreeMap<usize, Log<'_>> {
        let mut logs: BTreeMap<usize, Log<'_>> = BTreeMap::new();
        for event in &self.events {
            let Event::Audited { node, after, to, at, seen } = event else { continue };
            let log = logs.entry(*node).or_default();
            if log.to != *after || to < after {
                verdict.broken.push(format!("R9 node-{} went back from {after} to {to}", node + 1));
            }
            log.to = *to;
            log.reached.push((*to, *at));
            log.seen.extend(seen);
            verdict.audits += 1;
        }
        if logs.is_empty() {
            verdict.broken.push("no node was audited: nothing is proven".to_owned());
        }
        logs
    }

    /// Kills of as many nodes as the largest kill.
    fn kills_of_all(&self) -> usize {
        let sizes = self.events.iter().filter_map(|event| match event {
            Event::Killed { nodes, .. } => Some(nodes.len()),
            _ => None,
        });
        let sizes: Vec<usize> = sizes.collect();
        let all = sizes.iter().max();
        sizes.iter().filter(|size| Some(*size) == all).count()
    }

    fn judge_acknowledged(&self, logs: &BTreeMap<usize, Log<'_>>, verdict: &mut Verdict) {
        let held: Vec<BTreeSet<(u64, Incarnation)>> = logs
            .values()
            .map(|log| log.seen.iter().map(|seen| (seen.edge, seen.incarnation)).collect())
            .collect();
        let (mut ids, mut positions) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.events {
            let Event::Acknowledged { edge, incarnation, fresh, asked, .. } = event else { continue };
            verdict.acknowledged += 1;
            let name = format!("edge {edge} as {}.{}", incarnation.0, incarnation.1);
            for ((node, log), held) in logs.iter().zip(&held) {
                let node = node + 1;
                if !held.contains(&(*edge, *incarnation)) {
                    verdict.broken.push(format!("R9 {name} was acknowledged, and node-{node} has lost it"));
                }
                // A request that is made after a node has reached a revision gets a later one.
                if log.reached.iter().any(|(to, at)| at < asked && incarnation.0 <= *to) {
                    verdict.broken.push(format!(
                        "R9 {name} is at a position that node-{node} had reached before the request"
                    ));
                }
            }
            if !positions.insert(*incarnation) {
                verdict.broken.push(format!("R3 {name} has the position of another event"));
            }
            if *fresh && !ids.insert(*edge) {
                verdict.broken.push(format!("the id of {name} was allotted twice"));
            }
        }
    }
}

/// Up to the revision that all nodes have reached, their logs must be the same.
fn compare_logs(logs: &BTreeMap<usize, Log<'_>>, verdict: &mut Verdict) {
    let common = logs.values().map(|log| log.to).min().unwrap_or(0);
    let shared = |log: &Log<'_>| -> Vec<Seen> {
        log.seen.iter().filter(|seen| seen.revision <= common).map(|seen| (*seen).clone()).collect()
    };
    let mut all = logs.iter().map(|(node, log)| (node + 1, shared(log)));
    let Some((first, expected)) = all.next() else { return };
    for (node, other) in all {
        let length = expected.len().max(other.len());
        if let Some(at) = (0..length).find(|at| expected.get(*at) != other.get(*at)) {
            let (one, two) = (expected.get(at), other.get(at));
            verdict
                .broken
                .push(format!("R9 node-{first} and node-{node} have different logs: {one:?} and {two:?}"));
        }
    }
}
