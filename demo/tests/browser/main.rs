//! The pages in a real Chromium: what a person sees and clicks, on a real run.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world ends"
)]

mod chromium;
#[path = "../support/mod.rs"]
mod support;

use chromium::{Browser, Page};
use support::{Up, World};

/// Opens the live page of a run, up to where everything answers.
fn live<'a>(browser: &'a Browser, up: &Up<'_>) -> Page<'a> {
    let page = browser.page();
    page.screen(1280, 800, "light");
    page.go(&format!("http://{}/#{}", up.control, up.token));
    page.wait(
        "everything answers",
        "document.body.dataset.ready === 'yes'",
    );
    page
}

/// Waits for a line of the event log, of `who` and with `what`.
fn wait_log(page: &Page<'_>, who: &str, what: &str) {
    page.wait(
        &format!("the log says: {who} {what}"),
        &format!(
            "[...document.querySelectorAll('#log li')].some((line) =>
                line.querySelector('b').textContent === {who:?} && line.textContent.includes({what:?}))"
        ),
    );
}

/// Waits until the box of `id` shows `state`.
fn wait_state(page: &Page<'_>, id: &str, state: &str) {
    page.wait(
        &format!("{id} is shown {state}"),
        &format!("document.querySelector('[data-node={id:?}][data-state={state:?}]') !== null"),
    );
}

fn assert_no_faults(page: &Page<'_>, up: &Up<'_>) {
    let faults = page.faults(&[&format!("http://{}/", up.control)]);
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn a_click_kills_a_web_server_and_the_page_shows_why_and_its_return() {
    let world = World::new();
    let up = world.up(&["--rps", "20"]);
    let browser = Browser::start(&world);
    let page = live(&browser, &up);
    page.click("[data-node=web-1] [data-action=kill]");
    wait_log(&page, "you", "killed web-1");
    wait_state(&page, "web-1", "down");
    wait_log(&page, "web-1", "SIGKILL");
    wait_log(&page, "web-1", "is back");
    wait_state(&page, "web-1", "up");
    assert_no_faults(&page, &up);
    let ports = up.ports();
    let is_chromium = |process: &String| process.contains("chromium");
    assert!(world.processes().iter().any(is_chromium));
    up.say(&["down"]);
    assert!(up.wait().success());
    drop(browser);
    world.assert_nothing_is_left(&ports);
}
