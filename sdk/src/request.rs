//! Requests of a client: calls, messages, changes of names, streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{PushError, RecordStream, Stream as RawStream, StreamError};
use limes_wire::frame::Execution;
use limes_wire::stream::Open;
use limes_wire::{Code, Str, limits};
use scopeguard::ScopeGuard;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{Instrument, debug_span};

use crate::client::Client;
use crate::command::{LinkCommand, LinkHandle, NameChange, PendingRequest, RequestKind};
use crate::connection::Connection;
use crate::error::{CallError, Kind};
use crate::stream::Stream;

/// Pause before a request that certainly did not run is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How much longer than its deadline a request waits for the gateway, which keeps the deadline, to answer.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// A call or a message as the application asks for it.
#[derive(Debug, Clone)]
pub(crate) struct NewRequest<'a> {
    pub(crate) kind: RequestKind,
    /// The edge to reach; `None` at an edge, where the gateway selects a service.
    pub(crate) peer: Option<u64>,
    /// The method or topic.
    pub(crate) name: &'a str,
    pub(crate) body: Bytes,
    /// Time limit of the request, retries included.
    pub(crate) time: Duration,
}

impl Client {
    /// Sends a call or a message and waits for its result. A request that certainly did not run because its
    /// connection went away is sent again on the next one, within the deadline.
    pub(crate) async fn request(&self, request: NewRequest<'_>) -> Result<Bytes, CallError> {
        let NewRequest { kind, peer, name, body, time } = request;
        if name.len() > limits::NAME_MAX || body.len() > limits::FRAME_BODY_MAX {
            return Err(too_large("the name or the body is over its limit"));
        }
        let deadline = Instant::now() + time;
        let is_message = kind == RequestKind::Message;
        let span = debug_span!("limes.call", name, peer = peer.unwrap_or(0), is_message);
        let name = Str::from(name);
        let work = async {
            loop {
                let connection = self.connection(deadline).await?;
                let (result, pending) = oneshot::channel();
                let (id, name, body) = (self.next_id(), name.clone(), body.clone());
                let request = PendingRequest { id, kind, peer, name, body, deadline, result };
                match attempt(&connection, request, pending).await {
                    Err(error)
                        if !error.may_have_run() && is_transient(&error) && Instant::now() < deadline =>
                    {
                        sleep(RETRY_PAUSE).await;
                    }
                    result => return result,
                }
            }
        };
        work.instrument(span).await
    }

    /// Changes names on one connection and waits until the cluster has agreed.
    pub(crate) async fn change_names_on(
        &self,
        link: &LinkHandle,
        change: NameChange,
        names: &[String],
        time: Duration,
    ) -> Result<(), CallError> {
        for chunk in names.chunks(limits::NAMES_MAX) {
            let (result, pending) = oneshot::channel();
            let names = chunk.iter().map(|name| Str::from(name.as_str())).collect();
            let command = LinkCommand::ChangeNames { id: self.next_id(), change, names, result };
            if !link.push_always(command) {
                return Err(CallError::not_sent());
            }
            let result = timeout(time, pending).await;
            result
                .map_err(|_| CallError::timeout(Execution::Unknown))?
                .unwrap_or_else(|_| Err(CallError::disconnected()))?;
        }
        Ok(())
    }

    /// Changes names on the connection in use. If it breaks meanwhile, the next one brings the names along: the
    /// caller has noted them already.
    pub(crate) async fn change_names(&self, change: NameChange, names: &[String]) -> Result<(), CallError> {
        check_names(names)?;
        let deadline = Instant::now() + self.options.call_timeout;
        loop {
            let link = self.connection(deadline).await?.link;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.change_names_on(&link, change, names, left).await {
                Err(error) if error.kind() == Kind::Disconnected && Instant::now() < deadline => {
                    sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Opens a stream and waits until the peer has accepted it.
    pub(crate) async fn open_stream(
        &self,
        peer: Option<u64>,
        name: &str,
        meta: Bytes,
    ) -> Result<Stream, CallError> {
        if name.len() > limits::NAME_MAX || meta.len() > limits::META_MAX {
            return Err(too_large("the name or the meta is over its limit"));
        }
        let time = self.options.call_timeout;
        let deadline = Instant::now() + time;
        let link = self.connection(deadline).await?.link;
        let (opened, stream) = oneshot::channel();
        link.push(LinkCommand::OpenStream(opened), 0).map_err(|_| CallError::not_sent())?;
        let open = Open { peer: peer.unwrap_or(0), name: name.into(), deadline: time, meta };
        timeout_at(deadline.into(), open_on(stream, open))
            .await
            .unwrap_or_else(|_| Err(CallError::timeout(Execution::Unknown)))
    }
}

/// Sends a request on a connection and waits for its result; dropping the future cancels the request.
async fn attempt(
    connection: &Connection,
    request: PendingRequest,
    pending: oneshot::Receiver<Result<Bytes, CallError>>,
) -> Result<Bytes, CallError> {
    let (id, bytes, deadline) = (request.id, request.body.len(), request.deadline);
    let max_body = connection.max_body;
    if bytes > max_body {
        // Sending it would end the connection, with all that is in flight on it (PROTOCOL 9.2).
        return Err(too_large(format!("a body of {bytes} bytes is over the cluster's limit of {max_body}")));
    }
    let _permit = connection.reserve(bytes, deadline).await?;
    match connection.link.push(LinkCommand::Send(request), bytes) {
        Ok(()) => {}
        Err(PushError::Full(_)) => {
            return Err(CallError::coded(
                Code::BUSY,
                Execution::NotStarted,
                "this client's own queue is full",
            ));
        }
        Err(PushError::Closed(_)) => return Err(CallError::not_sent()),
    }
    let cancel = scopeguard::guard(&connection.link, |link| {
        link.push_always(LinkCommand::Cancel(id));
    });
    match timeout_at((deadline + ANSWER_MARGIN).into(), pending).await {
        Ok(result) => {
            ScopeGuard::into_inner(cancel);
            result.unwrap_or_else(|_| Err(CallError::disconnected()))
        }
        Err(_) => Err(CallError::timeout(Execution::Unknown)),
    }
}

/// Introduces a stream to the peer and waits until the peer has accepted it.
async fn open_on(
    stream: oneshot::Receiver<Result<RawStream, Code>>,
    open: Open,
) -> Result<Stream, CallError> {
    let stream = stream.await.map_err(|_| CallError::not_sent())?;
    let stream =
        stream.map_err(|code| CallError::coded(code, Execution::NotStarted, "no more streams here"))?;
    let mut stream = RecordStream::new(stream);
    let failed = |error: StreamError| CallError::coded(error.code(), Execution::Unknown, error.to_string());
    stream.write_open(&open).await.map_err(failed)?;
    stream.read_accept().await.map_err(|error| {
        // A reset with a reason comes from a peer that refused; after any other end, a peer may have accepted.
        let is_refused = matches!(error, StreamError::Reset { .. });
        let ran = if is_refused { Execution::NotStarted } else { Execution::Unknown };
        CallError::coded(error.code(), ran, error.to_string())
    })?;
    Ok(Stream(stream))
}

/// Refuses names over the limit: sending one would end the connection, and each later one.
pub(crate) fn check_names(names: &[String]) -> Result<(), CallError> {
    match names.iter().find(|name| name.len() > limits::NAME_MAX) {
        None => Ok(()),
        Some(long) => Err(too_large(format!(
            "a name of {} bytes is over the limit of {}",
            long.len(),
            limits::NAME_MAX
        ))),
    }
}

fn too_large(text: impl Into<String>) -> CallError {
    CallError::coded(Code::TOO_LARGE, Execution::NotStarted, text)
}

/// Whether an error is that of a connection which is going away, so that another connection may do.
fn is_transient(error: &CallError) -> bool {
    error.kind() == Kind::Disconnected || error.code() == Code::DRAINING
}
