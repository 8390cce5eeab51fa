//! The settings of a client, and the builder methods that edges and services share.

use std::time::Duration;

use bytes::Bytes;
use limes_wire::frame::{Hello, Role};
use limes_wire::limits;

use crate::tls::Tls;

/// The settings of a client.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) addresses: Vec<String>,
    pub(crate) name: String,
    pub(crate) meta: Bytes,
    /// Resume ticket; empty if there is none.
    pub(crate) ticket: Bytes,
    /// Tells instances of one service apart.
    pub(crate) instance: Option<[u8; 16]>,
    pub(crate) keepalive: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) tls: Option<Tls>,
}

impl Options {
    pub(crate) fn new(role: Role, name: &str) -> Self {
        Options {
            role,
            addresses: Vec::new(),
            name: name.to_owned(),
            meta: Bytes::new(),
            ticket: Bytes::new(),
            instance: None,
            keepalive: limits::KEEPALIVE,
            call_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            backoff_max: Duration::from_secs(5),
            tls: None,
        }
    }

    pub(crate) fn hello(&self, ticket: Bytes, moving: bool) -> Hello {
        Hello {
            role: self.role,
            name: self.name.clone(),
            meta: self.meta.clone(),
            instance: self.instance.unwrap_or_default(),
            keepalive: self.keepalive,
            ticket,
            moving,
            ..Hello::default()
        }
    }
}

/// The methods that both builders share.
macro_rules! common_options {
    () => {
        /// Adds an address, `host:port`. With several, each connect begins at another of them.
        pub fn address(mut self, address: impl Into<String>) -> Self {
            self.0.addresses.push(address.into());
            self
        }

        /// Adds addresses.
        pub fn addresses<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
            self.0.addresses.extend(addresses.into_iter().map(Into::into));
            self
        }

        /// Data about this client that its peers get, up to 65,535 bytes.
        pub fn meta(mut self, meta: impl Into<bytes::Bytes>) -> Self {
            self.0.meta = meta.into();
            self
        }

        /// Silence after which the connection is tested; 20 s by default.
        pub fn keepalive(mut self, keepalive: std::time::Duration) -> Self {
            self.0.keepalive = keepalive;
            self
        }

        /// Time limit of calls, messages and streams without one of their own; 30 s by default.
        pub fn call_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.0.call_timeout = timeout;
            self
        }

        /// Time limit of the first connect, over all addresses; 10 s by default.
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.0.connect_timeout = timeout;
            self
        }

        /// Uses TLS; in the clear by default.
        pub fn tls(mut self, tls: crate::tls::Tls) -> Self {
            self.0.tls = Some(tls);
            self
        }

        /// Longest pause between attempts to reconnect; 5 s by default.
        pub fn backoff_max(mut self, pause: std::time::Duration) -> Self {
            self.0.backoff_max = pause;
            self
        }
    };
}
pub(crate) use common_options;
