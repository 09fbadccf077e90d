//! What the edge itself says, when no web server can: JSON in the API's error form, with what to do.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};

use super::OutBody;

/// A refusal of the edge's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many requests as are allowed are under way.
    TooBusy,
    /// There is no web server to ask.
    NoServer,
    /// No attempt brought an answer.
    Lost,
    /// The web server took too long.
    Slow,
    /// The request's body is longer than the cap.
    TooLarge,
    /// The client stopped sending in the middle of its body.
    Stalled,
    /// The client's body broke off or made no sense.
    BrokenBody,
    /// The edge does not tunnel.
    Method,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::TooBusy | Self::NoServer => StatusCode::SERVICE_UNAVAILABLE,
            Self::Lost => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::TooBusy => "too many requests are under way; try again in a second",
            Self::NoServer => "no web server is up; try again in a second",
            Self::Lost => {
                "the web server went away before it answered; repeat the request if it only reads, \
                 else look first whether it was carried out"
            }
            Self::Slow => {
                "the web server did not answer in time; look whether the request was carried out \
                 before you repeat it"
            }
            Self::TooLarge => "the body is longer than 12 MB; send less",
            Self::Stalled => "the body did not arrive in time; send it again",
            Self::BrokenBody => "the body broke off; send it again",
            Self::Method => "CONNECT is not served here",
        }
    }

    /// The whole answer. It closes the connection where the request's body was not read to its end.
    pub(super) fn answer(self) -> Response<OutBody> {
        let field = match self {
            Self::TooLarge | Self::Stalled | Self::BrokenBody => "body",
            Self::Method => "method",
            _ => "server",
        };
        let text = serde_json::json!({ "errors": { field: [self.text()] } }).to_string();
        let mut response = Response::new(
            Full::new(Bytes::from(text))
                .map_err(|never| match never {})
                .boxed_unsync(),
        );
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        match self {
            Self::TooBusy | Self::NoServer => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::TooLarge | Self::Stalled | Self::BrokenBody | Self::Method => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Lost | Self::Slow => {}
        }
        response
    }
}
