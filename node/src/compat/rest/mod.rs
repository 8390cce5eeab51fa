//! REST for gRPC methods: the query string is the request, the answer is the JSON form of the message.

mod answer;
mod error;
mod query;

use std::future::Future;

use axum::http::Uri;
use axum::response::Response;
use prost::Message;
use prost_reflect::ServiceDescriptor;
use tonic::{Request, Status};

pub(super) use answer::{moved, not_found};
pub(super) use query::Query;

/// One HTTP request that becomes a call of a gRPC method.
pub(super) struct Call<'a> {
    service: &'a ServiceDescriptor,
    query: Query,
}

impl<'a> Call<'a> {
    /// A call of a method of `service` with the parameters of `uri`.
    pub(super) fn new(service: &'a ServiceDescriptor, uri: &Uri) -> Self {
        Call { service, query: Query::of(uri.query().unwrap_or_default()) }
    }

    /// Sets a parameter from the path, which overrides one of the same name in the query.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.set(name, value);
        self
    }

    /// Calls the method with `run` and returns its answer or error.
    pub(super) async fn run<Q, A, F>(self, method: &str, run: impl FnOnce(Request<Q>) -> F) -> Response
    where
        Q: Message + Default,
        A: Message,
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let Some(method) = self.service.methods().find(|known| known.name() == method) else {
            return answer::failed(&Status::unimplemented("no such method"));
        };
        let request = match self.query.decode(method.input()) {
            Ok(request) => request,
            Err(error) => return answer::bad_query(&error),
        };
        match run(Request::new(request)).await {
            Ok(response) => answer::json(method.output(), &response.into_inner()),
            Err(status) => answer::failed(&status),
        }
    }
}
