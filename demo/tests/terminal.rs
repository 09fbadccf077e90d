//! What `up` prints for a person works as it is printed.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{World, http, node};

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn what_up_prints_can_be_opened_and_typed_as_it_stands() {
    let world = World::new();
    let up = world
        .stackbeam()
        .args(["up", "--rps", "0", "--base-port", "20800"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = Running(up);
    let mut lines = BufReader::new(up.0.stdout.take().unwrap()).lines();
    let mut find = |what: &str| {
        let mut lines = lines.by_ref().map(Result::unwrap);
        let found = lines.find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("`up` never prints {what}"))
    };

    let page = find("http://");
    let (addr, token) = page
        .trim()
        .strip_prefix("http://")
        .and_then(|url| url.split_once("/#"))
        .unwrap();
    let host = [("host", addr)];
    let (status, body) = http(addr.parse().unwrap(), "GET /", &host);
    assert_eq!(status, 200);
    assert!(body.contains("Try this"), "{body}");
    let known = [host[0], ("x-stackbeam-token", token)];
    assert_eq!(
        http(addr.parse().unwrap(), "GET /api/status", &known).0,
        200
    );

    let service = find("The service is at");
    let edge = service
        .split(['/', ' '])
        .find(|word| word.starts_with("127."));
    let edge = edge.unwrap().parse().unwrap();
    assert_eq!(http(edge, "GET /", &[("host", "here")]).0, 200);

    // The line's explanation is set apart by spaces.
    let line = find("kill web-1");
    let mut words = line.trim().split("  ").next().unwrap().split(' ');
    let typed = Command::new(words.next().unwrap())
        .args(words)
        .env("XDG_RUNTIME_DIR", world.path("runtime"))
        .output()
        .unwrap();
    assert!(typed.status.success(), "{typed:?}");
    find("killed web-1");

    let pid = Pid::from_raw(i32::try_from(up.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    find("no process and no file is left");
    assert!(up.0.wait().unwrap().success());
    world.assert_nothing_is_left(&[].into());
}

#[test]
fn what_was_ordered_shows_at_once() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_ready();
    for id in ["web-1", "store-0a", "worker-1"] {
        let before = up.wait_node(id, "up");
        up.say(&["kill", id]);
        let after = node(&up.status(), id).unwrap();
        let is_same_life = after["pid"] == before["pid"] && after["condition"] == "up";
        assert!(!is_same_life, "{after}");
    }
    up.say(&["lag", "100"]);
    assert_eq!(up.status()["lag_ms"], 100);
    up.say(&["scale", "web", "3"]);
    assert!(node(&up.status(), "web-3").is_some());
}
