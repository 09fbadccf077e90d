//! The live page of a run.

use rustix::process::Signal;
use serde_json::Value;

use crate::checks::assert_usable;
use crate::chromium::{Browser, Page};
use crate::support::{Up, World};

/// Opens the live page of a run, up to where everything answers.
fn open<'a>(browser: &'a Browser, up: &Up<'_>) -> Page<'a> {
    let page = browser.page();
    page.screen(1280, 800, "light");
    page.go(&format!("http://{}/#{}", up.control, up.token));
    let ready = "document.body.dataset.ready === 'yes'";
    page.wait("everything answers", ready);
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

/// Where everything is that one might be about to click.
const PLACES: &str = "JSON.stringify([...document.querySelectorAll('button, select, h2')]
    .map((one) => one.getBoundingClientRect()).map((box) => [box.x, box.y]))";

/// From now on notes each state of the box of `id`, however short, and where everything was then.
fn watch(page: &Page<'_>, id: &str) {
    page.eval(&format!(
        "(() => {{
          const box = document.querySelector('[data-node={id:?}]');
          const note = () => noted.push([box.dataset.state, {PLACES}]);
          window.noted = [];
          new MutationObserver(note).observe(box, {{ attributeFilter: ['data-state'] }});
        }})()"
    ));
}

/// Waits until what is watched has been down and is up again; the places at each step.
fn wait_down_and_up(page: &Page<'_>) -> Vec<Value> {
    let noted = page.wait(
        "it was shown down and is shown up",
        "noted.some(([state]) => state === 'down') && noted.at(-1)[0] === 'up' && noted",
    );
    let noted = noted.as_array().unwrap();
    noted.iter().map(|step| step[1].clone()).collect()
}

/// Waits until the element `id` says something with `what`, and gives all that it says.
fn wait_text(page: &Page<'_>, id: &str, what: &str) -> String {
    let text = format!("document.getElementById({id:?}).textContent");
    let script = format!("{text}.includes({what:?}) && {text}");
    let said = page.wait(&format!("#{id} says {what}"), &script);
    said.as_str().unwrap().to_owned()
}

fn primary_of(page: &Page<'_>, shard: u16) -> String {
    let primary = format!("[data-tier=shard-{shard}] [data-role=primary]");
    let script = format!("document.querySelector({primary:?})?.dataset.node");
    let id = page.wait("a shard has a primary", &script);
    id.as_str().unwrap().to_owned()
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
    let page = open(&browser, &up);
    watch(&page, "web-1");
    page.click("[data-node=web-1] [data-action=kill]");
    wait_log(&page, "you", "killed web-1");
    wait_log(&page, "web-1", "SIGKILL");
    wait_down_and_up(&page);
    wait_log(&page, "web-1", "is back");
    wait_text(&page, "faults", "served again after");
    assert_no_faults(&page, &up);
    let ports = up.ports();
    let is_chromium = |process: &String| process.contains("chromium");
    assert!(world.processes().iter().any(is_chromium));
    up.say(&["down"]);
    assert!(up.wait().success());
    drop(browser);
    world.assert_nothing_is_left(&ports);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn the_tour_kills_a_primary_and_tells_the_failover() {
    let world = World::new();
    let up = world.up(&["--rps", "20"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    let old = primary_of(&page, 0);
    page.click("#tour-next");
    wait_text(&page, "tour-act", &old);
    page.click("#tour-act button");
    wait_log(&page, "you", &format!("killed {old}"));
    let told = wait_text(&page, "tour-result", "served again after");
    assert!(told.contains("coord noticed after"), "{told}");
    let new = primary_of(&page, 0);
    assert_ne!(new, old);
    assert!(
        told.contains(&format!("{new} was primary in its place")),
        "{told}"
    );
    wait_log(&page, "coord", &format!("{new} is the primary in epoch 2"));
    wait_state(&page, &old, "up");
    assert_eq!(primary_of(&page, 1), "store-1a", "the other shard goes on");
    assert_no_faults(&page, &up);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn every_further_step_of_the_tour_does_what_it_says() {
    let world = World::new();
    let up = world.up(&["--rps", "20"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    let step = |name: &str| {
        page.click("#tour-next");
        wait_text(&page, "tour-name", name);
    };
    let act = |button: &str| {
        wait_text(&page, "tour-act", button);
        page.click(&format!("#tour-act [aria-label={button:?}]"));
    };
    step("Kill a database primary");
    step("Freeze a primary");
    let old = primary_of(&page, 0);
    act(&format!("Freeze {old}"));
    wait_state(&page, &old, "paused");
    wait_text(&page, "tour-result", "was primary in its place");
    act(&format!("Wake {old}"));
    wait_text(&page, "tour-result", "served again");
    assert_ne!(primary_of(&page, 0), old);
    step("Make replicas late");
    act("1 second late");
    wait_text(&page, "tour-result", "1000 ms late");
    act("At once again");
    wait_text(&page, "tour-result", "apply 0 ms late");
    step("Freeze the photo worker");
    act("Freeze worker-1");
    wait_state(&page, "worker-1", "paused");
    act("Two workers");
    wait_state(&page, "worker-2", "up");
    act("Wake worker-1");
    wait_state(&page, "worker-1", "up");
    step("Add web servers");
    act("Four web servers");
    wait_text(&page, "tour-result", "4 web servers answer");
    act("Two again");
    wait_text(&page, "tour-result", "2 web servers answer");
    step("Rotate the session keys");
    act("New session key");
    wait_text(&page, "tour-result", "knows 2 keys");
    step("Be one of the users");
    let link = page.eval("document.querySelector('#tour-act a').href");
    let edge = up.status()["edge"].as_str().unwrap().to_owned();
    assert_eq!(link, format!("http://{edge}/"));
    assert_no_faults(&page, &up);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn keys_alone_pause_wake_scale_and_delay() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    focus_by_tab(&page, "Pause web-2");
    page.press("Enter");
    wait_state(&page, "web-2", "paused");
    wait_log(&page, "you", "paused web-2");
    // The same button, with the focus still on it, has become its opposite.
    assert_eq!(focused(&page), "Resume web-2");
    page.press("Enter");
    wait_state(&page, "web-2", "up");
    focus_by_tab(&page, "one worker more");
    page.press("Enter");
    page.press("Enter");
    wait_state(&page, "worker-2", "up");
    wait_state(&page, "worker-3", "up");
    page.click("[data-scale=worker] button");
    page.wait(
        "worker-3 is gone",
        "!document.querySelector('[data-node=worker-3]')",
    );
    wait_log(&page, "worker-3", "has left");
    page.eval("document.getElementById('lag').focus()");
    page.press("3");
    wait_log(&page, "you", "replicas apply 300 ms late");
    assert_eq!(up.status()["lag_ms"], 300);
    assert_no_faults(&page, &up);
}

/// Presses Tab until what has the focus is called `name`.
fn focus_by_tab(page: &Page<'_>, name: &str) {
    for _ in 0..100 {
        page.press("Tab");
        if focused(page) == name {
            return;
        }
    }
    panic!("Tab never reaches `{name}`");
}

fn focused(page: &Page<'_>) -> String {
    let name = "document.activeElement.ariaLabel ?? document.activeElement.id";
    page.eval(name).as_str().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn everybody_can_use_it_large_and_small_by_day_and_night() {
    let world = World::new();
    let up = world.up(&["--rps", "20", "--web", "3"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    up.say(&["hold", "web-3"]);
    up.say(&["pause", "worker-1"]);
    page.wait(
        "a held node can be started",
        "document.querySelector('[data-node=web-3] [data-action=start]') !== null",
    );
    wait_state(&page, "worker-1", "paused");
    for (width, height) in [(1280, 800), (390, 844)] {
        for scheme in ["light", "dark"] {
            page.screen(width, height, scheme);
            assert_usable(&page, &format!("{width} by {height}, {scheme}"));
        }
    }
    page.screen(1280, 800, "light");
    page.click("[data-node=web-3] [data-action=start]");
    wait_state(&page, "web-3", "up");
    assert_no_faults(&page, &up);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn nothing_moves_while_things_happen() {
    let world = World::new();
    let up = world.up(&["--rps", "20"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    page.wait(
        "the first figures are here",
        "document.getElementById('f-rps').textContent !== '–'",
    );
    for width in [1280, 390] {
        page.screen(width, 800, "light");
        let before = page.eval(PLACES);
        watch(&page, "web-1");
        page.eval("document.querySelector('#tour-act button').click()");
        for step in wait_down_and_up(&page) {
            assert_eq!(step, before, "{width} wide");
        }
        wait_text(&page, "tour-result", "served again");
        assert_eq!(page.eval(PLACES), before, "{width} wide, when all is told");
        for (button, state) in [("pause", "paused"), ("resume", "up")] {
            page.eval(&format!(
                "document.querySelector('[data-node=web-2] [data-action={button}]').click()"
            ));
            wait_state(&page, "web-2", state);
            assert_eq!(page.eval(PLACES), before, "{width} wide, {state}");
        }
    }
    assert_no_faults(&page, &up);
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn a_silent_supervisor_is_shown_and_so_is_its_return_and_its_end() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    let browser = Browser::start(&world);
    let page = open(&browser, &up);
    let link = |state: &str| {
        page.wait(state, &format!("document.body.dataset.link === {state:?}"));
    };
    link("live");
    up.signal(Signal::STOP);
    link("lost");
    wait_text(&page, "lost", "is silent");
    for scheme in ["light", "dark"] {
        page.screen(390, 844, scheme);
        assert_usable(&page, &format!("lost, {scheme}"));
    }
    let inert = page.eval("document.querySelectorAll('[data-order]:not([inert])').length");
    assert_eq!(inert, 0, "nothing can be ordered of nobody");
    up.signal(Signal::CONT);
    link("live");
    assert_eq!(page.eval("document.getElementById('lost').hidden"), true);
    page.screen(1280, 800, "light");
    page.click("#down");
    wait_text(&page, "down", "Really");
    page.click("#down");
    assert!(up.wait().success());
    wait_text(&page, "lost", "Stopped, as you asked");
}

#[test]
#[ignore = "needs chromium: cargo xtask services"]
fn a_page_without_the_token_says_what_to_open() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    let browser = Browser::start(&world);
    let page = browser.page();
    page.go(&format!("http://{}/", up.control));
    wait_text(&page, "lost", "open the whole address");
    assert_eq!(
        page.eval("document.querySelectorAll('[data-node]').length"),
        Value::from(0)
    );
}
