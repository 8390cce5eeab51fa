//! The gateway's own calls to services (callbacks), as the reference encodes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use limes_wire::callback::{EdgeFacts, GET_EDGE_ID, is_reserved};
use serde_json::json;

/// The body of a callback in the reference's encoding; `None`: the method is no callback.
///
/// Only the gateway calls these methods: an edge that does is refused.
pub(super) fn body(method: &str, body: &Bytes) -> Option<Bytes> {
    if !is_reserved(method) {
        return None;
    }
    let facts = EdgeFacts::decode(body.clone()).ok()?;
    if method == GET_EDGE_ID {
        return Some(facts.meta);
    }
    let meta = (!facts.meta.is_empty()).then(|| STANDARD.encode(&facts.meta));
    // serde_json orders a map by its keys, as Go does.
    let object = json!({"EdgeID": facts.edge, "Meta": meta, "Net": "tcp", "Str": facts.addr});
    Some(object.to_string().into())
}

#[cfg(test)]
mod tests {
    use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE};

    use super::*;

    #[test]
    fn callbacks_are_encoded_as_by_the_reference() {
        let meta = Bytes::from_static(b"m1");
        let facts = EdgeFacts { edge: 1001, meta: meta.clone(), addr: "127.0.0.1:44478".to_owned() };
        assert_eq!(body(GET_EDGE_ID, &facts.encode()), Some(meta));
        let expected = r#"{"EdgeID":1001,"Meta":"bTE=","Net":"tcp","Str":"127.0.0.1:44478"}"#;
        assert_eq!(body(EDGE_ONLINE, &facts.encode()), Some(expected.into()));
        let bare = EdgeFacts { meta: Bytes::new(), ..facts };
        let expected = r#"{"EdgeID":1001,"Meta":null,"Net":"tcp","Str":"127.0.0.1:44478"}"#;
        assert_eq!(body(EDGE_OFFLINE, &bare.encode()), Some(expected.into()));
        assert_eq!(body("echo", &bare.encode()), None);
    }
}
