//! Calls that this side answers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

/// A call to be answered.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller: an edge's id at a service, a service's id at an edge.
    pub peer: u64,
    /// The method.
    pub method: String,
    /// The payload.
    pub body: Bytes,
    /// How long the caller still waits. When it stops waiting, the handler's future is dropped.
    pub deadline: Duration,
}

/// A handler's own error; the caller gets its text, one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Failed(text.into())
    }
}

type HandlerFuture = Pin<Box<dyn Future<Output = Result<Bytes, Failed>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Call) -> HandlerFuture + Send + Sync>;

/// The handlers of this side, by method.
#[derive(Default)]
pub(crate) struct Methods(RwLock<HashMap<String, Handler>>);

impl Methods {
    /// Adds a handler; gives the one that it replaces.
    pub(crate) fn insert<F, A>(&self, method: &str, handler: F) -> Option<Handler>
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Failed>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.0.write().insert(method.to_owned(), handler)
    }

    /// Undoes an insert, given what it returned.
    pub(crate) fn restore(&self, method: &str, previous: Option<Handler>) {
        let mut all = self.0.write();
        match previous {
            Some(handler) => all.insert(method.to_owned(), handler),
            None => all.remove(method),
        };
    }

    pub(crate) fn remove(&self, method: &str) {
        self.0.write().remove(method);
    }

    pub(crate) fn get(&self, method: &str) -> Option<Handler> {
        self.0.read().get(method).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.read().keys().cloned().collect()
    }
}
