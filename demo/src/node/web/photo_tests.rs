//! Stories about uploads, from the request to the served sizes.

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::objects::Format;
use crate::node::stage::Stage;
use crate::node::worker::pictures::{bomb, drawn};

fn form(fields: &[(&str, &[u8])]) -> (Vec<u8>, &'static str) {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend_from_slice(
            format!(
                "--edge\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"../x\"\r\n\r\n"
            )
            .as_bytes(),
        );
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    (body, "multipart/form-data; boundary=edge")
}

#[tokio::test]
async fn an_upload_becomes_three_sizes_that_everybody_may_keep_for_ever() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let (body, kind) = form(&[
        ("note", b"hello"),
        ("photo", &drawn(1200, 800, Format::Jpeg)),
    ]);
    let headers = [("content-type", kind)];
    let answer = web
        .call(Method::POST, "/api/photos?profile=1", &ann, &headers, body)
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let photo = answer.json()["photo"].clone();
    assert_eq!(
        (&photo["status"], &photo["attempts"], &photo["variants"]),
        (&json!("queued"), &json!(0), &json!([]))
    );
    let id = photo["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/api/photos/{id}"));

    let pool = stage.worker("worker-1").start(stage.link().jobs());
    let photo = web.result(id).await;
    assert_eq!(
        (&photo["status"], &photo["attempts"]),
        (&json!("ready"), &json!(1))
    );
    let sizes: Vec<_> = photo["variants"].as_array().unwrap().iter().collect();
    let edges: Vec<_> = sizes
        .iter()
        .map(|size| (&size["width"], &size["height"]))
        .collect();
    assert_eq!(
        edges,
        [
            (&json!(64), &json!(43)),
            (&json!(256), &json!(171)),
            (&json!(1024), &json!(683))
        ]
    );
    for size in sizes {
        let url = size["url"].as_str().unwrap();
        let answer = web.get(url, "").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), "image/jpeg");
        assert_eq!(
            answer.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let image = image::load_from_memory(&answer.body).unwrap();
        assert_eq!(json!(image.width()), size["width"]);
        let tag = answer.header("etag").to_owned();
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let again = web
                .call(
                    Method::GET,
                    url,
                    "",
                    &[("if-none-match", &known)],
                    Body::empty(),
                )
                .await;
            assert_eq!(
                (again.status, again.body.len()),
                (StatusCode::NOT_MODIFIED, 0)
            );
        }
        let head = web.call(Method::HEAD, url, "", &[], Body::empty()).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
        // The upload itself is nobody's but its owner's.
        assert!(
            !stage
                .folder("originals")
                .join(&url["/photos/".len()..])
                .exists()
        );
    }
    let user = web.get("/api/user", &ann).await.json();
    assert_eq!(user["user"]["image"], photo["variants"][1]["url"]);
    let original = std::fs::read_dir(stage.folder("originals")).unwrap().next();
    let name = original
        .unwrap()
        .unwrap()
        .file_name()
        .into_string()
        .unwrap();
    let answer = web.get(&format!("/photos/{name}"), "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    pool.drain().await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_makes_one_photo_and_one_job() {
    let mut stage = Stage::new().await;
    let (first, _) = stage.web("web-1").await;
    let (second, _) = stage.web("web-2").await;
    let ann = first.register("ann").await;
    let mut ids = Vec::new();
    for web in [&first, &second, &first] {
        let headers = [("x-request-id", "00112233445566778899aabbccddeeff")];
        let image = drawn(40, 30, Format::Png);
        let answer = web
            .call(Method::POST, "/api/photos", &ann, &headers, image)
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        ids.push(answer.json()["photo"]["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    let status = stage.queue.as_ref().unwrap().status();
    assert_eq!(
        (&status["published"], &status["depth"]),
        (&json!(1), &json!(1)),
        "{status}"
    );
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_the_reason() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let png = || drawn(20, 20, Format::Png);
    let (blank, blank_kind) = form(&[("photo", b"")]);
    let (other, other_kind) = form(&[("picture", &png())]);
    let (text, text_kind) = form(&[("photo", b"#!/bin/sh\n")]);
    let (big, big_kind) = form(&[("photo", &vec![0xff; (8 << 20) + 1])]);
    let (cut, cut_kind) = form(&[("photo", &png())]);
    let cut = cut[..cut.len() - 12].to_vec();
    let cases: [(&str, &str, Vec<u8>, u16, &str); 14] = [
        ("garbage", "", vec![7; 1000], 422, "photo"),
        (
            "a GIF",
            "application/octet-stream",
            b"GIF89a".to_vec(),
            422,
            "photo",
        ),
        (
            "SVG that says it is a PNG",
            "image/png",
            b"<svg/>".to_vec(),
            422,
            "photo",
        ),
        (
            "half of the magic bytes",
            "image/png",
            b"\x89PNG".to_vec(),
            422,
            "photo",
        ),
        ("nothing", "image/jpeg", Vec::new(), 422, "photo"),
        ("JSON", "application/json", b"{}".to_vec(), 415, "body"),
        ("a type without sense", "\u{7f}", png(), 415, "body"),
        (
            "a form without a boundary",
            "multipart/form-data",
            png(),
            422,
            "body",
        ),
        (
            "a form with an empty photo",
            blank_kind,
            blank,
            422,
            "photo",
        ),
        ("a form without a photo", other_kind, other, 422, "photo"),
        ("a form with a script", text_kind, text, 422, "photo"),
        ("a form with a photo too large", big_kind, big, 413, "body"),
        ("a form that is cut off", cut_kind, cut, 422, "body"),
        (
            "a photo too large",
            "image/png",
            vec![0x89; (8 << 20) + 1],
            413,
            "body",
        ),
    ];
    for (what, kind, body, expected, field) in cases {
        let kind = http::HeaderValue::from_bytes(kind.as_bytes());
        let mut request =
            http::Request::post("/api/photos").header("authorization", format!("Token {ann}"));
        if let Some(kind) = kind.ok().filter(|kind| !kind.is_empty()) {
            request = request.header("content-type", kind);
        } else if what == "a type without sense" {
            request = request.header("content-type", "\u{20ac}");
        }
        let answer = web.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status.as_u16(), expected, "{what}: {answer:?}");
        assert!(
            answer.json()["errors"][field][0].is_string(),
            "{what}: {answer:?}"
        );
    }
    let left = std::fs::read_dir(stage.folder("originals"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "nothing of it was kept");
    assert_eq!(
        stage.queue.as_ref().unwrap().status()["published"],
        json!(0)
    );
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_announced_or_not() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    for announced in [true, false] {
        let piece = Bytes::from(vec![0x89; 1 << 20]);
        let pieces = futures_util::stream::iter(
            (0..100).map(move |_| Ok::<_, std::io::Error>(piece.clone())),
        );
        let mut request =
            http::Request::post("/api/photos").header("authorization", format!("Token {ann}"));
        if announced {
            request = request.header("content-length", 100 << 20);
        }
        let answer = web
            .send(request.body(Body::from_stream(pieces)).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{answer:?}");
    }
    let broken = futures_util::stream::iter([
        Ok(Bytes::from(drawn(20, 20, Format::Png))),
        Err(std::io::Error::other("the client is gone")),
    ]);
    let request =
        http::Request::post("/api/photos").header("authorization", format!("Token {ann}"));
    let answer = web
        .send(request.body(Body::from_stream(broken)).unwrap())
        .await;
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{answer:?}"
    );
}

#[tokio::test]
async fn who_is_not_logged_in_uploads_nothing_and_unknown_photos_are_not_found() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let mut forged = ann.clone().into_bytes();
    forged[40] ^= 1;
    let forged = String::from_utf8(forged).unwrap();
    for token in ["", "x", "v4.local.AAAA", &forged] {
        let image = drawn(20, 20, Format::Png);
        let answer = web
            .call(Method::POST, "/api/photos", token, &[], image)
            .await;
        assert_eq!(
            answer.status,
            StatusCode::UNAUTHORIZED,
            "{token}: {answer:?}"
        );
    }
    let answer = web.get("/api/photos/0000000000001", &forged).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let hash = "0".repeat(64);
    let there = stage.folder("photos").join("note.png");
    std::fs::write(&there, "not by its hash").unwrap();
    for path in [
        "/api/photos/0000000000001".to_owned(),
        "/api/photos/nonsense".to_owned(),
        "/api/photos/%ff".to_owned(),
        format!("/photos/{hash}.png"),
        format!("/photos/{hash}.gif"),
        "/photos/note.png".to_owned(),
        "/photos/..%2forignals%2fx.png".to_owned(),
        "/photos/%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned(),
        "/photos/../../etc/passwd".to_owned(),
        format!("/photos/{hash}%00.png"),
        "/photos/%ff.png".to_owned(),
        "/photos/".to_owned(),
        "/photos".to_owned(),
    ] {
        let answer = web.get(&path, "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
        assert!(answer.json()["errors"].is_object(), "{path}: {answer:?}");
    }
    for path in ["/api/photos", "/photos/x.png", "/"] {
        let answer = web.call(Method::DELETE, path, "", &[], Body::empty()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    for path in ["/status", "/revocations"] {
        assert_eq!(
            web.get(path, "").await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_image_whose_header_tells_that_it_cannot_be_processed_is_refused_at_once() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    for (image, reason) in [
        (bomb(50_000, 50_000), "the image is too large"),
        (bomb(10_000, 10_000), "the image is too large"),
        (
            b"\x89PNG\r\n\x1a\nand nonsense".to_vec(),
            "the image cannot be read",
        ),
        (vec![0xff, 0xd8, 0xff, 0xe0], "the image cannot be read"),
    ] {
        let answer = web
            .call(Method::POST, "/api/photos", &ann, &[], image)
            .await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{answer:?}"
        );
        let json = answer.json();
        let error = json["errors"]["photo"][0].as_str().unwrap();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[tokio::test]
async fn images_that_cannot_be_processed_end_as_failed_with_the_reason() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("ann").await;
    let whole = drawn(300, 200, Format::Png);
    let mut uploads = Vec::new();
    // Their headers are in order; what follows is not.
    for (image, reason) in [
        (
            whole[..whole.len() / 2].to_vec(),
            "the image cannot be read",
        ),
        (
            whole[..whole.len() - 20].to_vec(),
            "the image cannot be read",
        ),
    ] {
        uploads.push((web.upload(&ann, image).await, reason));
    }
    let pool = stage.worker("worker-1").start(stage.link().jobs());
    for (id, reason) in uploads {
        let photo = web.result(&id).await;
        assert_eq!(
            (&photo["status"], &photo["attempts"]),
            (&json!("failed"), &json!(1))
        );
        let error = photo["error"].as_str().unwrap();
        assert!(error.starts_with(reason), "{error}");
    }
    let (stats, _) = pool.drain().await;
    assert_eq!(
        (stats.done, stats.retried, stats.dead),
        (2, 0, 0),
        "{stats:?}"
    );
    let status = stage.queue.as_ref().unwrap().status();
    assert_eq!(
        (&status["depth"], &status["done"]),
        (&json!(0), &json!(2)),
        "{status}"
    );
}

#[tokio::test]
async fn a_browser_gets_a_page_in_which_nothing_is_markup_but_the_pages_own() {
    let mut stage = Stage::new().await;
    let (web, _) = stage.web("web-1").await;
    let ann = web.register("<b>ann</b>").await;
    let evil = "\"><script>alert('1')</script>&";
    let article =
        json!({"article": {"title": evil, "description": evil, "body": evil, "tagList": [evil]}});
    assert_eq!(
        web.post("/api/articles", &ann, &article).await.status,
        StatusCode::CREATED
    );
    let accept = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let page = web.call(Method::GET, "/", "", &accept, Body::empty()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    let shown = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;";
    assert_eq!(
        html.matches(shown).count(),
        2,
        "title and description: {html}"
    );
    assert!(html.contains("&lt;b&gt;ann&lt;/b&gt;"), "{html}");
    assert!(
        !html.contains("alert('1')") && !html.contains("<b>ann"),
        "{html}"
    );
    assert!(
        !html.contains("style=") && !html.contains(" onclick"),
        "{html}"
    );
    for (mark, kind) in [
        ("icon\" href=\"/assets/", "image/svg+xml"),
        ("stylesheet\" href=\"/assets/", "text/css"),
        ("src=\"/assets/", "text/javascript"),
    ] {
        let at = html.find(mark).unwrap() + mark.len() - "/assets/".len();
        let path = html[at..].split('"').next().unwrap();
        let asset = web.get(path, "").await;
        assert_eq!(asset.status, StatusCode::OK, "{path}");
        assert!(asset.header("content-type").starts_with(kind), "{path}");
    }
    for accept in ["application/json", "*/*", "text/plain"] {
        let answer = web
            .call(Method::GET, "/", "", &[("accept", accept)], Body::empty())
            .await;
        assert_eq!(answer.json()["api"], json!("/api"), "{accept}");
    }
    assert_ne!(web.get("/", "").await.json(), Value::Null);
}
