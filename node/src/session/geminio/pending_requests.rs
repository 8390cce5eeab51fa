//! What the peer has asked for, and which answer it waits for.
//!
//! A Go program that asks again with the same object repeats the packet's id, be it because its own time was
//! over, or because it waits for no answer. The reference passes each on under an id of its own; so do we.

use std::collections::HashMap;

use limes_wire::Str;

/// What an answer needs to know of its question.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingRequest {
    /// The packet's id: that of the answer.
    pub(super) id: u64,
    /// Method or topic; the answer to a call repeats it.
    pub(super) name: Str,
    /// The deadline is the peer's own.
    pub(super) in_time: bool,
}

/// PendingRequests that are not answered yet, by numbers of ours.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    last: u64,
    open: HashMap<u64, PendingRequest>,
    /// The newest under each packet id.
    newest: HashMap<u64, u64>,
}

impl PendingRequests {
    /// Notes a question and gives its number.
    pub(super) fn note(&mut self, asked: PendingRequest) -> u64 {
        self.last += 1;
        self.newest.insert(asked.id, self.last);
        self.open.insert(self.last, asked);
        self.last
    }

    /// The number of the newest question under a packet id.
    pub(super) fn newest(&self, id: u64) -> Option<u64> {
        self.newest.get(&id).copied()
    }

    /// Takes a question that has its answer, and whether the peer waits for that: under one id it waits for
    /// the answer to the newest only, and would take any other for it.
    pub(super) fn take(&mut self, no: u64) -> Option<(PendingRequest, bool)> {
        let asked = self.open.remove(&no)?;
        let is_newest = self.newest.get(&asked.id) == Some(&no);
        if is_newest {
            self.newest.remove(&asked.id);
        }
        Some((asked, is_newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_one_id_only_the_newest_question_is_answered() {
        let asked = |id| PendingRequest { id, ..PendingRequest::default() };
        let mut questions = PendingRequests::default();
        let (first, other, second) =
            (questions.note(asked(7)), questions.note(asked(8)), questions.note(asked(7)));
        assert_eq!((questions.newest(7), questions.newest(8)), (Some(second), Some(other)));
        assert_eq!(questions.take(first), Some((asked(7), false)));
        assert_eq!(questions.take(second), Some((asked(7), true)));
        assert_eq!(questions.take(second), None);
        assert_eq!(questions.take(other), Some((asked(8), true)));
        // The other way round: what comes after the newest answer is not waited for either.
        let (first, second) = (questions.note(asked(7)), questions.note(asked(7)));
        assert_eq!(questions.take(second), Some((asked(7), true)));
        assert_eq!(questions.take(first), Some((asked(7), false)));
        assert!(questions.open.is_empty() && questions.newest.is_empty());
    }
}
