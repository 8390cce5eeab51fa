//! Reading the status page of a node.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::error::Error;

/// Longest page that is read, in bytes.
const PAGE_MAX: usize = 1 << 20;

/// The body of a page, whatever its status, over a connection of its own. The caller sets the time limit.
///
/// # Errors
/// [`Error::Http`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn get(addr: &str, path: &str) -> Result<Bytes, Error> {
    let failed = |error: &dyn std::error::Error| Error::Http(error.to_string());
    let uri = format!("http://{addr}{path}").parse::<Uri>().map_err(|error| failed(&error))?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let page = client.get(uri).await.map_err(|error| failed(&error))?;
    let body = Limited::new(page.into_body(), PAGE_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| failed(error.as_ref()))
}
