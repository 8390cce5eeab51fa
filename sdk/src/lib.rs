//! Be an edge or a service of a limes cluster.
//!
//! An [`Edge`] is a device, agent or site that dials in; a [`Service`] is a back end that dials in
//! too. Either side calls the other, sends acknowledged messages and opens streams through the
//! cluster, wherever the other is connected. Both reconnect by themselves, to another node if need
//! be, and bring their registrations along; an edge keeps its id. A node that stops in order says so, and
//! its clients move without a failed call.
//!
//! Every failure is a [`CallError`] of a closed set of [`Kind`]s that says whether the call may have run.
//! Dropping the future of a call cancels it, at the receiver too. Whoever sends faster than the cluster
//! takes waits. Connections, calls and handlers are `tracing` spans (`limes.connection`, `limes.call`,
//! `limes.handler`).
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

mod call;
mod callback;
mod client;
mod edge;
mod error;
mod link;
mod message;
mod options;
mod pace;
mod reconnect;
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
