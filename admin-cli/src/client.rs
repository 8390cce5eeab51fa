//! Connecting to the first node that answers.

use std::time::Duration;

use limes_api::v1::limes_client::LimesClient;
use tonic::transport::{Channel, Endpoint};

use crate::context::Context;
use crate::error::Error;

/// Time limit for a connection to come up.
const CONNECT: Duration = Duration::from_secs(2);
/// Time limit for an answer, or for the next message of a stream.
const ANSWER: Duration = Duration::from_secs(30);

/// A client of the first endpoint that accepts a connection.
///
/// # Errors
/// [`Error::Endpoint`], or [`Error::Unreachable`] with all endpoints.
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
///
/// # Errors
/// [`Error::Timeout`], or the node's own error.
pub(crate) async fn next<T>(messages: &mut tonic::Streaming<T>) -> Result<Option<T>, Error> {
    let message = tokio::time::timeout(ANSWER, messages.message()).await;
    Ok(message.map_err(|_| Error::Timeout(ANSWER))??)
}
