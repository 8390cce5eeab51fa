//! Whatever both ends of a relayed stream do, in whatever order: what is read is the beginning of
//! what was written, a clean end means all of it, and no end hangs. Time is virtual.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test")]

mod driver_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use driver_support::*;
use limes_wire::Code;
use limes_wire::driver::RecordStream;
use limes_wire::frame::Frame;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Most things that an end does, and most bytes in one of them.
const OPS: usize = 12;
const SIZE: usize = 400_000;

/// One thing that an end does.
#[derive(Debug, Clone)]
enum Op {
    Write(usize),
    /// Gives a write up before it is done.
    HalfWrite(usize),
    Read(usize),
    ReadToEnd,
    Shutdown,
    Wait,
    Reset,
    Drop,
    /// Its whole connection goes.
    Cut,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..SIZE).prop_map(Op::Write),
        2 => (0usize..SIZE).prop_map(Op::HalfWrite),
        6 => (1usize..SIZE).prop_map(Op::Read),
        3 => Just(Op::ReadToEnd),
        3 => Just(Op::Shutdown),
        2 => Just(Op::Wait),
        1 => Just(Op::Reset),
        1 => Just(Op::Drop),
        1 => Just(Op::Cut),
    ]
}

/// What was sent in one direction.
#[derive(Debug, Default)]
struct Said {
    /// Bytes that a write may have accepted.
    bytes: AtomicUsize,
    ended: AtomicUsize,
}

/// How long an end waits for the other, which may send nothing.
const A_WHILE: Duration = Duration::from_secs(3);

struct End {
    stream: RecordStream,
    /// What both ends send.
    text: &'static [u8],
    out: Arc<Said>,
    back: Arc<Said>,
    got: usize,
    /// Bytes that a write certainly accepted.
    sent: usize,
}

impl End {
    async fn write(&mut self, len: usize, patience: Duration) {
        if self.out.ended.load(Ordering::Relaxed) == 1 {
            assert!(self.stream.write(b"more").await.is_err(), "a write after END fails");
            return;
        }
        let end = self.sent + len;
        let write = async {
            while self.sent < end {
                let bytes = &self.text[self.sent..end.min(self.sent + 100_000)];
                self.out.bytes.fetch_max(self.sent + bytes.len(), Ordering::Relaxed);
                // An abandoned write has accepted nothing.
                self.sent += self.stream.write(bytes).await?;
            }
            std::io::Result::Ok(())
        };
        let _ = timeout(patience, write).await;
    }

    /// False: there is no more.
    async fn read(&mut self, len: usize) -> bool {
        let mut buf = vec![0; len];
        match timeout(A_WHILE, self.stream.read(&mut buf)).await {
            Err(_) | Ok(Err(_)) => false,
            Ok(Ok(0)) => {
                assert_eq!(self.back.ended.load(Ordering::Relaxed), 1, "an end that was not sent");
                assert_eq!(self.got, self.back.bytes.load(Ordering::Relaxed), "an end before the end");
                false
            }
            Ok(Ok(read)) => {
                assert!(buf[..read] == self.text[self.got..self.got + read], "other bytes than were written");
                self.got += read;
                assert!(self.got <= self.back.bytes.load(Ordering::Relaxed));
                true
            }
        }
    }

    async fn act(mut self, ops: Vec<Op>, connection: tokio::task::AbortHandle) {
        for op in ops {
            match op {
                Op::Write(len) => self.write(len, A_WHILE).await,
                Op::HalfWrite(len) => self.write(len, Duration::from_millis(1)).await,
                Op::Read(len) => drop(self.read(len).await),
                Op::ReadToEnd => while self.read(50_000).await {},
                Op::Shutdown => {
                    self.out.bytes.store(self.sent, Ordering::Relaxed);
                    self.out.ended.store(1, Ordering::Relaxed);
                    if timeout(A_WHILE, self.stream.shutdown()).await.is_err() {
                        return;
                    }
                }
                Op::Wait => tokio::time::sleep(Duration::from_millis(100)).await,
                Op::Reset => return self.stream.reset(Code::CANCELLED, "as it pleases").await,
                Op::Drop => return,
                Op::Cut => return connection.abort(),
            }
        }
    }
}

async fn play(room: usize, near_ops: Vec<Op>, far_ops: Vec<Op>) {
    let mut way = Gateway::with_room(room).await;
    let (near, far, relay) = way.stream().await;
    let (out, back) = (Arc::<Said>::default(), Arc::<Said>::default());
    let cut = |ops: &[Op]| ops.iter().any(|op| matches!(op, Op::Cut));
    let any_cut = cut(&near_ops) || cut(&far_ops);
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    let text = TEXT.get_or_init(|| pattern(0, OPS * SIZE));
    let near = End { stream: near, text, out: out.clone(), back: back.clone(), got: 0, sent: 0 };
    let far = End { stream: far, text, out: back, back: out, got: 0, sent: 0 };
    let near = tokio::spawn(near.act(near_ops, way.edge.task.abort_handle()));
    let far = tokio::spawn(far.act(far_ops, way.service.task.abort_handle()));
    near.await.unwrap();
    far.await.unwrap();
    // Both ends are gone, so the gateway's part must go as well.
    timeout(Duration::from_secs(20), relay).await.expect("the relay hangs").unwrap();
    if !any_cut {
        for peer in [&mut way.edge, &mut way.service] {
            peer.send(call(1, "alive"));
            assert!(matches!(peer.frame().await, Frame::Reply(_)));
        }
        let (mut near, mut far, _) = way.stream().await;
        near.write_all(b"again").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_relayed_stream_is_a_pipe(
        room in prop_oneof![Just(100usize), 1_000usize..200_000],
        near in prop::collection::vec(op(), 1..OPS),
        far in prop::collection::vec(op(), 1..OPS),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(room, near, far));
    }
}
