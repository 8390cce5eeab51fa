//! Errors between the node's codes and the texts that users of the reference know.

use limes_wire::Code;
use limes_wire::frame::{Execution, Role};

use super::pending_requests::PendingRequest;
use crate::router::message::{Failure, Kind};

/// With what every callee of the protocol reports that it has no handler; the method follows.
const NO_SUCH_RPC: &str = "no such rpc: ";

/// The text of a failure for the client that called or published.
pub(super) fn text(role: Role, kind: Kind, request: &PendingRequest, failure: Failure) -> String {
    match failure.code {
        // The receiver's own text is passed through.
        _ if failure.ran == Execution::Completed && !failure.text.is_empty() => failure.text,
        Code::NO_EDGE => "edge not online".to_owned(),
        Code::NO_METHOD if failure.text.starts_with(NO_SUCH_RPC) => failure.text,
        Code::NO_METHOD if role == Role::Edge => "record not found".to_owned(),
        Code::NO_METHOD => format!("{NO_SUCH_RPC}{}", request.name),
        Code::NO_SERVICE if kind == Kind::Message => "topic not online".to_owned(),
        // The text that the client's own context would report a moment later.
        Code::TIMEOUT if request.has_own_deadline => "context deadline exceeded".to_owned(),
        Code::TIMEOUT => "timeout".to_owned(),
        Code::CANCELLED => "context canceled".to_owned(),
        Code::GONE | Code::REPLACED | Code::KICKED => "force closed".to_owned(),
        Code::TOO_LARGE => "packet payload too large".to_owned(),
        code if failure.text.is_empty() => code.to_string(),
        _ => failure.text,
    }
}

/// The failure that the error text of a receiver means.
pub(super) fn failure(text: String) -> Failure {
    match text.strip_prefix(NO_SUCH_RPC) {
        Some(_) => Failure::not_run(Code::NO_METHOD, text),
        None => Failure { code: Code::APPLICATION, ran: Execution::Completed, text, revision: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(role: Role, kind: Kind, failure: Failure) -> String {
        let request = PendingRequest { name: "m".into(), ..PendingRequest::default() };
        text(role, kind, &request, failure)
    }

    fn not_run(code: Code) -> Failure {
        Failure::not_run(code, "in other words")
    }

    #[test]
    fn codes_become_the_texts_of_the_reference() {
        assert_eq!(text_of(Role::Service, Kind::Call, not_run(Code::NO_EDGE)), "edge not online");
        assert_eq!(text_of(Role::Edge, Kind::Call, not_run(Code::NO_METHOD)), "record not found");
        assert_eq!(text_of(Role::Service, Kind::Call, not_run(Code::NO_METHOD)), "no such rpc: m");
        assert_eq!(text_of(Role::Edge, Kind::Message, not_run(Code::NO_SERVICE)), "topic not online");
        for code in [Code::GONE, Code::REPLACED, Code::KICKED] {
            let failure = Failure::may_have_run(code, "x");
            assert_eq!(text_of(Role::Edge, Kind::Call, failure), "force closed");
        }
        assert_eq!(text_of(Role::Edge, Kind::Call, not_run(Code::BUSY)), "in other words");
    }

    #[test]
    fn a_timeout_names_whose_deadline_has_passed() {
        assert_eq!(text_of(Role::Edge, Kind::Call, not_run(Code::TIMEOUT)), "timeout");
        let own = PendingRequest { has_own_deadline: true, ..PendingRequest::default() };
        let late = text(Role::Edge, Kind::Call, &own, not_run(Code::TIMEOUT));
        assert_eq!(late, "context deadline exceeded");
    }

    #[test]
    fn the_text_of_a_receiver_is_passed_through() {
        for own in ["svc failed", "timeout", "no such rpc: other"] {
            assert_eq!(text_of(Role::Edge, Kind::Call, failure(own.to_owned())), own);
        }
    }

    #[test]
    fn only_an_unknown_method_means_that_a_call_has_not_run() {
        assert_eq!(failure("no such rpc: x".to_owned()).code, Code::NO_METHOD);
        assert_eq!(failure("no legs".to_owned()).code, Code::APPLICATION);
    }
}
