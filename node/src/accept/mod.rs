//! Accepting connections: edges, services, other nodes, and operators.

pub(crate) mod http;
mod listen;
pub(crate) mod nodes;
pub(crate) mod peers;

pub(crate) use listen::{bind, own_address};
