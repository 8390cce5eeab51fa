//! A bounded queue of many senders and one task, cheap when idle.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use crate::limits::{ANSWERS_BYTES_MAX, MAILBOX_BYTES_MAX, MAILBOX_ITEMS_MAX};

/// Mail for which an idle-looking queue keeps its room.
const ROOM_KEPT: usize = 64;

/// The sending side of a task's queue; cheap to clone.
pub struct Mailbox<M>(Arc<Shared<M>>);

struct Shared<M> {
    // Held for a push or a swap only; one mailbox's lock is never shared by all sessions.
    state: Mutex<State<M>>,
    /// Whether something urgent waits: asked at each wake-up, and nearly always no.
    urgent: AtomicBool,
    waker: AtomicWaker,
}

struct State<M> {
    queue: VecDeque<M>,
    urgent: VecDeque<M>,
    bytes: usize,
    /// Bytes of answers: those that wait, and those that were taken last.
    answers: (usize, usize),
    /// Taken by the task but not handled yet.
    taken: usize,
    closed: bool,
}

/// Why something was not put into a mailbox; it comes back.
#[derive(Debug)]
pub enum PushError<M> {
    /// Too many items or bytes wait: the receiver is busy.
    Full(M),
    /// The receiver is gone.
    Closed(M),
}

impl<M> Mailbox<M> {
    /// An empty mailbox.
    pub fn new() -> Self {
        Mailbox(Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                urgent: VecDeque::new(),
                bytes: 0,
                answers: (0, 0),
                taken: 0,
                closed: false,
            }),
            urgent: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.0.state.lock()
    }

    /// Puts an item in that counts for so many payload bytes.
    ///
    /// # Errors
    /// [`PushError`], with the item.
    pub fn push(&self, item: M, bytes: usize) -> Result<(), PushError<M>> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed(item));
        }
        if state.queue.len() + state.taken >= MAILBOX_ITEMS_MAX || state.bytes > MAILBOX_BYTES_MAX {
            return Err(PushError::Full(item));
        }
        state.bytes += bytes;
        self.put(state, item);
        Ok(())
    }

    /// Puts an item in whatever is queued: for answers and notices, whose number is bounded by what
    /// the receiver itself has asked for. False: the receiver is gone.
    pub fn push_always(&self, item: M) -> bool {
        let state = self.state();
        if state.closed {
            return false;
        }
        self.put(state, item);
        true
    }

    /// Puts an answer in that counts for so many bytes; answers do not keep requests out.
    ///
    /// # Errors
    /// [`PushError`], with the item: the receiver does not take its answers.
    pub fn push_answer(&self, item: M, bytes: usize) -> Result<(), PushError<M>> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed(item));
        }
        if state.answers.0 + state.answers.1 > ANSWERS_BYTES_MAX {
            return Err(PushError::Full(item));
        }
        state.answers.0 += bytes;
        self.put(state, item);
        Ok(())
    }

    /// About how many bytes of answers the receiver has not written yet.
    pub fn unwritten(&self) -> usize {
        let (waiting, taken) = self.state().answers;
        waiting + taken
    }

    /// As [`Mailbox::push_always`], before all that waits, and taken even while the peer reads nothing: for
    /// what ends a connection, or what it carries.
    pub fn push_urgent(&self, item: M) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        state.urgent.push_back(item);
        self.0.urgent.store(true, Ordering::Release);
        drop(state);
        self.0.waker.wake();
        true
    }

    /// The next urgent item.
    pub(super) fn take_urgent(&self) -> Option<M> {
        if !self.0.urgent.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state();
        let item = state.urgent.pop_front();
        self.0.urgent.store(!state.urgent.is_empty(), Ordering::Release);
        item
    }

    fn put(&self, mut state: MutexGuard<'_, State<M>>, item: M) {
        let was_empty = state.queue.is_empty();
        state.queue.push_back(item);
        drop(state);
        if was_empty {
            self.0.waker.wake();
        }
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether both names stand for the same mailbox.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes all that waits: for those who are not driven by a connection.
    pub fn take_all(&self) -> VecDeque<M> {
        let mut state = self.state();
        state.bytes = 0;
        Self::drain(&self.0, &mut state)
    }

    fn drain(shared: &Shared<M>, state: &mut State<M>) -> VecDeque<M> {
        shared.urgent.store(false, Ordering::Release);
        let mut all = std::mem::take(&mut state.urgent);
        all.append(&mut state.queue);
        all
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    /// Fills an inbox that is empty, which keeps no more room than [`ROOM_KEPT`].
    pub(super) fn refill(&self, inbox: &mut VecDeque<M>) {
        if inbox.capacity() > ROOM_KEPT {
            *inbox = VecDeque::new();
        }
        self.take(inbox);
    }

    /// Swaps what waits into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut VecDeque<M>) {
        let mut state = self.state();
        if state.queue.is_empty() {
            state.taken = 0;
            state.bytes = 0;
            state.answers.1 = 0;
            return;
        }
        std::mem::swap(&mut state.queue, into);
        state.taken = into.len();
        state.bytes = 0;
        state.answers = (0, state.answers.0);
    }

    /// Gives back the room that a burst has left behind.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
        }
    }

    /// Takes no more; gives what was never read, that in the inbox first. Nothing: it took no more already.
    pub(super) fn end(&self, inbox: &mut VecDeque<M>) -> Option<Vec<M>> {
        if self.is_closed() {
            return None;
        }
        let mut unread: Vec<_> = std::mem::take(inbox).into();
        unread.extend(self.close());
        Some(unread)
    }

    /// Takes no more; gives what was never taken.
    pub(super) fn close(&self) -> VecDeque<M> {
        let mut state = self.state();
        state.closed = true;
        Self::drain(&self.0, &mut state)
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        Mailbox::new()
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_urgent_goes_before_all_else() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push_always(1) && mailbox.push_urgent(2) && mailbox.push_urgent(3));
        assert_eq!(mailbox.take_urgent(), Some(2));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert_eq!(taken, [1]);
        assert_eq!((mailbox.take_urgent(), mailbox.take_urgent()), (Some(3), None));
        assert!(mailbox.push_always(4) && mailbox.push_urgent(5));
        assert_eq!(mailbox.close(), [5, 4], "what was never taken comes back");
        assert!(!mailbox.push_urgent(6));
    }

    #[test]
    fn answers_have_a_bound_of_their_own() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push_answer(1, ANSWERS_BYTES_MAX).is_ok());
        assert!(mailbox.push_answer(2, 1).is_ok());
        assert!(matches!(mailbox.push_answer(3, 1), Err(PushError::Full(3))));
        assert!(mailbox.push(4, 1).is_ok(), "requests find room");
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert!(matches!(mailbox.push_answer(5, 1), Err(PushError::Full(5))), "taken is not written");
        taken.clear();
        mailbox.take(&mut taken);
        assert_eq!(mailbox.unwritten(), 0);
        assert!(mailbox.push_answer(6, 1).is_ok());
        mailbox.close();
        assert!(matches!(mailbox.push_answer(7, 1), Err(PushError::Closed(7))));
    }

    #[test]
    fn is_full_by_items_and_by_bytes_and_refuses_after_close() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push(1, MAILBOX_BYTES_MAX + 1).is_ok());
        assert!(matches!(mailbox.push(2, 0), Err(PushError::Full(2))));
        assert!(mailbox.push_always(3));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert_eq!(taken, [1, 3]);
        for item in 0..MAILBOX_ITEMS_MAX - 2 {
            assert!(mailbox.push(item, 0).is_ok());
        }
        assert!(matches!(mailbox.push(0, 0), Err(PushError::Full(0))));
        assert_eq!(mailbox.close().len(), MAILBOX_ITEMS_MAX - 2);
        assert!(matches!(mailbox.push(0, 0), Err(PushError::Closed(0))));
        assert!(!mailbox.push_always(0));
    }
}
