//! From the Conn packet of a client to its admission.

use bytes::Bytes;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::{GoAway, Hello, Role};
use limes_wire::{Code, Str, geminio, limits};
use serde::Deserialize;

use super::state::GeminioSession;
use crate::presence::admission::PeerProtocol;

/// The meta of a service.
#[derive(Debug, Deserialize)]
struct ServiceMeta {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    topics: Option<Vec<String>>,
}

/// Why the meta of a client is refused.
#[derive(Debug, thiserror::Error)]
enum MetaError {
    #[error("the meta is longer than {} bytes", limits::META_MAX)]
    TooLong,
    #[error("the meta of a service is no JSON object")]
    NoObject,
    #[error("the meta of a service is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("more than {} topics", limits::NAMES_MAX)]
    Topics,
    #[error("a name or topic is longer than {} bytes", limits::NAME_MAX)]
    Name,
}

/// Starts the admission of a client, or refuses it at once.
pub(super) fn on_hello(session: &mut GeminioSession, hello: geminio::Hello, cx: &mut GeminioCx) {
    // The session keeps it; a slice would keep the memory of the whole read.
    let meta = Bytes::copy_from_slice(&hello.meta);
    let role = session.core.role;
    let described = match role {
        Role::Service => describe(&meta),
        _ if meta.len() <= limits::META_MAX => Ok((String::new(), Vec::new())),
        _ => Err(MetaError::TooLong),
    };
    let (name, topics) = match described {
        Ok(described) => described,
        Err(error) => return session.close(GoAway::new(Code::PROTOCOL, error.to_string()), cx),
    };
    session.protocol.topics = topics;
    let claim = hello.client.filter(|_| role == Role::Service);
    session.core.admit(PeerProtocol::Geminio, Hello { role, claim, name, meta, ..Hello::default() });
}

/// A service's name and topics.
fn describe(meta: &[u8]) -> Result<(String, Vec<Str>), MetaError> {
    if meta.len() > limits::META_MAX {
        return Err(MetaError::TooLong);
    }
    // serde would also read a JSON array as a struct.
    if !meta.trim_ascii_start().starts_with(b"{") {
        return Err(MetaError::NoObject);
    }
    let described: ServiceMeta = serde_json::from_slice(meta)?;
    let (name, topics) = (described.service.unwrap_or_default(), described.topics.unwrap_or_default());
    if topics.len() > limits::NAMES_MAX {
        return Err(MetaError::Topics);
    }
    if std::iter::once(&name).chain(&topics).any(|name| name.len() > limits::NAME_MAX) {
        return Err(MetaError::Name);
    }
    Ok((name, topics.into_iter().map(Str::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_topics_of_a_service_are_read_from_its_meta() {
        let (name, topics) = describe(br#"{"service":"svc-a","topics":["t1","*"]}"#).unwrap();
        assert_eq!((name.as_str(), topics.len(), &*topics[1]), ("svc-a", 2, "*"));
        assert_eq!(describe(br#"{"service":"","topics":null}"#).unwrap(), (String::new(), vec![]));
    }

    #[test]
    fn invalid_meta_is_refused() {
        for bad in [&b"not json"[..], b"", b"[]", br#"{"topics":[5]}"#, &[b' '; limits::META_MAX + 1]] {
            assert!(describe(bad).is_err());
        }
        let long = format!(r#"{{"service":"{}"}}"#, "x".repeat(256));
        assert!(describe(long.as_bytes()).is_err());
    }
}
