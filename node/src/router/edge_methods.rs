//! The methods that edges announce. No request is routed by them: a service names the edge that it calls, and the
//! edge knows its own methods. So they are not in the tables; each node keeps those of its own sessions, and a
//! node that lists them asks every other node.
//!
//! Only geminio peers announce methods.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::EdgeId;
use limes_wire::driver::RecordStream;
use limes_wire::stream::Open;
use limes_wire::{Code, Str};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::message::{Delivery, LinkHandle};
use super::peers::PeerTable;

/// The name in the OPEN of a stream that asks another node for its list.
const QUESTION: &str = "limes edge methods";
/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most: a few million names.
const ANSWER_MAX: usize = 64 << 20;

/// The methods of edges, by edge.
pub(crate) type ByEdge = HashMap<EdgeId, BTreeSet<Box<str>>>;

/// The methods of the edges that are connected here.
#[derive(Debug, Default)]
pub(crate) struct EdgeMethods(Mutex<BySession>);

/// The edge and the methods that it has announced, by the session's number.
type BySession = HashMap<u64, (EdgeId, BTreeSet<Box<str>>)>;

impl EdgeMethods {
    fn map(&self) -> MutexGuard<'_, BySession> {
        self.0.lock()
    }

    /// Notes a method of a session, up to `most` of one session.
    pub(crate) fn note(&self, session: u64, edge: EdgeId, method: &str, most: usize) {
        let mut map = self.map();
        let (_, methods) = map.entry(session).or_insert_with(|| (edge, BTreeSet::new()));
        if methods.len() < most {
            methods.insert(method.into());
        }
    }

    /// Whether a session has announced a method.
    pub(crate) fn has(&self, session: u64, method: &str) -> bool {
        self.map().get(&session).is_some_and(|(_, methods)| methods.contains(method))
    }

    /// Forgets a session.
    pub(crate) fn forget(&self, session: u64) {
        let mut map = self.map();
        map.remove(&session);
        if map.is_empty() {
            map.shrink_to_fit();
        }
    }

    fn add_to(&self, all: &mut ByEdge) {
        for (edge, methods) in self.map().values() {
            all.entry(*edge).or_default().extend(methods.iter().cloned());
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        for (edge, methods) in self.map().values() {
            out.put_u64(edge.0);
            out.put_u32(methods.len() as u32);
            for method in methods {
                out.put_u16(method.len() as u16);
                out.put_slice(method.as_bytes());
            }
        }
        out.freeze()
    }
}

/// Adds the methods in a node's answer; `None`: the answer is truncated or malformed.
fn decode(mut from: Bytes, all: &mut ByEdge) -> Option<()> {
    while from.has_remaining() {
        let edge = EdgeId(from.try_get_u64().ok()?);
        let methods = all.entry(edge).or_default();
        for _ in 0..from.try_get_u32().ok()? {
            let len = usize::from(from.try_get_u16().ok()?);
            let name = (len <= from.remaining()).then(|| from.split_to(len))?;
            methods.insert(std::str::from_utf8(&name).ok()?.into());
        }
    }
    Some(())
}

/// Why the methods of all edges cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EdgeMethodsError {
    /// A node that is up did not answer; its name.
    #[error("{0} cannot be asked now")]
    Unreachable(String),
    /// A node's answer could not be decoded.
    #[error("a node's answer is truncated")]
    Malformed,
}

impl EdgeMethods {
    /// The methods of all edges of the cluster: asks every node that is up.
    ///
    /// # Errors
    /// [`EdgeMethodsError`]: a node that is up could not be asked.
    ///
    /// # Cancel safety
    /// Dropping the future ends the questions.
    pub(crate) async fn of_cluster(&self, peers: &PeerTable) -> Result<ByEdge, EdgeMethodsError> {
        let mut all = ByEdge::new();
        self.add_to(&mut all);
        let others = peers.all().into_iter().filter(|(_, peer)| peer.epoch.is_some());
        let asked = others.map(|(id, peer)| async move {
            let answer = match peers.streams(id) {
                Some(link) => timeout(ANSWER_TIMEOUT, ask(link)).await.ok().flatten(),
                None => None,
            };
            answer.ok_or(EdgeMethodsError::Unreachable(peer.name))
        });
        for answer in futures::future::join_all(asked).await {
            decode(answer?, &mut all).ok_or(EdgeMethodsError::Malformed)?;
        }
        Ok(all)
    }

    /// Whether another node's stream asks for the methods of this node's edges.
    pub(super) fn is_question(open: &Open) -> bool {
        open.meta.is_empty() && &*open.name == QUESTION
    }

    /// Answers such a stream.
    pub(super) async fn answer(&self, mut near: RecordStream) {
        let bytes = self.encode();
        if bytes.len() > ANSWER_MAX {
            return near.reset(Code::TOO_LARGE, "too many methods of edges").await;
        }
        let answer = async {
            near.write_accept(&[]).await.ok()?;
            near.write_all(&bytes).await.ok()?;
            near.shutdown().await.ok()
        };
        let _ = timeout(ANSWER_TIMEOUT, answer).await;
    }
}

/// Asks the node at the other end of a link for streams.
async fn ask(link: LinkHandle) -> Option<Bytes> {
    let (reply, opened) = oneshot::channel();
    link.deliver(Delivery::Open(reply), 0).ok()?;
    let mut far = RecordStream::new(opened.await.ok()?.ok()?);
    far.write_open(&Open { name: Str::from_static(QUESTION), ..Open::default() }).await.ok()?;
    far.read_accept().await.ok()?;
    let mut answer = Vec::new();
    far.take(ANSWER_MAX as u64 + 1).read_to_end(&mut answer).await.ok()?;
    (answer.len() <= ANSWER_MAX).then(|| answer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_has_all_noted_methods_and_a_truncated_one_is_refused() {
        let methods = EdgeMethods::default();
        for (session, edge, method) in [(1, 7, "a"), (1, 7, "b"), (2, 8, "a"), (3, 9, "gone")] {
            methods.note(session, EdgeId(edge), method, 2);
        }
        methods.note(1, EdgeId(7), "beyond", 2);
        methods.forget(3);
        let mut here = ByEdge::new();
        methods.add_to(&mut here);
        assert_eq!(here.len(), 2);
        assert_eq!(here[&EdgeId(7)].iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
        let bytes = methods.encode();
        let mut there = ByEdge::new();
        assert_eq!(decode(bytes.clone(), &mut there), Some(()));
        assert_eq!(here, there);
        assert_eq!(decode(bytes.slice(..bytes.len() - 1), &mut ByEdge::new()), None);
    }
}
