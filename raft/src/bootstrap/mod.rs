//! How a member gets its identity.

pub(crate) mod find;
pub(crate) mod pre_boot;
pub(crate) mod recover;
pub(crate) mod staleness;
