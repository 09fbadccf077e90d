//! Nothing is left behind, however a run ends: no process, no listening socket, no temporary file.

mod support;

use std::time::Duration;

use rustix::process::Signal;
use support::{World, eventually, node, now, pause};

#[test]
fn an_interrupt_ends_everything_in_order_and_leaves_nothing() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_node("edge", "up");
    let ports = up.ports();
    let begun = now();
    up.signal(Signal::INT);
    assert!(up.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(5));
    world.assert_nothing_is_left(&ports);
}

#[test]
fn a_termination_leaves_nothing() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_node("edge", "up");
    let ports = up.ports();
    up.signal(Signal::TERM);
    assert!(up.wait().success());
    world.assert_nothing_is_left(&ports);
}

#[test]
fn down_returns_when_nothing_is_left() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_node("edge", "up");
    let ports = up.ports();
    up.say(&["down"]);
    assert!(up.wait().success());
    world.assert_nothing_is_left(&ports);
}

#[test]
fn a_second_interrupt_ends_it_at_once_even_with_a_paused_node() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_node("edge", "up");
    up.say(&["pause", "edge"]);
    let ports = up.ports();
    up.signal(Signal::INT);
    up.signal(Signal::INT);
    assert!(up.wait().success());
    world.assert_nothing_is_left(&ports);
}

#[test]
fn a_killed_supervisor_takes_everything_with_it_paused_nodes_too() {
    let world = World::new();
    let up = world.up(&["--rps", "0"]);
    up.wait_node("edge", "up");
    up.say(&["pause", "edge"]);
    up.wait_node("edge", "paused");
    let ports = up.ports();
    assert!(world.processes().len() > 10, "{:?}", world.processes());
    assert!(!world.files().is_empty());
    up.signal(Signal::KILL);
    assert!(!up.wait().success());
    world.assert_nothing_is_left(&ports);
}

#[test]
fn a_supervisor_that_is_killed_while_it_starts_leaves_nothing() {
    let world = World::new();
    for step in 0..20 {
        let mut child = world.spawn(&["--rps", "0"]);
        // From before its first line of code to after the last of its children.
        pause(Duration::from_millis(step * 4));
        child.kill().unwrap();
        child.wait().unwrap();
        world.assert_nothing_is_left(&[].into());
    }
}

#[test]
fn a_run_outlives_the_file_of_its_program_and_still_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("stackbeam");
    std::fs::copy(env!("CARGO_BIN_EXE_stackbeam"), &program).unwrap();
    let world = World::of(&program);
    let up = world.up(&["--rps", "0"]);
    up.wait_ready();
    let before = up.wait_node("web-1", "up");
    std::fs::remove_file(&program).unwrap();
    // The commands come from a newer build, as after `cargo build`.
    std::fs::copy(env!("CARGO_BIN_EXE_stackbeam"), &program).unwrap();
    up.say(&["kill", "web-1"]);
    let after = up.wait_node("web-1", "up");
    assert_ne!(after["pid"], before["pid"]);
    let ports = up.ports();
    up.signal(Signal::KILL);
    assert!(!up.wait().success());
    world.assert_nothing_is_left(&ports);
}

#[test]
fn two_runs_live_side_by_side_and_each_is_reached_by_its_port() {
    let world = World::new();
    let one = world.up(&["--rps", "0"]);
    let two = world.up(&["--rps", "0"]);
    one.wait_node("edge", "up");
    two.wait_node("edge", "up");
    assert!(one.ports().is_disjoint(&two.ports()));
    let both = world.run(&["status"]);
    assert!(!both.status.success());
    assert!(String::from_utf8_lossy(&both.stderr).contains("--port"));
    let ports = two.ports();
    two.say(&["down"]);
    assert!(two.wait().success());
    // With one left there is nothing to choose.
    assert!(world.run(&["status"]).status.success());
    let ports = &ports | &one.ports();
    drop(one);
    world.assert_nothing_is_left(&ports);
}

#[test]
fn a_folder_in_use_is_refused_and_is_free_again_after_a_kill() {
    let world = World::new();
    let state = world.path("state");
    let options = ["--rps", "0", "--state", state.to_str().unwrap()];
    let up = world.up(&options);
    let second = world.spawn(&options).wait_with_output().unwrap();
    assert!(!second.status.success());
    let up_again = eventually("the first run is not disturbed", support::PATIENCE, || {
        node(&up.status(), "edge").filter(|edge| edge["condition"] == "up")
    });
    assert!(up_again["pid"].as_u64() > Some(0));
    let ports = up.ports();
    up.signal(Signal::KILL);
    assert!(!up.wait().success());
    // At once, without waiting: the guard of the first run may still be at work.
    let third = world.up(&options);
    third.wait_node("edge", "up");
    let ports = &ports | &third.ports();
    third.say(&["down"]);
    assert!(third.wait().success());
    world.assert_nothing_is_left(&ports);
    assert!(state.join("secrets.json").is_file(), "kept state is kept");
}

#[test]
fn the_refusal_of_a_folder_in_use_says_what_to_do() {
    let world = World::new();
    let state = world.path("state");
    let options = ["--rps", "0", "--state", state.to_str().unwrap()];
    let _up = world.up(&options);
    let out = world.run(&[&["up"], &options[..]].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("another run uses"), "{said}");
    assert!(said.contains("stackbeam down"), "{said}");
}
