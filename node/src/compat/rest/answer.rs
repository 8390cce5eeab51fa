//! Answers of REST.

use axum::http::header::{CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Serialize;
use tonic::{Code, Status};

use super::error::QueryError;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The body of every error.
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// Why a message cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
enum EncodeError {
    #[error(transparent)]
    Transcode(#[from] prost::DecodeError),
    #[error(transparent)]
    Write(#[from] serde_json::Error),
}

/// A message as JSON, with unset fields and with 64-bit numbers as strings.
pub(super) fn json<M: Message>(kind: MessageDescriptor, message: &M) -> Response {
    match encode(kind, message) {
        Ok(body) => ([(CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => failed(&Status::internal(error.to_string())),
    }
}

fn encode<M: Message>(kind: MessageDescriptor, message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut dynamic = DynamicMessage::new(kind);
    dynamic.transcode_from(message)?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut body = Vec::new();
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut body), &options)?;
    Ok(body)
}

/// The error of a call.
pub(super) fn failed(status: &Status) -> Response {
    error(http_code(status.code()), "", status.message())
}

/// The error for parameters that cannot be parsed.
pub(super) fn bad_query(query: &QueryError) -> Response {
    error(StatusCode::BAD_REQUEST, "CODEC", &query.to_string())
}

/// The error for a path and method that no route serves.
pub(in crate::compat) fn not_found() -> Response {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = [(CONTENT_TYPE, text), (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// A redirect to the path that a route has.
pub(in crate::compat) fn moved(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]).into_response(),
        Err(_) => not_found(),
    }
}

fn error(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = ErrorBody { code: code.as_u16(), reason, message, metadata: serde_json::Map::new() };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    (code, [(CONTENT_TYPE, JSON)], body).into_response()
}

fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
