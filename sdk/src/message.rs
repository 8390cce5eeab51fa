//! Messages that this side receives.

use bytes::Bytes;
use limes_wire::Code;

use crate::link::{Mail, Outbox};

/// A message, to be acknowledged: its publisher hears of it. Dropping it says that it was not taken.
#[derive(Debug)]
pub struct Message {
    /// Who sent it: an edge's id at a service, a service's id at an edge.
    pub peer: u64,
    /// What it is about.
    pub topic: String,
    /// The payload.
    pub body: Bytes,
    pub(crate) id: u64,
    pub(crate) outbox: Outbox,
    pub(crate) answered: bool,
}

impl Message {
    /// Takes the message over: its publisher's `publish` returns.
    pub fn done(mut self) {
        self.answer(Code::OK, String::new());
    }

    /// Refuses the message with one line that the publisher gets.
    pub fn error(mut self, text: impl Into<String>) {
        self.answer(Code::APPLICATION, text.into());
    }

    fn answer(&mut self, code: Code, text: String) {
        self.answered = true;
        self.outbox.push_always(Mail::Ack { id: self.id, code, text });
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(Code::APPLICATION, "the receiver dropped the message".to_owned());
        }
    }
}
