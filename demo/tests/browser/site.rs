//! The page of the service itself, as one of its users.

use std::path::PathBuf;

use image::{Rgb, RgbImage};
use serde_json::json;

use crate::checks::assert_usable;
use crate::chromium::{Browser, Page};
use crate::support::World;

/// A photo that nobody has uploaded before.
fn photo(world: &World) -> PathBuf {
    let file = world.path("hill.png");
    let paint = |x: u32, y: u32| Rgb([x, y, x ^ y].map(|n| u8::try_from(n % 256).unwrap()));
    RgbImage::from_fn(800, 600, paint).save(&file).unwrap();
    file
}

fn said(page: &Page<'_>, what: &str) {
    page.wait(
        &format!("the page says {what}"),
        &format!("document.getElementById('said').textContent.includes({what:?})"),
    );
}

/// Waits until the page shows that one is logged in, or that one is not.
fn inside(page: &Page<'_>, is_inside: bool) {
    let script = format!(
        "document.getElementById('inside').checkVisibility() === {is_inside} &&
         document.getElementById('entry').checkVisibility() !== {is_inside}"
    );
    page.wait("logged in or out", &script);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn somebody_registers_writes_uploads_leaves_and_comes_back() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    let edge = up.wait_ready()["edge"].as_str().unwrap().to_owned();
    let origin = format!("http://{edge}/");
    let browser = Browser::start(&world);
    let page = browser.page();
    page.screen(1280, 800, "light");
    page.go(&origin);
    inside(&page, false);
    page.write("[name=email]", "ada@example.org");
    page.write("[name=password]", "correct horse");
    page.write("[name=username]", "ada <b>");
    page.click("[name=register]");
    inside(&page, true);

    page.write("#write [name=title]", "Hills <script>");
    page.write("#write [name=description]", "What is behind them");
    page.write("#write [name=body]", "More hills.");
    page.click("#write button");
    said(&page, "Published");
    let first = "document.querySelector('#articles h3').textContent";
    assert_eq!(page.eval(first), "Hills <script>");

    page.choose("[name=photo]", &photo(&world));
    page.click("#upload button");
    // Real pictures, made by a worker in another process, served under the hash of their content.
    page.wait(
        "the photo's middle variant is shown",
        "document.querySelector('#photos img')?.naturalWidth === 256",
    );
    let widths = page.eval(
        "Promise.all([...document.querySelectorAll('#photos a')].map(async ({ href }) =>
           (await createImageBitmap(await (await fetch(href)).blob())).width))",
    );
    // None is larger than the photo was.
    assert_eq!(widths, json!([64, 256, 800]));

    for (width, height) in [(1280, 800), (390, 844)] {
        for scheme in ["light", "dark"] {
            page.screen(width, height, scheme);
            assert_usable(
                &page,
                &format!("the service, {width} by {height}, {scheme}"),
            );
        }
    }

    let token = "JSON.parse(sessionStorage.getItem('user')).token";
    let token = page.eval(token).as_str().unwrap().to_owned();
    let who = format!(
        "fetch('/api/user', {{ headers: {{ Authorization: 'Token {token}' }} }}).then((a) => a.status)"
    );
    assert_eq!(page.eval(&who), 200);
    page.click("#logout");
    inside(&page, false);
    said(&page, "logged out");
    assert_eq!(page.faults(&[&origin]), Vec::<String>::new());
    // The token is worth nothing any more, wherever it was kept.
    page.wait(
        "every server has heard",
        &format!("{who}.then((status) => status === 401)"),
    );

    page.write("[name=email]", "ada@example.org");
    page.write("[name=password]", "wrong horse");
    page.click("[name=login]");
    page.wait(
        "a wrong password is refused in words",
        "document.getElementById('said').textContent.length > 0 &&
         !document.getElementById('said').textContent.includes('logged out')",
    );
    inside(&page, false);
    page.eval("document.querySelector('[name=password]').value = ''");
    page.write("[name=password]", "correct horse");
    page.click("[name=login]");
    inside(&page, true);
    // What a person wrote is text in the server's own list too.
    page.go(&origin);
    assert_eq!(page.eval(first), "Hills <script>");
    inside(&page, true);
}
