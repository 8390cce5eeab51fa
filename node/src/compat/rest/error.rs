//! Why a query string is not a request, in the reference's words.

/// Why a query string is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// A field that is not a list has several values.
    #[error("too many values for field {field:?}: {values}")]
    TooManyValues {
        /// The field's name in the proto.
        field: String,
        /// All values, separated by commas.
        values: String,
    },
    /// A number cannot be parsed.
    #[error("parsing field {field:?}: strconv.{parser}: parsing {text:?}: {reason}")]
    Number {
        /// The field's name in the proto.
        field: String,
        /// The Go function that the reference parses it with.
        parser: &'static str,
        /// The value.
        text: String,
        /// Go's reason.
        reason: &'static str,
    },
    /// A field has a type that cannot be written in a query.
    #[error("field {field:?} of {kind} cannot be set by a query")]
    Kind {
        /// The field's name in the proto.
        field: String,
        /// Its type.
        kind: String,
    },
    /// The fields do not make a message of the request's type.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
}
