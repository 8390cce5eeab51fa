//! The label values of metrics: small closed sets, so that no peer can create series.

use limes_wire::Code;
use limes_wire::frame::Role;

/// What sort of request a figure counts: the label `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Answered by a reply.
    Call,
    /// Answered by an acknowledgement.
    Message,
}

impl RequestKind {
    /// The values of the label, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 2] = ["call", "message"];
}

/// Which side sent a request: the label `direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// An edge asked a service.
    EdgeToService,
    /// A service asked an edge.
    ServiceToEdge,
}

impl Direction {
    /// The values of the label, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 2] = ["edge_to_service", "service_to_edge"];

    /// The direction of the requests that a peer of this role sends.
    pub(crate) fn of(sender: Role) -> Self {
        match sender {
            Role::Edge => Direction::EdgeToService,
            Role::Service | Role::Node => Direction::ServiceToEdge,
        }
    }
}

/// How an answer turned out: the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerClass {
    /// A reply or a positive acknowledgement.
    Ok,
    /// A failure other than a timeout.
    Error,
    /// No answer within the deadline.
    Timeout,
}

impl AnswerClass {
    /// The values of the label, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 3] = ["ok", "error", "timeout"];

    /// The class of a code.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::OK => AnswerClass::Ok,
            Code::TIMEOUT => AnswerClass::Timeout,
            _ => AnswerClass::Error,
        }
    }
}

/// Where the receiver of a request is connected: the label `path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// On the caller's node, or there was no receiver.
    Local,
    /// On another node.
    Remote,
}

impl Path {
    /// The values of the label, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 2] = ["local", "remote"];
}

/// A part of a connect: the label `phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectPhase {
    /// From the hello to the welcome.
    Admission,
    /// The part of it that waits until the session's row is committed.
    Commit,
}

impl ConnectPhase {
    /// The values of the label, in the order of the variants.
    pub(crate) const NAMES: [&'static str; 2] = ["admission", "commit"];
}

/// How many values the labels `outcome` and `reason` have.
pub(crate) const CODES: usize = Code::ALL.len() + 1;

/// The value of all codes that have no name.
const OTHER: &str = "other";

/// The values of the labels `outcome` and `reason`: the names of the codes, and one for all others.
pub(crate) fn code_names() -> Vec<&'static str> {
    Code::ALL.iter().map(|(_, name)| *name).chain([OTHER]).collect()
}

/// The position of a code among [`code_names`].
pub(crate) fn code_index(code: Code) -> usize {
    Code::ALL.binary_search_by_key(&code, |(known, _)| *known).unwrap_or(CODES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_code_has_its_own_label_value() {
        let names = code_names();
        assert_eq!(names.len(), CODES);
        for (code, name) in Code::ALL {
            assert_eq!((names[code_index(*code)], code.to_string()), (*name, (*name).to_owned()));
        }
    }

    #[test]
    fn codes_without_a_name_share_one_label_value() {
        for number in [15, 31, 43, 63, 64, 1_000_000, u32::MAX] {
            assert_eq!(code_names()[code_index(Code(number))], "other", "{number}");
        }
    }
}
