//! What REST answers.

use axum::http::header::{CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Serialize;
use tonic::{Code, Status};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The body of every error.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// A message, with its unset fields and with 64-bit numbers as text.
pub(super) fn json<M: Message>(kind: MessageDescriptor, message: &M) -> Response {
    let written = || -> Result<Vec<u8>, String> {
        let mut dynamic = DynamicMessage::new(kind);
        dynamic.transcode_from(message).map_err(|error| error.to_string())?;
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut body = Vec::new();
        let mut writer = serde_json::Serializer::new(&mut body);
        dynamic.serialize_with_options(&mut writer, &options).map_err(|error| error.to_string())?;
        Ok(body)
    };
    match written() {
        Ok(body) => ([(CONTENT_TYPE, JSON)], body).into_response(),
        Err(text) => failed(&Status::internal(text)),
    }
}

/// A call that failed.
pub(super) fn failed(status: &Status) -> Response {
    problem(http_code(status.code()), "", status.message())
}

/// Parameters that could not be read.
pub(super) fn unreadable(text: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "CODEC", text)
}

/// No such route, whatever the verb.
pub(in crate::compat) fn not_found() -> Response {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = [(CONTENT_TYPE, text), (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// The route is known by this name.
pub(in crate::compat) fn moved(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::MOVED_PERMANENTLY, [(LOCATION, to)]).into_response(),
        Err(_) => not_found(),
    }
}

fn problem(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = Problem { code: code.as_u16(), reason, message, metadata: serde_json::Map::new() };
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
