//! A bounded queue with many senders and one receiving task, cheap when idle.
//!
//! Kept our own: a channel of tokio or futures has no count of bytes, no urgent lane and no way to take everything at
//! once, and holds memory while it is empty.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use crate::limits::{ANSWERS_BYTES_MAX, MAILBOX_BYTES_MAX, MAILBOX_ITEMS_MAX};

/// Capacity that an empty queue keeps, in messages.
const KEPT: usize = 64;

/// The sending side of a task's queue; cheap to clone.
pub struct Mailbox<M>(Arc<Shared<M>>);

struct Shared<M> {
    // Held for a push or a swap only; each session has a mailbox and a lock of its own.
    state: Mutex<State<M>>,
    /// Whether an urgent message waits: checked at each wake-up, and nearly always false.
    urgent: AtomicBool,
    waker: AtomicWaker,
}

struct State<M> {
    queue: VecDeque<M>,
    urgent: VecDeque<M>,
    bytes: usize,
    /// Bytes of the answers that wait, and of those that were taken last.
    answers: (usize, usize),
    /// Taken by the task but not handled yet.
    taken: usize,
    closed: bool,
}

/// Why a mailbox did not take a message; the message comes back.
#[derive(Debug)]
pub enum PushError<M> {
    /// Too many messages or bytes wait: the receiver is busy.
    Full(M),
    /// The receiver has closed the mailbox.
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

    /// Adds a message that counts for `bytes` payload bytes.
    ///
    /// # Errors
    /// [`PushError`], with the message.
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

    /// Adds a message however many wait: for answers and notifications, whose number is bounded by what the receiver
    /// has asked for. False: the receiver has closed the mailbox.
    pub fn push_always(&self, item: M) -> bool {
        let state = self.state();
        if state.closed {
            return false;
        }
        self.put(state, item);
        true
    }

    /// Adds an answer that counts for `bytes` bytes; answers do not keep requests out.
    ///
    /// # Errors
    /// [`PushError`], with the message: the receiver does not read its answers.
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

    /// Approximate bytes of answers that the receiver has not written yet.
    pub fn unwritten(&self) -> usize {
        let (waiting, taken) = self.state().answers;
        waiting + taken
    }

    /// As [`Mailbox::push_always`], but before all other messages, and handled even while the peer reads nothing: for
    /// messages that end a connection or one of its requests.
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

    /// The next urgent message.
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

    /// Whether the receiver has closed the mailbox.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether both handles belong to the same mailbox.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes all messages: for receivers that no driver runs.
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

    /// Fills an empty inbox, whose capacity stays within [`KEPT`].
    pub(super) fn refill(&self, inbox: &mut VecDeque<M>) {
        if inbox.capacity() > KEPT {
            *inbox = VecDeque::new();
        }
        self.take(inbox);
    }

    /// Swaps the waiting messages into `into`, which must be empty.
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

    /// Releases the capacity that a burst left behind.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        if state.queue.is_empty() {
            state.queue = VecDeque::new();
        }
    }

    /// Closes the mailbox and gives the messages that were never handled, those of the inbox first; `None` if it was
    /// closed before.
    pub(super) fn end(&self, inbox: &mut VecDeque<M>) -> Option<Vec<M>> {
        if self.is_closed() {
            return None;
        }
        let mut unread: Vec<_> = std::mem::take(inbox).into();
        unread.extend(self.close());
        Some(unread)
    }

    /// Closes the mailbox and gives the messages that were never taken.
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
    fn urgent_message_is_taken_first() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push_always(1) && mailbox.push_urgent(2) && mailbox.push_urgent(3));
        assert_eq!(mailbox.take_urgent(), Some(2));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert_eq!(taken, [1]);
        assert_eq!((mailbox.take_urgent(), mailbox.take_urgent()), (Some(3), None));
        assert!(mailbox.push_always(4) && mailbox.push_urgent(5));
        assert_eq!(mailbox.close(), [5, 4], "messages that were never taken come back");
        assert!(!mailbox.push_urgent(6));
    }

    #[test]
    fn answers_are_bounded_apart_from_requests() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push_answer(1, ANSWERS_BYTES_MAX).is_ok());
        assert!(mailbox.push_answer(2, 1).is_ok());
        assert!(matches!(mailbox.push_answer(3, 1), Err(PushError::Full(3))));
        assert!(mailbox.push(4, 1).is_ok(), "answers do not keep requests out");
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        assert!(
            matches!(mailbox.push_answer(5, 1), Err(PushError::Full(5))),
            "answers that were taken are not written yet"
        );
        taken.clear();
        mailbox.take(&mut taken);
        assert_eq!(mailbox.unwritten(), 0);
        assert!(mailbox.push_answer(6, 1).is_ok());
        mailbox.close();
        assert!(matches!(mailbox.push_answer(7, 1), Err(PushError::Closed(7))));
    }

    #[test]
    fn mailbox_is_full_by_messages_and_by_bytes_and_refuses_after_close() {
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
