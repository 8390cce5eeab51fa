//! As much of an HTTP client as it takes to ask a node how it is.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, as 200.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks `addr` for a path, within a time.
///
/// # Errors
/// Nobody answers in time, or what answers is not HTTP.
pub async fn get(addr: &str, path: &str, within: Duration) -> io::Result<Response> {
    timeout(within, exchange(addr, path)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn exchange(addr: &str, path: &str) -> io::Result<Response> {
    let mut socket = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not HTTP"))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nno leader";
        assert_eq!(parse(answer), Some(Response { status: 503, body: "no leader".into() }));
        assert_eq!(parse("LIMES"), None);
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = silent.local_addr().unwrap().to_string();
        let error = get(&addr, "/", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
