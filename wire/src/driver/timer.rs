//! One timer for all deadlines of a connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::time::Sleep;

/// Made at the first deadline and moved as seldom as possible: when the deadline moves away, the timer fires early
/// once, which costs one turn; moving it at each frame would cost more.
#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The waker that the timer wakes.
    waker: Option<Waker>,
}

/// The time of the runtime, so that a test may stop it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Timer {
    /// Whether it has woken the task since it was last armed.
    pub(super) fn has_fired(&self) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }

    /// Wakes the task at `due` at the latest; gives whether that has passed already.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>, now: Instant, due: Instant) -> bool {
        if due <= now {
            return true;
        }
        let at = tokio::time::Instant::from_std(due);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        let pending = sleep.deadline().into_std() > now && !sleep.is_elapsed();
        let same = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if pending && same && sleep.deadline() <= at {
            return false;
        }
        if !pending || sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        self.waker = Some(cx.waker().clone());
        sleep.as_mut().poll(cx).is_ready()
    }
}
