//! From a Conn to a newcomer that the tables can be asked about.

use bytes::Bytes;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::{GoAway, Hello, Role};
use limes_wire::{Code, Str, geminio, limits};
use serde::Deserialize;

use super::{Session, State};
use crate::presence::admission::{PeerProtocol, PendingAdmission, admit};
use crate::router::message::SessionHandle;
use crate::tasks;

/// What a service says about itself.
#[derive(Debug, Deserialize)]
struct ServiceMeta {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    topics: Option<Vec<String>>,
}

/// Asks the tables about a client, or refuses it at once.
pub(super) fn on_hello(session: &mut Session, hello: geminio::Hello, cx: &mut GeminioCx) {
    // Kept for long; a slice would keep the whole read's memory with it.
    let meta = Bytes::copy_from_slice(&hello.meta);
    let described = match session.role {
        Role::Service => describe(&meta),
        _ if meta.len() <= limits::META_MAX => Ok((String::new(), Vec::new())),
        _ => Err(format!("the meta is longer than {} bytes", limits::META_MAX)),
    };
    let (name, topics) = match described {
        Ok(described) => described,
        Err(text) => return session.close(GoAway::new(Code::PROTOCOL, text), cx),
    };
    session.topics = topics;
    session.state = State::Admitting;
    session.place.spoke();
    let claim = hello.client.filter(|_| session.role == Role::Service);
    let pending = PendingAdmission {
        no: session.no,
        handle: SessionHandle::Geminio(session.handle.clone()),
        remote: session.remote,
        protocol: PeerProtocol::Geminio,
        hello: Hello { role: session.role, claim, name, meta, ..Hello::default() },
    };
    tasks::spawn(tasks::Kind::Session, admit(session.ctx.presence.clone(), pending));
}

/// A service's name and topics.
fn describe(meta: &[u8]) -> Result<(String, Vec<Str>), String> {
    if meta.len() > limits::META_MAX {
        return Err(format!("the meta is longer than {} bytes", limits::META_MAX));
    }
    // Else a list would do as well.
    if !meta.trim_ascii_start().starts_with(b"{") {
        return Err("the meta of a service is no JSON object".to_owned());
    }
    let described: ServiceMeta =
        serde_json::from_slice(meta).map_err(|error| format!("the meta of a service is no JSON: {error}"))?;
    let (name, topics) = (described.service.unwrap_or_default(), described.topics.unwrap_or_default());
    if topics.len() > limits::NAMES_MAX {
        return Err(format!("more than {} topics", limits::NAMES_MAX));
    }
    if std::iter::once(&name).chain(&topics).any(|name| name.len() > limits::NAME_MAX) {
        return Err(format!("a name or topic is longer than {} bytes", limits::NAME_MAX));
    }
    Ok((name, topics.into_iter().map(Str::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_what_its_meta_says() {
        let (name, topics) = describe(br#"{"service":"svc-a","topics":["t1","*"]}"#).unwrap();
        assert_eq!((name.as_str(), topics.len(), &*topics[1]), ("svc-a", 2, "*"));
        assert_eq!(describe(br#"{"service":"","topics":null}"#), Ok((String::new(), vec![])));
        for bad in [&b"not json"[..], b"", b"[]", br#"{"topics":[5]}"#, &[b' '; limits::META_MAX + 1]] {
            assert!(describe(bad).is_err());
        }
        let long = format!(r#"{{"service":"{}"}}"#, "x".repeat(256));
        assert!(describe(long.as_bytes()).is_err());
    }
}
