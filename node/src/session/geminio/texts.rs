//! Errors in both languages: codes inside, texts that users of the reference know outside.

use limes_wire::Code;
use limes_wire::frame::{Execution, Role};

use super::pending_requests::PendingRequest;
use crate::router::message::{Failure, Kind};

/// How every callee of the dialect says that it has no handler; the method follows.
const NO_SUCH_RPC: &str = "no such rpc: ";

/// What a client that called or published is told.
pub(super) fn text(role: Role, kind: Kind, asked: &PendingRequest, failure: Failure) -> String {
    match failure.code {
        // Its own words, whatever they are.
        _ if failure.ran == Execution::Completed && !failure.text.is_empty() => failure.text,
        Code::NO_EDGE => "edge not online".to_owned(),
        Code::NO_METHOD if failure.text.starts_with(NO_SUCH_RPC) => failure.text,
        Code::NO_METHOD if role == Role::Edge => "record not found".to_owned(),
        Code::NO_METHOD => format!("{NO_SUCH_RPC}{}", asked.name),
        Code::NO_SERVICE if kind == Kind::Message => "topic not online".to_owned(),
        // As its own context would say it a moment later.
        Code::TIMEOUT if asked.in_time => "context deadline exceeded".to_owned(),
        Code::TIMEOUT => "timeout".to_owned(),
        Code::CANCELLED => "context canceled".to_owned(),
        Code::GONE | Code::REPLACED | Code::KICKED => "force closed".to_owned(),
        Code::TOO_LARGE => "packet payload too large".to_owned(),
        code if failure.text.is_empty() => code.to_string(),
        _ => failure.text,
    }
}

/// What the error of a client that was called or published to means.
pub(super) fn failure(text: String) -> Failure {
    match text.strip_prefix(NO_SUCH_RPC) {
        Some(_) => Failure::not_run(Code::NO_METHOD, text),
        None => Failure { code: Code::APPLICATION, ran: Execution::Completed, text, revision: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_read_the_texts_that_they_know() {
        let asked = PendingRequest { name: "m".into(), ..PendingRequest::default() };
        let says = |role, kind, failure| text(role, kind, &asked, failure);
        let not_run = |code| Failure::not_run(code, "in other words");
        assert_eq!(says(Role::Service, Kind::Call, not_run(Code::NO_EDGE)), "edge not online");
        assert_eq!(says(Role::Edge, Kind::Call, not_run(Code::NO_METHOD)), "record not found");
        assert_eq!(says(Role::Service, Kind::Call, not_run(Code::NO_METHOD)), "no such rpc: m");
        assert_eq!(says(Role::Edge, Kind::Message, not_run(Code::NO_SERVICE)), "topic not online");
        for code in [Code::GONE, Code::REPLACED, Code::KICKED] {
            assert_eq!(says(Role::Edge, Kind::Call, Failure::may_have_run(code, "x")), "force closed");
        }
        assert_eq!(says(Role::Edge, Kind::Call, not_run(Code::TIMEOUT)), "timeout");
        let own = PendingRequest { in_time: true, ..PendingRequest::default() };
        let late = text(Role::Edge, Kind::Call, &own, not_run(Code::TIMEOUT));
        assert_eq!(late, "context deadline exceeded");
        assert_eq!(says(Role::Edge, Kind::Call, not_run(Code::BUSY)), "in other words");
        // What a callee says itself comes through, word for word.
        for own in ["svc failed", "timeout", "no such rpc: other"] {
            assert_eq!(says(Role::Edge, Kind::Call, failure(own.to_owned())), own);
        }
        assert_eq!(failure("no such rpc: x".to_owned()).code, Code::NO_METHOD);
        assert_eq!(failure("no legs".to_owned()).code, Code::APPLICATION);
    }
}
