//! The pages in a real Chromium: what a person sees and clicks, on a real run.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world ends"
)]

mod checks;
mod chromium;
mod live;
mod site;
#[path = "../support/mod.rs"]
mod support;
