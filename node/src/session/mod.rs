//! Sessions of edges and services: what both protocols share, and one module for each.

pub(crate) mod context;
pub(crate) mod early;
pub(crate) mod geminio;
pub(crate) mod incoming;
pub(crate) mod native;
pub(crate) mod outgoing;
