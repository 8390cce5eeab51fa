//! The state machine of a stream.
//!
//! ```text
//!   Opening ──accept──▶ Open ──sent end──▶ SendingEnded ──got end──▶ Closed
//!      │                  └───got end───▶ ReceivingEnded ──sent end──▶ Closed
//!      └──── any state but Closed: a reset sent or got, or a cut ────▶ Reset
//! ```
//!
//! The opening side may send data before the accept arrives: it is in `Opening` until then.

/// The state of a stream, seen from one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// OPEN was sent or received; no ACCEPT yet.
    Opening,
    /// Both directions carry data.
    Open,
    /// This end has sent its END.
    SendingEnded,
    /// The other end has sent its END.
    ReceivingEnded,
    /// Both ends have sent END: a clean close.
    Closed,
    /// Reset: bytes may be missing.
    Reset,
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// ACCEPT was sent or received.
    Accept,
    /// DATA was sent.
    SendData,
    /// END was sent.
    SendEnd,
    /// DATA was received.
    GotData,
    /// END was received, with the right count.
    GotEnd,
    /// RESET was sent or received.
    Reset,
    /// The transport ended without an END.
    Cut,
}

/// A step that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{1:?} is not allowed for a stream that is {0:?}")]
pub struct Illegal(pub State, pub Input);

impl State {
    /// All states, for tables and tests.
    pub const ALL: [State; 6] = [
        State::Opening,
        State::Open,
        State::SendingEnded,
        State::ReceivingEnded,
        State::Closed,
        State::Reset,
    ];

    /// The state after an input.
    ///
    /// # Errors
    /// The protocol does not allow the input in this state.
    pub fn step(self, input: Input) -> Result<State, Illegal> {
        use Input as I;
        use State as S;
        Ok(match (self, input) {
            (S::Opening, I::Accept) => S::Open,
            (S::Opening, I::SendData) => S::Opening,
            (S::Open | S::ReceivingEnded, I::SendData) => self,
            (S::Open | S::SendingEnded, I::GotData) => self,
            (S::Open, I::SendEnd) => S::SendingEnded,
            (S::Open, I::GotEnd) => S::ReceivingEnded,
            (S::SendingEnded, I::GotEnd) | (S::ReceivingEnded, I::SendEnd) => S::Closed,
            (S::Closed, I::Cut) => S::Closed,
            (S::Closed, I::Reset) => S::Closed,
            (_, I::Reset | I::Cut) => S::Reset,
            _ => return Err(Illegal(self, input)),
        })
    }
}
