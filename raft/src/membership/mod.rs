//! Who belongs to the cluster.

pub(crate) mod admin;
pub(crate) mod quorum_report;
pub(crate) mod reconcile;
