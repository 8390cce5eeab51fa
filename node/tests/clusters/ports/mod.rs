//! The ports of a node: TLS, limits, and hostile peers beside well-behaved ones.

mod hostile;
mod limits;
mod raw;
mod tls;
mod traffic;
mod violations;
