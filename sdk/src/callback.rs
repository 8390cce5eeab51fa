//! The gateway's questions to services about edges.

pub use limes_wire::callback::EdgeFacts;
