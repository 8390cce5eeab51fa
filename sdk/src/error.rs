//! What a failure was, and what the caller may do next.

use std::fmt;

use limes_wire::Code;
use limes_wire::frame::{CallError as WireError, Execution};

/// What went wrong.
///
/// ```
/// # fn example(error: limes_sdk::CallError) {
/// use limes_sdk::Kind;
///
/// match error.kind() {
///     Kind::NoMethod => println!("no service offers it"),
///     Kind::Application => println!("the handler failed: {}", error.text()),
///     _ if error.retryable() => println!("try again"),
///     _ if error.may_have_run() => println!("it may have run"),
///     _ => println!("it did not run: {error}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No edge with that id is connected.
    NoEdge,
    /// No service of that name, or none that takes the topic, is connected.
    NoService,
    /// No service offers the method, or the edge has no handler for it.
    NoMethod,
    /// A queue on the path is full.
    Busy,
    /// No answer within the deadline.
    Timeout,
    /// The receiver's connection ended, or was taken over by a newer one.
    Gone,
    /// The cluster has no quorum at present.
    NoQuorum,
    /// The receiver or the gateway refused.
    Refused,
    /// Larger than a limit allows.
    TooLarge,
    /// The receiver's handler reported an error of its own.
    Application,
    /// This client has no connection to the cluster.
    Disconnected,
    /// This client was closed.
    Closed,
    /// A code that this version does not know; the text explains it.
    Other,
}

/// Why a call, a message or a registration failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    kind: Kind,
    ran: Execution,
    code: Code,
    text: String,
}

/// Why a message was not acknowledged.
pub type PublishError = CallError;
/// Why a stream could not be opened.
pub type OpenError = CallError;

impl CallError {
    pub(crate) fn new(kind: Kind, code: Code, ran: Execution, text: impl Into<String>) -> Self {
        CallError { kind, ran, code, text: text.into() }
    }

    pub(crate) fn closed() -> Self {
        Self::new(Kind::Closed, Code::CANCELLED, Execution::NotStarted, "this client was closed")
    }

    pub(crate) fn not_sent() -> Self {
        Self::new(Kind::Disconnected, Code::GONE, Execution::NotStarted, "not connected to the cluster")
    }

    pub(crate) fn disconnected() -> Self {
        Self::new(
            Kind::Disconnected,
            Code::GONE,
            Execution::Unknown,
            "the connection broke before the answer came",
        )
    }

    pub(crate) fn timeout(ran: Execution) -> Self {
        Self::new(Kind::Timeout, Code::TIMEOUT, ran, "no answer within the deadline")
    }

    pub(crate) fn coded(code: Code, ran: Execution, text: impl Into<String>) -> Self {
        let kind = match code {
            Code::NO_EDGE => Kind::NoEdge,
            Code::NO_SERVICE => Kind::NoService,
            Code::NO_METHOD => Kind::NoMethod,
            Code::BUSY | Code::DRAINING => Kind::Busy,
            Code::TIMEOUT => Kind::Timeout,
            Code::REPLACED | Code::GONE | Code::MOVED => Kind::Gone,
            Code::NO_QUORUM | Code::ISOLATED => Kind::NoQuorum,
            Code::REFUSED | Code::AUTH => Kind::Refused,
            Code::TOO_LARGE => Kind::TooLarge,
            Code::APPLICATION => Kind::Application,
            _ => Kind::Other,
        };
        Self::new(kind, code, ran, text)
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The code on the wire.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Whether the receiver's handler may have run. If not, sending again cannot run it twice.
    pub fn may_have_run(&self) -> bool {
        self.ran != Execution::NotStarted
    }

    /// Whether sending again is safe and may succeed.
    pub fn retryable(&self) -> bool {
        !self.may_have_run()
            && matches!(
                self.kind,
                Kind::Busy
                    | Kind::Gone
                    | Kind::NoQuorum
                    | Kind::Disconnected
                    | Kind::NoEdge
                    | Kind::NoService
            )
    }

    /// The reason in words, one line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the cluster refused the request itself: another connection would not help.
    pub(crate) fn is_refusal(&self) -> bool {
        let is_transient = matches!(
            self.kind,
            Kind::Disconnected | Kind::Timeout | Kind::NoQuorum | Kind::Gone | Kind::Closed
        );
        !is_transient && self.code != Code::DRAINING
    }
}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        CallError::coded(error.code, error.ran, error.text)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ran = match self.ran {
            Execution::NotStarted => "not run",
            Execution::Unknown => "may have run",
            Execution::Completed => "has run",
        };
        write!(f, "{} ({ran}): {}", self.code, self.text)
    }
}

impl std::error::Error for CallError {}

/// Why the first connect failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The builder has no address.
    #[error("no address was given")]
    NoAddress,
    /// The TLS settings of the builder cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The cluster refuses this client for good.
    #[error("refused: {code}: {text}")]
    Refused {
        /// The reason.
        code: Code,
        /// The reason in words, one line.
        text: String,
    },
    /// No address answered in time; with the last reason.
    #[error("no node of the cluster could be reached in time; last: {0}")]
    Unreachable(String),
}
