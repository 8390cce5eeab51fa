//! Addresses: host and port.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use super::setting::{Leaf, quoted};
use super::value_error::ValueError;

/// `host:port`, checked for its form; a host name is resolved when it is used. Dereferences to its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr(String);

impl Addr {
    /// An address from its parts.
    pub fn new(host: &str, port: u16) -> Self {
        if host.contains(':') { Addr(format!("[{host}]:{port}")) } else { Addr(format!("{host}:{port}")) }
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// Whether only this machine can reach it. False for any host name but `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.host() == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it stands for every address of the machine, and so cannot be dialled.
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// Replaces an unspecified host by the machine's own address, which `own` looks up, if there is one.
    pub(crate) fn dialable(self, own: impl FnOnce() -> Option<IpAddr>) -> Self {
        match Some(&self).filter(|addr| addr.is_unspecified()).and_then(|_| own()) {
            Some(own) => Addr::new(&own.to_string(), self.port()),
            None => self,
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

impl Deref for Addr {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Leaf for Addr {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let part = |part: &str, name| ValueError::AddrPart { part: part.into(), text: text.into(), name };
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| ValueError::NoPort { text: text.to_owned() })?;
        let port = port.parse().map_err(|_| part(port, "port"))?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            return Err(ValueError::NoBrackets { text: text.to_owned() });
        }
        let host = inner.unwrap_or(host);
        if host.chars().any(|c| c.is_whitespace() || "/@[]".contains(c)) {
            return Err(part(host, "host"));
        }
        // As in Go, an empty host is every address of the machine, IPv4 and IPv6.
        Ok(Addr::new(if host.is_empty() { "::" } else { host }, port))
    }

    fn to_yaml(&self) -> String {
        quoted(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_address_splits_into_host_and_port() {
        let addr = Addr::from_text("127.0.0.1:30012").unwrap();
        assert_eq!((addr.host(), addr.port(), addr.is_loopback()), ("127.0.0.1", 30012, true));
    }

    #[test]
    fn ipv6_host_has_no_brackets_but_its_text_has() {
        let addr = Addr::from_text("[::1]:1").unwrap();
        assert_eq!((addr.host(), &*addr, addr.is_loopback()), ("::1", "[::1]:1", true));
    }

    #[test]
    fn empty_host_is_unspecified() {
        let addr = Addr::from_text(":30011").unwrap();
        assert_eq!((&*addr, addr.is_loopback(), addr.is_unspecified()), ("[::]:30011", false, true));
    }

    #[test]
    fn host_name_is_not_loopback() {
        assert!(!Addr::from_text("gateway.example:30012").unwrap().is_loopback());
    }

    #[test]
    fn malformed_addresses_are_rejected() {
        for wrong in ["", "host", "host:", "host:70000", "::1:30012", "a b:1", "http://host:1"] {
            assert!(Addr::from_text(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
