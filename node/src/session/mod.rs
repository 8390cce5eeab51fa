//! Sessions of edges and services.
//!
//! [`handler::Session`] is the handler of one connection. It owns what both protocols share ([`core::SessionCore`]:
//! identity, lifecycle, requests in flight) and is generic over a [`handler::SessionProtocol`], which translates
//! between the wire and the messages of the router. [`native`] and [`geminio`] implement it.

pub(crate) mod context;
mod core;
mod early;
pub(crate) mod geminio;
mod handler;
mod incoming;
pub(crate) mod native;
pub(crate) mod outgoing;
mod state;
