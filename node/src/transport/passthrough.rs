//! Relays connections of unknown protocols to another gateway, byte by byte (`edgebound.bypass`).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use limes_wire::conn::MAGIC;
use limes_wire::transport::tls::{TlsClient, TlsError};
use limes_wire::transport::{AnyTransport, Transport, dial};
use limes_wire::{Code, geminio, limits};
use rand::Rng;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::peek::PeekBackoff;
use crate::config;
use crate::telemetry::log_limit::LogLimiter;
use crate::telemetry::port::Port;

/// How long a connection to the other gateway may take.
const DIAL: Duration = Duration::from_secs(10);

/// The other gateway.
#[derive(Debug)]
pub(crate) struct Passthrough {
    addrs: Vec<String>,
    tls: Option<TlsClient>,
}

impl Passthrough {
    /// The passthrough of the edge port; `None`: it is disabled.
    ///
    /// # Errors
    /// A file of its TLS settings cannot be read.
    pub(crate) fn of(config: &config::Edgebound) -> Result<Option<Self>, TlsError> {
        if !config.bypass_enable {
            return Ok(None);
        }
        let addrs = config.bypass.addrs.iter().map(ToString::to_string).collect();
        Ok(Some(Passthrough { addrs, tls: config.bypass.tls.client()? }))
    }

    /// Relays a connection until one side ends it.
    ///
    /// # Cancel safety
    /// Dropping the future closes both connections.
    pub(crate) async fn carry(&self, log: &LogLimiter, mut near: AnyTransport, remote: SocketAddr) {
        // Boxed, so that the long-lived future does not hold the memory of the dial.
        let mut far = match Box::pin(timeout(DIAL, self.dial())).await {
            Ok(Ok(far)) => far,
            Ok(Err(error)) => return unreached(log, remote, &error.to_string()),
            Err(_) => return unreached(log, remote, "no answer in time"),
        };
        // The protocol is unknown, so only the kernel can detect a dead peer.
        for socket in [near.socket(), far.socket()].into_iter().flatten() {
            let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive());
        }
        match copy_bidirectional(&mut near, &mut far).await {
            Ok((up, down)) => debug!(%remote, up, down, "a relayed connection ended"),
            Err(error) => debug!(%remote, %error, "a relayed connection broke"),
        }
    }

    async fn dial(&self) -> io::Result<AnyTransport> {
        let at = rand::rng().random_range(0..self.addrs.len().max(1));
        let addr = self.addrs.get(at).ok_or_else(|| io::Error::other("no address is configured"))?;
        let socket = dial(addr, DIAL).await?;
        match &self.tls {
            None => Ok(socket.into()),
            Some(tls) => tls.connect(addr, socket).await.map(AnyTransport::from),
        }
    }
}

/// The kernel probes an end that is silent for two minutes, and closes it after another minute without an answer.
fn keepalive() -> TcpKeepalive {
    let (silence, interval) = (Duration::from_secs(120), Duration::from_secs(15));
    TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(4)
}

/// Writes a rate-limited line: while the other gateway is down, its clients reconnect all the time.
fn unreached(log: &LogLimiter, remote: SocketAddr, text: &str) {
    if let Some(more) = log.first(Port::Edges, Code::NO_SERVICE, Instant::now()) {
        warn!(%remote, text, more, "cannot reach the gateway of the passthrough");
    }
}

/// Whether a preface is of an unknown protocol; `None`: it is too short to decide.
fn foreign(preface: &[u8]) -> Option<bool> {
    let known = [&geminio::MAGIC[..], &MAGIC[..]];
    let fits = |magic: &[u8]| {
        let len = magic.len().min(preface.len());
        preface[..len] == magic[..len]
    };
    if !known.iter().any(|magic| fits(magic)) {
        return Some(true);
    }
    known.iter().any(|magic| fits(magic) && preface.len() >= magic.len()).then_some(false)
}

/// Whether a connection speaks neither geminio nor the native protocol. One that sends too little to decide within `time`
/// counts as native, whose session closes it.
///
/// # Cancel safety
/// Cancel safe: it only peeks.
pub(crate) async fn is_foreign(near: &mut impl Transport, time: Duration) -> bool {
    let until = Instant::now() + time.min(limits::HANDSHAKE);
    let (mut preface, mut backoff) = ([0; MAGIC.len()], PeekBackoff::new());
    while Instant::now() < until {
        let len = match near.peek(&mut preface).await {
            Ok(len) if len > 0 => len,
            _ => return false,
        };
        if let Some(foreign) = foreign(&preface[..len]) {
            return foreign;
        }
        sleep(backoff.next()).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_prefaces_of_both_protocols_are_kept() {
        for known in [&b"\x01\x01\x6b"[..], b"LIMES\r\n1", b"LIMES\r\n1\x00"] {
            assert_eq!(foreign(known), Some(false), "{known:?}");
        }
        for short in [&b"\x01"[..], b"L", b"LIMES\r\n"] {
            assert_eq!(foreign(short), None, "{short:?}");
        }
        for other in [&b"\x01\x02"[..], b"LOCK /x", b"GET / HTTP/1.1", b"\x16\x03\x01", b"\x00"] {
            assert_eq!(foreign(other), Some(true), "{other:?}");
        }
    }
}
