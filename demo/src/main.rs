//! `stackbeam`: the whole architecture in one command. This file is the command line only.

mod app;
mod control;
mod drill;
mod keys;
mod node;
mod options;
mod supervisor;
mod up;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use control::steer::Command;
use drill::VerifyOptions;
use options::{SHARDS_MAX, UpOptions, WEB_MAX, WORKERS_MAX};

const HELP: &str = "\
stackbeam: from one server to many, on this machine, to watch and to break

  stackbeam [up] [options]        start everything, keep load on it, print the page's address
  stackbeam status [--json]       what runs, how it is, and what it weighs
  stackbeam events [--follow]     what happened, and why
  stackbeam kill NODE             a real SIGKILL; it comes back after half a second
  stackbeam hold NODE             kill it, and keep it down until `start NODE`
  stackbeam pause|resume NODE     SIGSTOP and SIGCONT: alive, and answering nothing
  stackbeam restart|drain NODE    in order; `drain`: it finishes what it has and takes nothing new
  stackbeam scale web|worker N    more or fewer, while it serves
  stackbeam rotate-keys           a new session key; nobody is logged out
  stackbeam lag MILLISECONDS      make replicas apply late
  stackbeam down                  stop (so does Ctrl-C in its terminal)

  stackbeam verify [--drill NAME]...  break runs on purpose and judge what users got; exits 1 on a
                                  breach. --controls: take each safety device out, which must show

options of up:
  --state DIR        keep the data there (default: a temporary folder, removed at the end)
  --base-port P      first port to try for the public address (default 8080)
  --shards N         database shards, 1 to 16 (default 2)
  --web N            web servers, 1 to 8 (default 2)
  --workers N        photo workers, 1 to 4 (default 1)
  --rps N            synthetic requests a second, 0 for none (default 60)
  --lag MS           replicas apply late by so many milliseconds (default 0)
  --seed S           seed for everything random (default: from the clock)
  --without WHAT     take a safety device out: retries, fencing, semi-sync, lsn-routing,
                     grace
  --quiet            print one JSON line with the addresses and nothing else
other options:
  --port P           which run, by its page's port, when there are several
";

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        // The two ways in which the supervisor starts itself again.
        Some("node") => {
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_max_level(tracing::Level::WARN)
                .init();
            node::main().map_err(|error| error.to_string())
        }
        Some("guard") => {
            supervisor::guard_main();
            Ok(())
        }
        _ => person(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say_error(&why);
            ExitCode::FAILURE
        }
    }
}

/// What a person typed.
fn person() -> Result<(), String> {
    let words = Words::parse().map_err(|error| format!("{error}; `stackbeam --help` explains"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    match words.command.as_str() {
        "help" => {
            print(HELP);
            Ok(())
        }
        "up" if !words.rest.is_empty() => Err(format!(
            "`up` takes no word `{}`; `stackbeam --help` lists its options",
            words.rest.join(" ")
        )),
        "verify" if !words.rest.is_empty() => Err(format!(
            "`verify` takes no word `{0}`; write `--drill {0}`",
            words.rest.join(" ")
        )),
        "up" => runtime
            .block_on(up::up(&words.up))
            .map_err(|error| error.to_string()),
        "verify" => {
            let options = VerifyOptions {
                drills: words.drills,
                controls: words.controls,
                without: words.up.without,
                json: words.json,
                seed: words.up.seed,
            };
            let held = runtime
                .block_on(drill::verify(&options))
                .map_err(|error| error.to_string())?;
            let breach = "not everything held; the table says what did not";
            held.then_some(()).ok_or_else(|| breach.to_owned())
        }
        command => {
            let command = Command::parse(command, &words.rest, words.json, words.follow)?;
            runtime
                .block_on(command.carry_out(words.port))
                .map_err(|error| error.to_string())
        }
    }
}

/// The command line, taken apart.
#[derive(Debug, Default)]
struct Words {
    command: String,
    rest: Vec<String>,
    up: UpOptions,
    port: Option<u16>,
    json: bool,
    follow: bool,
    drills: Vec<String>,
    controls: bool,
}

impl Words {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut words = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Short('h') | Long("help") => words.command = "help".to_owned(),
                Long("state") => words.up.state = Some(parser.value()?.into()),
                Long("base-port") => words.up.base_port = parser.value()?.parse()?,
                Long("shards") => words.up.shards = within(&mut parser, SHARDS_MAX)?,
                Long("web") => words.up.web = within(&mut parser, WEB_MAX)?,
                Long("workers") => words.up.workers = within(&mut parser, WORKERS_MAX)?,
                Long("rps") => words.up.rps = parser.value()?.parse()?,
                Long("lag") => words.up.lag = Duration::from_millis(parser.value()?.parse()?),
                Long("seed") => words.up.seed = parser.value()?.parse()?,
                Long("quiet") => words.up.quiet = true,
                Long("without") => words.up.without.take_out(&parser.value()?.string()?)?,
                Long("drill") => words.drills.push(parser.value()?.string()?),
                Long("controls") => words.controls = true,
                Long("port") => words.port = Some(parser.value()?.parse()?),
                Long("json") => words.json = true,
                Long("follow") => words.follow = true,
                Value(word) if words.command.is_empty() => words.command = word.string()?,
                Value(word) => words.rest.push(word.string()?),
                arg => return Err(arg.unexpected()),
            }
        }
        if words.command.is_empty() {
            words.command = "up".to_owned();
        }
        Ok(words)
    }
}

/// A number from 1 to `max`.
fn within(parser: &mut lexopt::Parser, max: u16) -> Result<u16, lexopt::Error> {
    use lexopt::prelude::*;
    let number: u16 = parser.value()?.parse()?;
    if (1..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is not within 1 to {max}").into())
    }
}

/// Writes to stdout. A reader that went away, as `head` does, is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say_error(why: &str) {
    let mut out = std::io::stderr().lock();
    let _gone = writeln!(out, "stackbeam: {why}");
}
