//! Edges and services of a limes cluster.
//!
//! An [`Edge`] is a device, agent or site; a [`Service`] is a back end. Both dial a node of the cluster. Either side
//! calls the other, sends acknowledged messages and opens streams through the cluster, at whichever nodes the two are
//! connected.
//!
//! ```text
//!   your code ──▶ Edge / Service ──▶ request ──▶ LinkHandle ══▶ Link: one task per connection ══▶ a node
//!       ▲              │                                           │ requests, handlers in flight
//!       │              └──▶ reconnect: one task per client ◀───────┤ LinkEvent: opened, go-away, closed
//!       └── handlers, receive(), accept_stream() ◀─────────────────┘
//! ```
//!
//! A client reconnects by itself, to another node if need be, and restores its registrations; an edge keeps its id.
//! A node that drains announces it to its clients, which move without a failed call.
//!
//! Every failure is a [`CallError`] with a [`Kind`]; it tells whether the call may have run. Dropping the future of a
//! call cancels it, at the receiver too. A caller that sends faster than the cluster takes waits. Connections, calls
//! and handlers are `tracing` spans (`limes.connection`, `limes.call`, `limes.handler`).
//!
//! ```no_run
//! use limes_sdk::{Edge, Service};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let service = Service::builder("greeter").address("127.0.0.1:30011").connect().await?;
//! service.register("greet", |call| async move { Ok([b"hello ", &call.body[..]].concat().into()) }).await?;
//!
//! let edge = Edge::builder().address("127.0.0.1:30012").connect().await?;
//! let reply = edge.call("greet", "world").await?;
//! assert_eq!(&reply[..], b"hello world");
//! # Ok(())
//! # }
//! ```
//!
//! # Tasks
//!
//! | task | if it panics |
//! |---|---|
//! | `reconnect`, one per client | the client closes |
//! | `Link`, one per connection | the client reconnects |
//! | a handler, one per call | the caller gets an error |
//! | the acceptance of a stream | the stream is reset |
//!
//! [`Edge::close`] and [`Service::close`] cancel the first, which ends the others; so does dropping the last clone.
//!
//! # Layers
//! A module uses only those before it: (`error`, `tls`, `callback`, `stream`, `backoff`, `addresses`, `goaway`),
//! (`call`, `options`), `command`, (`message`, `connection`), `client`, (`request`, `link`), `reconnect`, (`edge`,
//! `service`).

mod addresses;
mod backoff;
mod call;
mod callback;
mod client;
mod command;
mod connection;
mod edge;
mod error;
mod goaway;
mod link;
mod message;
mod options;
mod reconnect;
mod request;
mod service;
mod stream;
mod tls;

pub use bytes::Bytes;
pub use call::{Call, Failed};
pub use callback::EdgeFacts;
pub use client::State;
pub use edge::{Edge, EdgeBuilder};
pub use error::{CallError, ConnectError, Kind, OpenError, PublishError};
pub use message::Message;
pub use service::{Service, ServiceBuilder};
pub use stream::{Incoming, Stream};
pub use tls::{Tls, TlsError};
