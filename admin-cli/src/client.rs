//! Connecting to whichever node answers.

use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::Context;
use limes_api::v1::limes_client::LimesClient;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take, or the next page of one.
const ANSWER: Duration = Duration::from_secs(30);

/// Why a command could not be done; each in one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no node answers at {0}; is --endpoint right, and the control port open?")]
    Unreachable(String),
    #[error("{0:?} is no HOST:PORT")]
    Endpoint(String),
    #[error("{}", said(.0))]
    Refused(#[from] Status),
    #[error("no answer within {ANSWER:?}")]
    Late,
    #[error("{0}")]
    Bench(String),
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
    #[error("cannot print: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// What went wrong under load, or on the way to it.
    pub(crate) fn bench(error: impl ToString) -> Self {
        Error::Bench(error.to_string())
    }
}

/// What a node said, and what may help.
fn said(status: &Status) -> String {
    match status.code() {
        tonic::Code::Unavailable => {
            format!("{}; --local shows what the node holds by itself", status.message())
        }
        tonic::Code::Unimplemented => format!("this node does not know that command: {}", status.message()),
        _ => status.message().to_owned(),
    }
}

/// A client of the first endpoint that can be reached.
pub(crate) async fn connect(context: &Context) -> Result<LimesClient<Channel>, Error> {
    let mut missed = Vec::new();
    for at in &context.endpoints {
        let endpoint =
            Endpoint::from_shared(format!("http://{at}")).map_err(|_| Error::Endpoint(at.clone()))?;
        match endpoint.connect_timeout(CONNECT).timeout(ANSWER).tcp_nodelay(true).connect().await {
            Ok(channel) => return Ok(LimesClient::new(channel)),
            Err(_) => missed.push(at.as_str()),
        }
    }
    Err(Error::Unreachable(missed.join(", ")))
}

/// The next message of a stream; `None` at its end.
pub(crate) async fn next<T>(pages: &mut tonic::Streaming<T>) -> Result<Option<T>, Error> {
    let page = tokio::time::timeout(ANSWER, pages.message()).await;
    Ok(page.map_err(|_| Error::Late)??)
}
