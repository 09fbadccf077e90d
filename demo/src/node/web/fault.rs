//! Everything that a request can be answered with when it is not answered with success.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::app::input::{Faults, fault};
use crate::app::store::{Refusal, Thing};
use crate::node::shards::ShardsError;

/// An error answer in the API's shape: `{"errors": {"<what>": ["<why>"]}}`.
#[derive(Debug)]
pub(crate) enum Fault {
    Invalid(Faults),
    Taken(&'static str),
    MissingToken,
    BadToken(String),
    Credentials,
    NotFound(Thing),
    Forbidden(Thing),
    NoSuchPage,
    NotAllowed,
    TooLarge {
        bytes_max: usize,
    },
    NotJson,
    NotAnImage,
    TooSlow,
    /// No answer from the database or the queue: try again.
    Unavailable(String),
}

impl From<Faults> for Fault {
    fn from(faults: Faults) -> Self {
        Self::Invalid(faults)
    }
}

impl From<ShardsError> for Fault {
    fn from(error: ShardsError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(thing) => Self::NotFound(thing),
            Refusal::Forbidden(thing) => Self::Forbidden(thing),
            Refusal::TooMany { what, max } => {
                Self::Invalid(fault(&what, &format!("are too many (maximum is {max})")))
            }
            Refusal::Abandoned { kind, .. } => Self::Taken(kind.as_str()),
            Refusal::Taken { .. } => Self::Taken("name"),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, errors) = match self {
            Self::Invalid(faults) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
            Self::Taken(what) => (StatusCode::CONFLICT, fault(what, "has already been taken")),
            Self::MissingToken => (StatusCode::UNAUTHORIZED, fault("token", "is missing")),
            Self::BadToken(why) => (
                StatusCode::UNAUTHORIZED,
                fault("token", &format!("is not valid: {why}")),
            ),
            Self::Credentials => (StatusCode::UNAUTHORIZED, fault("credentials", "invalid")),
            Self::NotFound(thing) => (StatusCode::NOT_FOUND, fault(thing.name(), "not found")),
            Self::Forbidden(thing) => (StatusCode::FORBIDDEN, fault(thing.name(), "forbidden")),
            Self::NoSuchPage => (StatusCode::NOT_FOUND, fault("resource", "not found")),
            Self::NotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                fault("method", "is not allowed here"),
            ),
            Self::TooLarge { bytes_max } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                fault(
                    "body",
                    &format!("is too large (maximum is {bytes_max} bytes)"),
                ),
            ),
            Self::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                fault(
                    "body",
                    "must be JSON, sent as content-type application/json",
                ),
            ),
            Self::NotAnImage => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                fault(
                    "body",
                    "must be a PNG or JPEG image, or a form with one in its field `photo`",
                ),
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                fault("body", "took too long to arrive"),
            ),
            Self::Unavailable(why) => {
                tracing::warn!(%why, "answered 503");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    fault("server", "is busy recovering; try again"),
                )
            }
        };
        let mut response = (status, Json(json!({ "errors": errors }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        response
    }
}
