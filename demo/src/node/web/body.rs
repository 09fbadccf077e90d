//! Request bodies: bounded, and JSON by their own word.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::fault::Fault;

/// The largest JSON body.
pub(crate) const JSON_BYTES_MAX: usize = 256 << 10;

/// The bytes of a body that is not declared to be something else than JSON.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let declared = request.headers().get(CONTENT_TYPE).map(|value| {
            let kind = value.to_str().unwrap_or("").split(';').next().unwrap_or("");
            let kind = kind.trim().to_ascii_lowercase();
            kind == "application/json"
                || (kind.starts_with("application/") && kind.ends_with("+json"))
        });
        let bytes = read(request, JSON_BYTES_MAX).await?;
        if declared == Some(false) && !bytes.is_empty() {
            return Err(Fault::NotJson);
        }
        Ok(Self(bytes))
    }
}

/// Reads a body of a bounded size; a declared length above it is refused before any byte is read.
pub(crate) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Fault> {
    let declared = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if declared
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|length| length > bytes_max as u64)
    {
        return Err(Fault::TooLarge { bytes_max });
    }
    to_bytes(request.into_body(), bytes_max)
        .await
        .map_err(|_| Fault::TooLarge { bytes_max })
}
