//! A web server beside the edge, which the service reaches through a stream.

use std::time::Instant;

use axum::Router;
use axum::routing::get;
use limes_sdk::{Bytes, Edge, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::{DemoError, expect};
use super::story::Story;
use super::units::{STEP_TIMEOUT, mib};

/// Bytes of the page.
const PAGE: usize = 8 << 20;

/// Starts the server, fetches its page through a stream and compares it.
///
/// # Errors
/// The page did not arrive as it was sent.
pub(super) async fn show(story: &Story, edge: &Edge, service: &Service) -> Result<(), DemoError> {
    story.title("A web server at the edge, fetched from the back end");
    let page: Bytes = (0..PAGE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Tasks in the set end with this function.
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let body = page.clone();
    let router = Router::new().route("/camera.jpg", get(move || async move { body }));
    tasks.spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    let receiver = edge.clone();
    tasks.spawn(async move {
        // Each stream that is opened to the edge becomes one connection to the server.
        while let Some(mut incoming) = receiver.accept_stream().await {
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(at).await?;
                copy_bidirectional(&mut incoming.stream, &mut socket).await.map(drop)
            });
        }
    });
    story.say("An ordinary HTTP server listens beside the edge. The service opens a stream to the edge,");
    story.say("and speaks HTTP through it as if through a socket.");
    let began = Instant::now();
    let (head, body) = timeout(STEP_TIMEOUT, fetch(edge, service)).await??;
    let took = began.elapsed();
    expect("the server answers 200", head.starts_with("HTTP/1.1 200 "))?;
    expect("the page arrives as it was sent", body == page)?;
    story.done(format!(
        "GET /camera.jpg: {}, {} MiB in {:.2} s ({:.0} MiB/s), every byte compared",
        head.lines().next().unwrap_or_default(),
        mib(PAGE),
        took.as_secs_f64(),
        mib(PAGE) / took.as_secs_f64()
    ));
    Ok(())
}

/// Sends one request on a stream of its own; returns the head and the body of the answer.
async fn fetch(edge: &Edge, service: &Service) -> Result<(String, Vec<u8>), DemoError> {
    let mut stream = service.open_stream(edge.id(), "http", "").await?;
    stream.write_all(b"GET /camera.jpg HTTP/1.1\r\nHost: camera\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::with_capacity(PAGE + 1_024);
    stream.read_to_end(&mut answer).await?;
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or(DemoError::NotObserved("the answer has a head"))?;
    let body = answer.split_off(end + 4);
    Ok((String::from_utf8(answer)?, body))
}
