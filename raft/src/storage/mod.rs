//! What a member keeps on disk.

pub(crate) mod codec;
pub(crate) mod data_dir;
pub(crate) mod identity;
pub mod log;
pub(crate) mod member_cache;
pub(crate) mod quarantine;
pub(crate) mod snapshot;
