//! An edge of which every session is seen: nothing reconnects by itself, and each call is answered with
//! the incarnation of the session that it came to.

use std::io;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, drive};
use limes_wire::frame::{Frame, GoAway, Hello, Reply, Role, Welcome};
use limes_wire::limits::Limits;
use limes_wire::transport::tune;
use limes_wire::{CloseReason, Code, Conn};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Of two sessions of one edge the higher one is newer.
pub type Incarnation = (u64, u32);

/// One session.
pub struct Bare {
    /// What the gateway said.
    pub welcome: Welcome,
    mailbox: Mailbox<()>,
    ended: watch::Receiver<Option<Instant>>,
}

impl Bare {
    /// Connects and waits for the welcome.
    ///
    /// # Errors
    /// Nobody there, refused, or not in time. Cancel safety: the session may come into being all the
    /// same, and ends with its socket.
    pub async fn connect(address: &str, ticket: Bytes, moving: bool, within: Duration) -> io::Result<Bare> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no welcome in time");
        timeout(within, Self::dial(address, ticket, moving)).await.map_err(|_| late())?
    }

    async fn dial(address: &str, ticket: Bytes, moving: bool) -> io::Result<Bare> {
        let socket = TcpStream::connect(address).await?;
        tune(&socket)?;
        let hello = Hello { role: Role::Edge, ticket, moving, ..Hello::default() };
        let (tell, welcomed) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let mailbox = Mailbox::new();
        let answering = Answering { welcomed: Some(tell), incarnation: Bytes::new(), end };
        let conn = Conn::client(hello, Instant::now(), Limits::default());
        // Should the welcome not be waited for any longer, the session ends.
        let hang_up = HangUp(Some(mailbox.clone()));
        tokio::spawn(drive(socket, conn, answering, mailbox.clone()));
        let welcome = welcomed.await.map_err(|_| io::Error::other("refused, or cut before the welcome"))?;
        hang_up.keep();
        Ok(Bare { welcome, mailbox, ended })
    }

    /// Says good-bye.
    pub fn close(&self) {
        self.mailbox.push_always(());
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

struct HangUp(Option<Mailbox<()>>);

impl HangUp {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(mailbox) = self.0.take() {
            mailbox.push_always(());
        }
    }
}

/// Answers every call with the incarnation.
struct Answering {
    welcomed: Option<oneshot::Sender<Welcome>>,
    incarnation: Bytes,
    end: watch::Sender<Option<Instant>>,
}

/// Reads what a session has answered.
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
        let tell = self.welcomed.take();
        if tell.is_none_or(|tell| tell.send(welcome).is_err()) {
            cx.close(GoAway::new(Code::OK, "too late"));
        }
    }

    fn ended(&self) {
        self.end.send_if_modified(|end| end.replace(end.unwrap_or_else(Instant::now)).is_none());
    }
}

impl Handler for Answering {
    type Protocol = Native;
    type Mail = ();

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(_) => cx.close(GoAway::new(Code::PROTOCOL, "an edge takes no hello")),
            PeerEvent::Welcome(welcome) => self.on_welcome(welcome, cx),
            PeerEvent::Frame(Frame::Call(call)) => {
                cx.send(Frame::Reply(Reply { id: call.id, body: self.incarnation.clone() }));
            }
            PeerEvent::GoAway(_) => {
                self.ended();
                cx.close(GoAway::new(Code::OK, "good-bye"));
            }
            PeerEvent::Frame(_) | PeerEvent::Stream(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_mail(&mut self, (): (), cx: &mut Cx<'_>) {
        cx.close(GoAway::new(Code::OK, "good-bye"));
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}

    fn on_closing(&mut self, _: Vec<()>) {}
    fn on_close(self, _: CloseReason) {
        self.ended();
    }
}
