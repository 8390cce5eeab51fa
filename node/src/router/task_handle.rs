//! The sending side of a task's mailbox.

use limes_wire::driver::{Mailbox, PushError};

/// A mailbox item that carries a delivery or a command.
pub(crate) trait Message: Send + Sized + 'static {
    /// What any receiver takes.
    type Delivery;
    /// The commands of the task that owns the mailbox.
    type Command;
    /// Wraps a delivery.
    fn delivery(delivery: Self::Delivery) -> Self;
    /// Wraps a command.
    fn command(command: Self::Command) -> Self;
    /// Unwraps a delivery.
    fn into_delivery(self) -> Option<Self::Delivery>;
}

/// The sending side of a task's mailbox. Cheap to clone; sending never waits.
#[derive(Debug)]
pub(crate) struct TaskHandle<M>(Mailbox<M>);

impl<M> Clone for TaskHandle<M> {
    fn clone(&self) -> Self {
        TaskHandle(self.0.clone())
    }
}

impl<M: Message> TaskHandle<M> {
    /// The handle of the task that reads this mailbox.
    pub(crate) fn new(mailbox: Mailbox<M>) -> Self {
        TaskHandle(mailbox)
    }

    /// Sends a delivery of `bytes` of payload if the mailbox has space.
    ///
    /// # Errors
    /// The mailbox is full or closed; the delivery is returned.
    pub(crate) fn deliver(&self, delivery: M::Delivery, bytes: usize) -> Result<(), PushError<M::Delivery>> {
        returned(self.0.push(M::delivery(delivery), bytes))
    }

    /// Sends a small delivery even if the mailbox is full; false if it is closed.
    pub(crate) fn deliver_always(&self, delivery: M::Delivery) -> bool {
        self.0.push_always(M::delivery(delivery))
    }

    /// Sends an answer with a payload of `bytes`; answers have a bound of their own.
    ///
    /// # Errors
    /// Too many answers wait unread, or the mailbox is closed; the delivery is returned.
    pub(crate) fn deliver_answer(
        &self,
        answer: M::Delivery,
        bytes: usize,
    ) -> Result<(), PushError<M::Delivery>> {
        returned(self.0.push_answer(M::delivery(answer), bytes))
    }

    /// Sends a command; false if the mailbox is closed.
    pub(crate) fn command(&self, command: M::Command) -> bool {
        self.0.push_always(M::command(command))
    }

    /// Sends a command ahead of all else; false if the mailbox is closed.
    pub(crate) fn command_urgent(&self, command: M::Command) -> bool {
        self.0.push_urgent(M::command(command))
    }

    /// Whether the task has ended or is closing.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The mailbox itself.
    pub(crate) fn mailbox(&self) -> &Mailbox<M> {
        &self.0
    }
}

/// Unwraps the delivery that a mailbox has returned.
fn returned<M: Message>(pushed: Result<(), PushError<M>>) -> Result<(), PushError<M::Delivery>> {
    match pushed {
        Ok(()) => Ok(()),
        Err(PushError::Full(item)) => item.into_delivery().map_or(Ok(()), |d| Err(PushError::Full(d))),
        Err(PushError::Closed(item)) => item.into_delivery().map_or(Ok(()), |d| Err(PushError::Closed(d))),
    }
}
