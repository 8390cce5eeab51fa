//! Every setting of a node. One struct, [`NodeConfig`], is the source of the file's keys, the
//! environment variables, the commented default file and all error texts.
//!
//! The *reference* is the gateway whose clients and files limes accepts: frontier 1.2.5 with its
//! directory server, frontlas. [`NodeConfig::load`] reads its files as they are.
//!
//! The reader is our own rather than serde or a configuration crate, because it reports every problem of a
//! file and of the environment at once, each with its key path; a deserializer stops at the first.

mod addr;
mod addresses;
mod check;
mod cluster;
mod env;
mod error;
mod keyword;
mod lenient;
mod limits;
mod listen;
mod load;
mod node;
mod print;
mod read;
mod reference;
mod setting;
#[cfg(test)]
mod tests;
mod tls;
mod unit;
mod value_error;

pub use addr::Addr;
pub use addresses::Addresses;
pub use cluster::{Cluster, Election, IsolatedClose, Member};
pub use error::{ConfigError, Problem};
pub use keyword::{HashBy, Level};
pub use limits::{Cap, Limits, Mark};
pub use listen::{Bound, Bypass, Control, Discovery, Edgebound, Listen};
pub use load::Loaded;
pub use node::{Daemon, Exchange, Log, NodeConfig};
pub use tls::{CertPair, DialTls, Tls};
pub use unit::Size;
