//! Connections that are not for this gateway go to another one, byte by byte.

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

/// How long the other gateway may take to accept.
const DIAL: Duration = Duration::from_secs(10);

/// The other gateway.
#[derive(Debug)]
pub(crate) struct Passthrough {
    addrs: Vec<String>,
    tls: Option<TlsClient>,
}

impl Passthrough {
    /// As the settings say; nothing if it is switched off.
    ///
    /// # Errors
    /// A file of its TLS is not to be had.
    pub(crate) fn of(config: &config::Edgebound) -> Result<Option<Self>, TlsError> {
        if !config.bypass_enable {
            return Ok(None);
        }
        let addrs = config.bypass.addrs.iter().map(ToString::to_string).collect();
        Ok(Some(Passthrough { addrs, tls: config.bypass.tls.client()? }))
    }

    /// Carries a connection to its end.
    pub(crate) async fn carry(&self, log: &LogLimiter, mut near: AnyTransport, remote: SocketAddr) {
        // Boxed: what lasts for long does not keep the room of its beginning.
        let mut far = match Box::pin(timeout(DIAL, self.dial())).await {
            Ok(Ok(far)) => far,
            Ok(Err(error)) => return unreached(log, remote, &error.to_string()),
            Err(_) => return unreached(log, remote, "no answer in time"),
        };
        // Nothing is known of what they say, so only the kernel can find out that one of them is dead.
        for socket in [near.socket(), far.socket()].into_iter().flatten() {
            let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive());
        }
        match copy_bidirectional(&mut near, &mut far).await {
            Ok((up, down)) => debug!(%remote, up, down, "bypassed"),
            Err(error) => debug!(%remote, %error, "a bypassed connection broke"),
        }
    }

    async fn dial(&self) -> io::Result<AnyTransport> {
        let at = rand::rng().random_range(0..self.addrs.len().max(1));
        let addr = self.addrs.get(at).ok_or_else(|| io::Error::other("it has no address"))?;
        let socket = dial(addr, DIAL).await?;
        match &self.tls {
            None => Ok(socket.into()),
            Some(tls) => tls.connect(addr, socket).await.map(AnyTransport::from),
        }
    }
}

/// A silent end is asked after two minutes, and given up when it has not answered for another.
fn keepalive() -> TcpKeepalive {
    let (silence, again) = (Duration::from_secs(120), Duration::from_secs(15));
    TcpKeepalive::new().with_time(silence).with_interval(again).with_retries(4)
}

/// One line a second at most: while the bypass is down, each of its clients comes again and again.
fn unreached(log: &LogLimiter, remote: SocketAddr, text: &str) {
    if let Some(more) = log.first(Port::Edges, Code::NO_SERVICE, Instant::now()) {
        warn!(%remote, text, more, "the bypass cannot be reached");
    }
}

/// Whether what has come so far can be no beginning of ours; `None`: it is too short to say.
fn foreign(beginning: &[u8]) -> Option<bool> {
    let ours = [&geminio::MAGIC[..], &MAGIC[..]];
    let fits = |magic: &[u8]| {
        let len = magic.len().min(beginning.len());
        beginning[..len] == magic[..len]
    };
    if !ours.iter().any(|magic| fits(magic)) {
        return Some(true);
    }
    ours.iter().any(|magic| fits(magic) && beginning.len() >= magic.len()).then_some(false)
}

/// Whether a connection is neither of our dialects. One that says too little to tell in this time is
/// taken for one of ours, whose rules end it.
pub(crate) async fn is_foreign(near: &mut impl Transport, time: Duration) -> bool {
    let until = Instant::now() + time.min(limits::HANDSHAKE);
    let (mut beginning, mut looks) = ([0; MAGIC.len()], PeekBackoff::begin());
    while Instant::now() < until {
        let len = match near.peek(&mut beginning).await {
            Ok(len) if len > 0 => len,
            _ => return false,
        };
        if let Some(foreign) = foreign(&beginning[..len]) {
            return foreign;
        }
        sleep(looks.next()).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_magics_are_ours_and_nothing_else_is() {
        for ours in [&b"\x01\x01\x6b"[..], b"LIMES\r\n1", b"LIMES\r\n1\x00"] {
            assert_eq!(foreign(ours), Some(false), "{ours:?}");
        }
        for early in [&b"\x01"[..], b"L", b"LIMES\r\n"] {
            assert_eq!(foreign(early), None, "{early:?}");
        }
        for other in [&b"\x01\x02"[..], b"LOCK /x", b"GET / HTTP/1.1", b"\x16\x03\x01", b"\x00"] {
            assert_eq!(foreign(other), Some(true), "{other:?}");
        }
    }
}
