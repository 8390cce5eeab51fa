//! What the process may take from the machine: memory and file descriptors.

pub(crate) mod descriptors;
pub(crate) mod memory;
