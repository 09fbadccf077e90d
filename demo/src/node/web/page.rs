//! The front door: HTML for a browser, JSON for an app, by what the client says it likes.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use super::articles;
use super::call::Call;
use super::fault::Fault;

/// Articles on the page.
const ARTICLES: u32 = 10;

/// Nothing but what this server sends; no script in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file that the page needs.
struct Asset {
    file: &'static str,
    mime: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        file: "site.css",
        mime: "text/css; charset=utf-8",
        text: include_str!("../../../site/site.css"),
    },
    Asset {
        file: "site.js",
        mime: "text/javascript; charset=utf-8",
        text: include_str!("../../../site/site.js"),
    },
    Asset {
        file: "site.svg",
        mime: "image/svg+xml",
        text: include_str!("../../../site/site.svg"),
    },
];

/// Where the assets are. The addresses carry a hash of the content, so that what a browser keeps is
/// never out of date.
static ADDRESSES: LazyLock<[String; 3]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let hash = blake2b_simd::Params::new()
            .hash_length(8)
            .hash(asset.text.as_bytes());
        format!("/assets/{}?v={}", asset.file, hash.to_hex())
    })
});

pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Result<Response, Fault> {
    let asset = file
        .ok()
        .and_then(|Path(file)| ASSETS.into_iter().find(|asset| asset.file == file))
        .ok_or(Fault::NoSuchPage)?;
    let fields = [
        (header::CONTENT_TYPE, asset.mime),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((fields, asset.text).into_response())
}

/// Whether a client would rather have HTML: a browser names it, a program does not.
fn likes_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| {
            one.split(';')
                .next()
                .is_some_and(|kind| kind.trim() == "text/html")
        })
}

pub(super) async fn home(call: Call, headers: HeaderMap) -> Result<Response, Fault> {
    let mut response = if likes_html(&headers) {
        let articles = articles::latest(&call, ARTICLES).await?;
        axum::response::Html(html(&articles)).into_response()
    } else {
        Json(json!({ "service": "stackbeam", "api": "/api", "links": {
            "articles": "/api/articles", "tags": "/api/tags", "users": "/api/users",
            "login": "/api/users/login", "logout": "/api/users/logout", "photos": "/api/photos",
        }}))
        .into_response()
    };
    for (name, value) in [
        (header::VARY, "accept"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("referrer-policy"), "same-origin"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Text as HTML shows it, in an element or a quoted attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            char => f.write_char(char),
        })
    }
}

fn html(articles: &[Value]) -> String {
    let [css, js, icon] = &*ADDRESSES;
    let mut list = String::new();
    for article in articles {
        let _infallible = write!(list, "{}", Item(article));
    }
    if list.is_empty() {
        list.push_str("<li>Nobody has written anything yet.</li>");
    }
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>stackbeam: a blog with photos</title>
<link rel="icon" href="{icon}">
<link rel="stylesheet" href="{css}">
<script src="{js}" defer></script>
</head>
<body>
<header>
<h1>A blog with photos</h1>
<p>Served by one of several web servers. The same data as JSON: <a href="/api/articles">/api/articles</a>.</p>
</header>
<main>
<section aria-labelledby="latest">
<h2 id="latest">Latest articles</h2>
<ol id="articles">{list}</ol>
</section>
<section aria-labelledby="yours">
<h2 id="yours">Yours</h2>
<noscript><p>Logging in, writing and uploading need JavaScript; the API does not.</p></noscript>
<p id="said" role="status"></p>
<form id="entry">
<label>E-mail <input name="email" type="email" required autocomplete="username"></label>
<label>Password <input name="password" type="password" required minlength="8" autocomplete="current-password"></label>
<label>Name, if you are new <input name="username" autocomplete="nickname" maxlength="64"></label>
<p class="buttons"><button name="login">Log in</button><button name="register">Register</button></p>
</form>
<div id="inside" hidden>
<p>You are <strong id="who"></strong>. <button type="button" id="logout">Log out</button></p>
<form id="write" aria-labelledby="write-title">
<h3 id="write-title">Write an article</h3>
<label>Title <input name="title" required></label>
<label>In one sentence <input name="description" required></label>
<label>Text <textarea name="body" rows="4" required></textarea></label>
<p class="buttons"><button>Publish</button></p>
</form>
<form id="upload" aria-labelledby="upload-title">
<h3 id="upload-title">Upload a photo</h3>
<label>PNG or JPEG, 8 MiB at most <input name="photo" type="file" accept="image/png,image/jpeg" required></label>
<label class="check"><input name="profile" type="checkbox"> Make it my picture</label>
<p class="buttons"><button>Upload</button></p>
</form>
<ul id="photos"></ul>
</div>
</section>
</main>
</body>
</html>
"#
    )
}

/// One article of the list, from the API's own answer.
struct Item<'a>(&'a Value);

impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let article = self.0;
        let (slug, title) = (text(&article["slug"]), text(&article["title"]));
        let author = &article["author"];
        write!(f, "<li>")?;
        // A picture from elsewhere would tell its server who reads here.
        let image = text(&author["image"]);
        if image.starts_with("/photos/") {
            let image = Escaped(&image);
            write!(f, r#"<img src="{image}" alt="" width="48" height="48">"#)?;
        }
        write!(
            f,
            r#"<h3><a href="/api/articles/{}">{}</a></h3><p>{}</p><p class="by">{}, <time>{}</time></p></li>"#,
            Escaped(&slug),
            Escaped(&title),
            Escaped(&text(&article["description"])),
            Escaped(&text(&author["username"])),
            Escaped(&text(&article["createdAt"])),
        )
    }
}
