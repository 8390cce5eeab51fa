//! An edge that shows each of its sessions: it does not reconnect, and it answers each call with the incarnation of
//! the session that received the call.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, drive};
use limes_wire::frame::{Frame, GoAway, Hello, Reply, Role, Welcome};
use limes_wire::limits::Limits;
use limes_wire::transport::tune;
use limes_wire::{CloseReason, Code, Conn};
use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::error::Error;

/// Revision and ordinal of an edge's "online"; of two sessions of one edge the higher one is newer.
pub type Incarnation = (u64, u32);

/// The command to close the session.
#[derive(Debug)]
struct Close;

/// One session.
pub struct Bare {
    /// The gateway's welcome.
    pub welcome: Welcome,
    mailbox: Mailbox<Close>,
    ended: watch::Receiver<Option<Instant>>,
}

impl Bare {
    /// Connects and waits for the welcome.
    ///
    /// # Errors
    /// No connection, refused, or not in time.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the gateway may have opened a session meanwhile, which ends with
    /// it.
    pub async fn connect(
        address: &str,
        ticket: Bytes,
        moving: bool,
        within: Duration,
    ) -> Result<Bare, Error> {
        let session = timeout(within, Self::dial(address, ticket, moving)).await;
        session.map_err(|_| Error::timeout("no welcome", within))?
    }

    async fn dial(address: &str, ticket: Bytes, moving: bool) -> Result<Bare, Error> {
        let socket = TcpStream::connect(address).await?;
        tune(&socket)?;
        let hello = Hello { role: Role::Edge, ticket, moving, ..Hello::default() };
        let (sender, welcome) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let mailbox = Mailbox::new();
        let handler = Answering { welcome: Some(sender), incarnation: Bytes::new(), end };
        let conn = Conn::client(hello, Instant::now(), Limits::default());
        let close = scopeguard::guard(mailbox.clone(), |mailbox| {
            mailbox.push_always(Close);
        });
        tokio::spawn(drive(socket, conn, handler, mailbox.clone()));
        let welcome = welcome.await.map_err(|_| Error::NotWelcomed)?;
        ScopeGuard::into_inner(close);
        Ok(Bare { welcome, mailbox, ended })
    }

    /// Closes the session with a go-away.
    pub fn close(&self) {
        self.mailbox.push_always(Close);
    }

    /// When the session ended, if it has.
    pub fn ended(&self) -> Option<Instant> {
        *self.ended.borrow()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.close();
    }
}

/// Answers every call with the incarnation.
struct Answering {
    /// Takes the welcome.
    welcome: Option<oneshot::Sender<Welcome>>,
    /// The incarnation as [`incarnation`] reads it.
    incarnation: Bytes,
    /// Takes the time of the session's end.
    end: watch::Sender<Option<Instant>>,
}

impl Answering {
    fn note_end(&self) {
        self.end.send_if_modified(|end| end.replace(end.unwrap_or_else(Instant::now)).is_none());
    }
}

/// Reads the answer of a session.
pub fn incarnation(body: &[u8]) -> Option<Incarnation> {
    let (revision, ordinal) = body.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*revision), u32::from_be_bytes(ordinal.try_into().ok()?)))
}

impl Answering {
    fn on_welcome(&mut self, welcome: Welcome, cx: &mut Cx<'_>) {
        let mut body = BytesMut::with_capacity(12);
        body.put_u64(welcome.incarnation.0);
        body.put_u32(welcome.incarnation.1);
        self.incarnation = body.freeze();
        let sender = self.welcome.take();
        if sender.is_none_or(|sender| sender.send(welcome).is_err()) {
            cx.close(GoAway::new(Code::OK, "too late"));
        }
    }
}

impl Handler for Answering {
    type Protocol = Native;
    type Message = Close;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(_) => cx.close(GoAway::new(Code::PROTOCOL, "an edge takes no hello")),
            PeerEvent::Welcome(welcome) => self.on_welcome(*welcome, cx),
            PeerEvent::Frame(Frame::Call(call)) => {
                cx.send(Frame::Reply(Reply { id: call.id, body: self.incarnation.clone() }));
            }
            PeerEvent::GoAway(_) => {
                self.note_end();
                cx.close(GoAway::new(Code::OK, "good-bye"));
            }
            PeerEvent::Frame(_) | PeerEvent::Stream(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_message(&mut self, _: Close, cx: &mut Cx<'_>) {
        cx.close(GoAway::new(Code::OK, "good-bye"));
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}

    fn on_closing(&mut self, _: Vec<Close>) {}

    fn on_close(self, _: CloseReason) {
        self.note_end();
    }
}
