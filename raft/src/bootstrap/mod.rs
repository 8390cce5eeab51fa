//! Bootstrap: how a member gets its identity, by founding a cluster, by joining one, or by finding out that
//! the identity on its disk is still valid.
//!
//! The first founder by the order of `cluster.initial` makes the cluster, once every other founder has
//! answered that it has no cluster id. It writes its own identity first, then gives each other founder its
//! number, and initialises Raft when all have written theirs. A founder that is restarted in between
//! continues where it was, even if it lost its disk. Every other node joins: it asks until a cluster answers.
//!
//! ```text
//! identify -> open the data directory -> identity there? -> verify it (home, staleness)
//!                  | damaged: quarantine        | none
//!                  v                            v
//!              open again              search: join a cluster, or found one (found)
//! ```

mod error;
mod found;
mod home;
mod identify;
mod pre_boot;
mod recover;
mod search;
mod staleness;

pub use error::StartError;
pub(crate) use found::initialize;
pub(crate) use identify::{Booted, identify};
pub use pre_boot::IdentityError;
pub(crate) use pre_boot::PreBoot;
pub use recover::{RecoverError, Recovered, recover};
