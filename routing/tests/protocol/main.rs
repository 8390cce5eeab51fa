//! A model check of the session protocol over the real tables, up to a bound: two nodes, two edges that connect to
//! either, connections that end, processes that crash and restart, nodes that are declared down while they run,
//! abandoned proposals that commit late or twice, batches that a snapshot skips. The rules must hold in each reachable
//! state.
//!
//! The second half validates the first: without one of the fences the checker finds the violated rule.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod model;
mod node;
mod rules;

use model::{Bounds, Mutant, Protocol};
use stateright::{Checker, Model};

/// Runs the checker; shows each violated rule with the steps that lead to it.
fn explore(model: Protocol) -> impl Checker<Protocol> {
    model.checker().threads(2).spawn_dfs().join()
}

/// Every rule holds in every state, and the events that the bounds allow do happen.
fn holds(bounds: Bounds, happens: &[&'static str]) {
    let checker = explore(Protocol { bounds, mutant: None });
    println!(
        "{bounds:?}: {} states, {} of them different",
        checker.state_count(),
        checker.unique_state_count()
    );
    for rule in rules::ALWAYS {
        if let Some(path) = checker.discovery(rule) {
            panic!("broken: {rule}\n{:?}\n{:#?}", path.clone().into_actions(), path.last_state());
        }
    }
    for happening in happens {
        assert!(checker.discovery(happening).is_some(), "it never happens that {happening}");
    }
}

#[test]
fn takeovers_and_late_ends() {
    let bounds = Bounds { connects: 3, ends: 1, again: 1, ..Bounds::default() };
    holds(bounds, &[rules::TAKEOVER, rules::LATE, rules::TWICE]);
}

#[test]
fn nodes_declared_down_while_they_run() {
    let bounds = Bounds { connects: 2, ends: 1, downs: 1, jumps: 1, ..Bounds::default() };
    holds(bounds, &[rules::DEAD, rules::REVIVED, rules::TAKEN, rules::UNRESUMED]);
}

#[test]
fn nodes_declared_down_twice_and_dropped() {
    let bounds = Bounds { connects: 1, downs: 2, drops: 1, ..Bounds::default() };
    holds(bounds, &[rules::REVIVED, rules::DROPPED]);
}

#[test]
fn repeated_proposals_of_an_ended_epoch() {
    let bounds = Bounds { connects: 2, downs: 1, again: 1, ..Bounds::default() };
    holds(bounds, &[rules::TWICE, rules::DEAD, rules::TAKEN]);
}

#[test]
fn processes_that_crash_and_restart() {
    let bounds = Bounds { connects: 2, crashes: 1, downs: 1, ..Bounds::default() };
    holds(bounds, &[rules::DEAD, rules::RESTARTED]);
}

#[test]
fn processes_that_crash_twice() {
    let bounds = Bounds { connects: 1, crashes: 2, drops: 1, ..Bounds::default() };
    holds(bounds, &[rules::OLD_BOOT, rules::RESTARTED]);
}

/// The same with larger bounds for everything.
#[test]
#[ignore = "minutes: cargo test --release --workspace --test protocol -- --ignored --nocapture"]
fn larger_model() {
    let takeovers = Bounds { connects: 3, ends: 1, downs: 1, ..Bounds::default() };
    holds(takeovers, &[rules::TAKEOVER, rules::LATE, rules::DEAD, rules::REVIVED, rules::TAKEN]);
    let crashes = Bounds { connects: 2, ends: 1, crashes: 1, downs: 1, jumps: 1, ..Bounds::default() };
    holds(crashes, &[rules::DEAD, rules::RESTARTED]);
}

/// Without a fence the checker finds the rule that needs it.
fn is_caught(mutant: Mutant, bounds: Bounds, by: &[&'static str]) {
    let checker = explore(Protocol { bounds, mutant: Some(mutant) });
    let broken: Vec<&str> =
        rules::ALWAYS.into_iter().filter(|rule| checker.discovery(rule).is_some()).collect();
    println!("{mutant:?} breaks {broken:#?}");
    assert!(by.iter().any(|rule| broken.contains(rule)), "{mutant:?} breaks only {broken:?}");
}

#[test]
fn removal_without_its_incarnation_is_caught() {
    let bounds = Bounds { connects: 2, ..Bounds::default() };
    is_caught(Mutant::RemovalById, bounds, &[rules::FENCED]);
}

#[test]
fn resume_without_its_incarnation_is_caught() {
    let bounds = Bounds { connects: 2, downs: 1, jumps: 1, ..Bounds::default() };
    is_caught(Mutant::ResumeById, bounds, &[rules::FENCED]);
}

#[test]
fn batches_without_numbers_are_caught() {
    let bounds = Bounds { connects: 2, ends: 1, again: 1, ..Bounds::default() };
    is_caught(Mutant::NoNumbers, bounds, &[rules::ONCE]);
}

#[test]
fn batches_without_epochs_are_caught() {
    let bounds = Bounds { connects: 2, downs: 1, again: 1, ..Bounds::default() };
    is_caught(Mutant::NoEpoch, bounds, &[rules::ONCE, rules::WELCOME, rules::ORPHAN]);
}
