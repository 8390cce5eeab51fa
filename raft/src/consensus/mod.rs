//! Agreement: proposals, the state machine, reads, and what a running member does by itself.
//!
//! ```text
//! Proposer ---- batch ----> leader's Raft ---- entries ----> StateMachine
//!    ^                          |                                |
//!    |                     SegmentLog (storage)                  | apply
//!    +------- verdicts ------- AppliedState <--------------------+---> Observer, History
//! ReadBarriers -- ReadIndex --> leader; then waits for AppliedState
//! ```

pub(crate) mod applied;
pub(crate) mod cache_writer;
pub(crate) mod health;
pub(crate) mod member;
pub(crate) mod propose;
pub(crate) mod proposer;
pub(crate) mod read_barrier;
pub(crate) mod registration;
pub(crate) mod snapshot_schedule;
pub(crate) mod state_machine;
