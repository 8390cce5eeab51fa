//! limes.
