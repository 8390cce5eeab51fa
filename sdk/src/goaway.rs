//! What a go-away asks of a client.

use limes_wire::Code;

/// A client's reaction to a go-away (PROTOCOL 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Do not reconnect.
    StayAway,
    /// Do not reconnect, unless the replacing connection may be the client's own.
    GiveWay,
    /// Open a session elsewhere first, then leave.
    MoveFirst,
    /// Reconnect after a pause.
    Reconnect,
}

impl Reaction {
    /// The reaction of a client that was not welcomed.
    pub(crate) fn before_welcome(code: Code) -> Self {
        match code {
            Code::AUTH | Code::VERSION | Code::REFUSED | Code::PROTOCOL | Code::TOO_LARGE => {
                Reaction::StayAway
            }
            _ => Reaction::Reconnect,
        }
    }

    /// The reaction of a client with an open session.
    pub(crate) fn after_welcome(code: Code) -> Self {
        match code {
            Code::KICKED => Reaction::StayAway,
            Code::REPLACED => Reaction::GiveWay,
            Code::DRAINING | Code::ISOLATED => Reaction::MoveFirst,
            _ => Reaction::Reconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_welcome_some_codes_are_final() {
        for (code, _) in Code::ALL.iter().copied() {
            let is_final =
                matches!(code, Code::AUTH | Code::VERSION | Code::REFUSED | Code::PROTOCOL | Code::TOO_LARGE);
            assert_eq!(Reaction::before_welcome(code) == Reaction::StayAway, is_final, "{code}");
        }
    }

    #[test]
    fn after_the_welcome_the_code_decides() {
        assert_eq!(Reaction::after_welcome(Code::PROTOCOL), Reaction::Reconnect);
        assert_eq!(Reaction::after_welcome(Code::KICKED), Reaction::StayAway);
        assert_eq!(Reaction::after_welcome(Code::REPLACED), Reaction::GiveWay);
        assert_eq!(Reaction::after_welcome(Code::DRAINING), Reaction::MoveFirst);
        assert_eq!(Reaction::after_welcome(Code(7_777)), Reaction::Reconnect);
    }
}
