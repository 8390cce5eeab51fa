//! The replica: assembles the parts of a member, and is their public handle.

mod handle;
mod service;

pub use handle::Replica;
