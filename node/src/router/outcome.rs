//! How requests end.

use bytes::Bytes;
use limes_routing::Revision;
use limes_wire::Code;
use limes_wire::frame::Execution;

use super::address::Freshness;
use crate::consensus::handle::ConsensusError;

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The receiver's reply to a call.
    Reply(Bytes),
    /// The receiver has acknowledged a message.
    Done,
    /// It failed.
    Failed(Failure),
}

impl Answer {
    /// The answer without its payload, for a caller that does not read its answers.
    pub(super) fn dropped(self) -> Answer {
        match self {
            Answer::Reply(_) => Answer::Failed(Failure {
                code: Code::BUSY,
                ran: Execution::Completed,
                text: "too many answers wait for you unread; this reply was dropped".to_owned(),
                revision: None,
            }),
            small => small,
        }
    }

    /// The code that it is counted under.
    pub(crate) fn code(&self) -> Code {
        match self {
            Answer::Reply(_) | Answer::Done => Code::OK,
            Answer::Failed(failure) => failure.code,
        }
    }
}

/// Why a request or the opening of a stream failed, and whether a request may have run.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// From the closed set.
    pub(crate) code: Code,
    /// What the caller may assume.
    pub(crate) ran: Execution,
    /// One line for a person.
    pub(crate) text: String,
    /// For `MOVED`: a revision at which the tables have the new home.
    pub(crate) revision: Option<Revision>,
}

impl Failure {
    /// A failure of a request that certainly has not run.
    pub(crate) fn not_run(code: Code, text: impl Into<String>) -> Self {
        Failure { code, ran: Execution::NotStarted, text: text.into(), revision: None }
    }

    /// A failure of a request that was handed to its receiver.
    pub(crate) fn may_have_run(code: Code, text: impl Into<String>) -> Self {
        Failure { code, ran: Execution::Unknown, text: text.into(), revision: None }
    }

    /// How new the tables must be before the request is resolved once more; `None`: it is not (R4).
    ///
    /// The one rule for redirects, of requests and streams alike: a node that does not hold the session
    /// (`MOVED`), or a receiver that has just gone, is worth one more attempt; a second is not made.
    pub(crate) fn redirect(&self, is_first_attempt: bool) -> Option<Freshness> {
        match self.code {
            _ if !is_first_attempt || self.ran != Execution::NotStarted => None,
            Code::MOVED => Some(self.revision.map_or(Freshness::Barrier, Freshness::AtLeast)),
            Code::GONE => Some(Freshness::Barrier),
            _ => None,
        }
    }
}

impl From<ConsensusError> for Failure {
    fn from(error: ConsensusError) -> Self {
        Failure::not_run(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_attempt_is_redirected() {
        let moved = Failure { revision: Some(Revision(7)), ..Failure::not_run(Code::MOVED, "") };
        assert_eq!(moved.redirect(true), Some(Freshness::AtLeast(Revision(7))));
        assert_eq!(moved.redirect(false), None);
        assert_eq!(Failure::not_run(Code::GONE, "").redirect(true), Some(Freshness::Barrier));
        assert_eq!(Failure::may_have_run(Code::GONE, "").redirect(true), None);
        assert_eq!(Failure::not_run(Code::BUSY, "").redirect(true), None);
    }
}
