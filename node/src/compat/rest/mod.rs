//! REST for calls that gRPC describes: the query is the request, the answer is protobuf's JSON.

mod answer;
mod query;

use std::future::Future;

use axum::http::Uri;
use axum::response::Response;
use prost::Message;
use prost_reflect::ServiceDescriptor;
use tonic::{Request, Status};

pub(super) use answer::{moved, not_found};
pub(super) use query::Query;

/// One request of HTTP, on its way to a call.
pub(super) struct Call<'a> {
    service: &'a ServiceDescriptor,
    query: Query,
}

impl<'a> Call<'a> {
    /// A call of `service` with the parameters of `uri`.
    pub(super) fn new(service: &'a ServiceDescriptor, uri: &Uri) -> Self {
        Call { service, query: Query::of(uri.query().unwrap_or_default()) }
    }

    /// With a parameter that was in the path: it goes before the query's.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.set(name, value);
        self
    }

    /// Runs the method and writes its answer, or what was wrong.
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
            Err(text) => return answer::unreadable(&text),
        };
        match run(Request::new(request)).await {
            Ok(response) => answer::json(method.output(), &response.into_inner()),
            Err(status) => answer::failed(&status),
        }
    }
}
