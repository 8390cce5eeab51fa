//! Calls that this side answers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

/// A call to be answered.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls: an edge's id at a service, a service's id at an edge.
    pub peer: u64,
    /// The method.
    pub method: String,
    /// The payload.
    pub body: Bytes,
    /// How long the caller still waits. When it stops waiting, the handler's future is dropped.
    pub deadline: Duration,
}

/// A handler's own error, passed on to the caller as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Failed(text.into())
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Failed>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

/// The methods that this side answers.
#[derive(Default)]
pub(crate) struct Methods(RwLock<HashMap<String, Handler>>);

impl Methods {
    /// Gives the handler whose place it takes.
    pub(crate) fn insert<F, A>(&self, method: &str, handler: F) -> Option<Handler>
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Failed>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(method.to_owned(), handler)
    }

    /// Undoes an insert.
    pub(crate) fn put_back(&self, method: &str, before: Option<Handler>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(handler) => all.insert(method.to_owned(), handler),
            None => all.remove(method),
        };
    }

    pub(crate) fn remove(&self, method: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(method);
    }

    pub(crate) fn get(&self, method: &str) -> Option<Handler> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(method).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
