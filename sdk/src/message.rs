//! Messages that this side receives.

use bytes::Bytes;
use limes_wire::Code;

use crate::command::{LinkCommand, LinkHandle};

/// A received message; its publisher waits for the acknowledgement. Dropping it refuses it.
#[derive(Debug)]
pub struct Message {
    /// The sender: an edge's id at a service, a service's id at an edge.
    pub peer: u64,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub body: Bytes,
    pub(crate) id: u64,
    pub(crate) link: LinkHandle,
    pub(crate) answered: bool,
}

impl Message {
    /// Acknowledges the message: its publisher's `publish` returns.
    pub fn done(mut self) {
        self.answer(Code::OK, String::new());
    }

    /// Refuses the message; its publisher gets the text, one line.
    pub fn error(mut self, text: impl Into<String>) {
        self.answer(Code::APPLICATION, text.into());
    }

    fn answer(&mut self, code: Code, text: String) {
        self.answered = true;
        self.link.push_always(LinkCommand::Ack { id: self.id, code, text });
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(Code::APPLICATION, "the receiver dropped the message".to_owned());
        }
    }
}
