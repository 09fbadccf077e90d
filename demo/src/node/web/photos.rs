//! Photos: an upload is accepted when it is kept, its row is written, and its job is handed over; the
//! rest happens later.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Multipart, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, unexpected};
use super::fault::Fault;
use crate::app::id::Id;
use crate::app::input::fault;
use crate::app::store::{
    NewPhoto, PhotoResult, PhotoRow, Read, ReadReply, Thing, Write, WriteReply,
};
use crate::app::time::rfc3339;
use crate::node::objects::{Format, Kind, Name};
use crate::node::worker::variants::check_header;

const STEP: u64 = 60;

/// The largest image.
pub(super) const PHOTO_BYTES_MAX: usize = 8 << 20;
/// What a form may take around the image.
const FORM_BYTES_MAX: usize = PHOTO_BYTES_MAX + (64 << 10);
/// Uploads that are read at one time; more wait their turn. Bounds memory.
pub(super) const UPLOADS_AT_ONCE: usize = 4;
/// How long an upload waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long the whole of an upload may take to arrive.
const ARRIVE_MAX: Duration = Duration::from_secs(30);
/// How much of a refused upload is still read, and for how long: an answer over a connection that is
/// closed over unread bytes may not arrive.
const DRAIN_BYTES_MAX: usize = 32 << 20;
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The field of a form that holds the image.
const FIELD: &str = "photo";

fn photo_json(row: &PhotoRow) -> Value {
    let mut photo = json!({
        "id": row.id.text(),
        "status": "queued",
        "attempts": row.attempts,
        "createdAt": rfc3339(row.created_ms),
        "variants": [],
    });
    match &row.result {
        None if row.attempts == 0 => {}
        None => photo["status"] = "processing".into(),
        Some(PhotoResult::Ready(variants)) => {
            photo["status"] = "ready".into();
            photo["variants"] = variants
                .iter()
                .map(|variant| {
                    json!({
                        "url": format!("/photos/{}", variant.file),
                        "width": variant.width, "height": variant.height,
                    })
                })
                .collect();
        }
        Some(PhotoResult::Failed(why)) => {
            photo["status"] = "failed".into();
            photo["error"] = why.clone().into();
        }
    }
    json!({ "photo": photo })
}

/// How an upload travels.
enum Shape {
    Form,
    Raw,
}

fn shape(headers: &HeaderMap) -> Result<Shape, Fault> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Shape::Raw);
    };
    let kind = kind.to_str().unwrap_or("").split(';').next().unwrap_or("");
    match kind.trim().to_ascii_lowercase().as_str() {
        "multipart/form-data" => Ok(Shape::Form),
        "image/png" | "image/jpeg" | "application/octet-stream" => Ok(Shape::Raw),
        _ => Err(Fault::NotAnImage),
    }
}

#[derive(Default, Deserialize)]
struct Wishes {
    /// `1`: the photo becomes its owner's image.
    profile: Option<String>,
}

pub(super) async fn upload(call: Call, request: Request) -> Result<Response, Fault> {
    let (parts, mut body) = request.into_parts();
    match accept(&call, parts, &mut body).await {
        Ok(row) => {
            let place = format!("/api/photos/{}", row.id.text());
            let body = Json(photo_json(&row));
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], body).into_response())
        }
        Err(fault) => {
            drain(&mut body).await;
            Err(fault)
        }
    }
}

async fn accept(call: &Call, parts: Parts, body: &mut Body) -> Result<PhotoRow, Fault> {
    let owner = call.user()?;
    let shape = shape(&parts.headers)?;
    let for_profile = Query::<Wishes>::try_from_uri(&parts.uri)
        .map_err(|_| fault("query", "is not valid"))?
        .0
        .profile
        .is_some_and(|wish| wish == "1");
    let upload = {
        let _turn = tokio::time::timeout(TURN_WAIT, call.web.uploads.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Fault::Unavailable("too many uploads at once".to_owned()))?;
        let bytes_max = match shape {
            Shape::Form => FORM_BYTES_MAX,
            Shape::Raw => PHOTO_BYTES_MAX,
        };
        let whole = tokio::time::timeout(ARRIVE_MAX, collect(&parts.headers, body, bytes_max))
            .await
            .map_err(|_| Fault::TooSlow)??;
        let image = match shape {
            Shape::Form => field(parts, whole).await?,
            Shape::Raw => whole,
        };
        if image.len() > PHOTO_BYTES_MAX {
            return Err(Fault::TooLarge {
                bytes_max: PHOTO_BYTES_MAX,
            });
        }
        if image.is_empty() {
            return Err(fault(FIELD, "can't be blank").into());
        }
        let format = Format::sniff(&image)
            .ok_or_else(|| fault(FIELD, "is neither a PNG nor a JPEG image"))?;
        // What is inside shows when a worker decodes it; a bomb shows by its header, and goes no further.
        check_header(&image, format).map_err(|why| fault(FIELD, &why))?;
        call.web.objects.put(Kind::Original, image, format).await
    };
    let original = upload.map_err(|error| Fault::Unavailable(error.to_string()))?;
    let create = Write::CreatePhoto(NewPhoto {
        id: Id::at(call.now_ms, call.chance(STEP), owner.slot()),
        owner,
        original: original.as_str().to_owned(),
        for_profile,
        now_ms: call.now_ms,
    });
    let row = match call.write(call.home(owner), STEP, create).await?? {
        // Of a request that is sent again this is the photo of the first time.
        WriteReply::Photo(row) => row,
        other => return Err(unexpected(other)),
    };
    // From here on the photo will be processed: if its job does not reach the queue now, a sweep of the
    // workers finds the row and hands it over.
    if let Some(queue) = &call.web.queue
        && let Err(error) = queue.publish_job(row.id).await
    {
        tracing::warn!(photo = row.id.text(), %error, "a job is left to the next sweep");
    }
    Ok(row)
}

/// Reads a body of a bounded size.
async fn collect(headers: &HeaderMap, body: &mut Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(Fault::TooLarge {
            bytes_max: PHOTO_BYTES_MAX,
        });
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| fault("body", "ended early"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if whole.len() + data.len() > bytes_max {
            return Err(Fault::TooLarge {
                bytes_max: PHOTO_BYTES_MAX,
            });
        }
        whole.extend_from_slice(data);
    }
    Ok(whole.freeze())
}

async fn drain(body: &mut Body) {
    let read = async {
        let mut bytes = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            bytes = bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if bytes > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    let _given_up = tokio::time::timeout(DRAIN_MAX, read).await;
}

/// The image in a form.
async fn field(parts: Parts, whole: Bytes) -> Result<Bytes, Fault> {
    let broken = |error: &dyn std::fmt::Display| fault("body", &format!("is not a form: {error}"));
    let request = Request::from_parts(parts, Body::from(whole));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| broken(&error))?;
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        if field.name() == Some(FIELD) {
            return Ok(field.bytes().await.map_err(|error| broken(&error))?);
        }
    }
    Err(fault(FIELD, "can't be blank").into())
}

pub(super) async fn get(
    call: Call,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Fault> {
    call.viewer()?;
    let id = id
        .ok()
        .and_then(|Path(id)| Id::parse(&id))
        .ok_or(Fault::NotFound(Thing::Photo))?;
    match call.read(call.home(id), Read::Photo(id)).await? {
        ReadReply::Photo(row) => Ok(Json(photo_json(&row))),
        other => Err(unexpected(other)),
    }
}

/// The bytes of a variant. They never change under their name, so everybody may keep them for ever.
pub(super) async fn serve(
    call: Call,
    file: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let missing = Fault::NotFound(Thing::Photo);
    let Some(name) = file.ok().and_then(|Path(file)| Name::parse(&file)) else {
        return Err(missing);
    };
    let tag = format!("\"{}\"", name.hash());
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one == tag);
    let found = call.web.objects.get(Kind::Photo, &name).await;
    let Some(bytes) = found.map_err(|error| Fault::Unavailable(error.to_string()))? else {
        return Err(missing);
    };
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        bytes.into_response()
    };
    let fields = response.headers_mut();
    fields.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(header::ETAG, tag);
    }
    if !known {
        let mime = HeaderValue::from_static(name.format().mime());
        fields.insert(header::CONTENT_TYPE, mime);
    }
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok(response)
}
