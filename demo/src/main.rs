//! `stackbeam`: the whole architecture in one command. This file is the command line only.

mod node;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("node") => match node::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "this node ends");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::FAILURE,
    }
}
