//! Every setting of a node: one struct, from which the file, the environment, the commented default
//! and all complaints come.

mod addr;
mod addresses;
mod check;
mod choice;
mod cluster;
mod env;
mod lax;
mod limits;
mod listen;
mod load;
mod mistake;
mod node;
mod print;
mod read;
mod reference;
mod setting;
#[cfg(test)]
mod tests;
mod tls;
mod unit;

pub use addr::Addr;
pub use addresses::Addresses;
pub use choice::{HashBy, Level};
pub use cluster::{Cluster, Election, IsolatedClose, Member};
pub use limits::{Cap, Limits, Mark};
pub use listen::{Bound, Bypass, Control, Discovery, Edgebound, Listen};
pub use load::Loaded;
pub use mistake::{ConfigError, Mistake};
pub use node::{Daemon, Exchange, Log, NodeConfig};
pub use tls::{CertPair, DialTls, Tls};
pub use unit::Size;
