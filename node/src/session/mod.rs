//! SessionRegistry of edges and services: in-flight tables shared by both protocols, and one module for each.

pub(crate) mod geminio;
pub(crate) mod incoming;
pub(crate) mod native;
pub(crate) mod outgoing;
