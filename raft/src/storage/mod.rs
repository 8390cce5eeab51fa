//! The data directory of a member, and the formats of what lies in it.
//!
//! | file | holds | module |
//! |---|---|---|
//! | `identity` | the cluster id, the member's number, its boot count | [`identity`] |
//! | `log/` | votes and entries, durable before they are acknowledged | [`log`] |
//! | `snapshot` | the tables at one index | [`snapshot`] |
//! | `members` | the members as this one last knew them | [`member_cache`] |
//!
//! [`data_dir`] opens all of them together and detects damage; [`quarantine`] moves a directory that
//! cannot be trusted out of the way. Losing `members` costs an answer to a peer; losing anything else
//! means joining again as a new member.

pub(crate) mod atomic;
pub(crate) mod codec;
pub(crate) mod data_dir;
pub(crate) mod identity;
pub mod log;
pub(crate) mod member_cache;
pub(crate) mod quarantine;
pub(crate) mod snapshot;
