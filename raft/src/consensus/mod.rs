//! Proposals, applied state and reads.

pub(crate) mod member;
pub(crate) mod proposer;
pub(crate) mod read_barrier;
pub(crate) mod state_machine;
pub(crate) mod upkeep;
