//! What the gateway tells services about edges.

pub use limes_wire::callback::EdgeFacts;
