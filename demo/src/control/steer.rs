//! Commands to a run that is up: `status`, `events`, `kill` and the others.

use std::time::Duration;

use super::client::{ControlClient, ControlError};
use super::run_file::RunFile;
use crate::supervisor::Snapshot;
use crate::{print, up};

/// How often `events --follow` asks for more, and `down` whether it is over.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long `down` waits for the end.
const DOWN_PATIENCE: Duration = Duration::from_secs(10);

/// What a person wants of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Status {
        json: bool,
    },
    Events {
        follow: bool,
    },
    /// Something that the run does or refuses, as the path of its API; and how to say that it did.
    Order {
        path: String,
        done: String,
    },
    Down,
}

impl Command {
    /// Reads `command` and the words after it. The refusal says how it is written.
    pub(crate) fn parse(
        command: &str,
        words: &[String],
        json: bool,
        follow: bool,
    ) -> Result<Self, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let plain = |word: &str| {
            let safe = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if !word.is_empty() && word.chars().all(safe) {
                Ok(())
            } else {
                Err(format!(
                    "`{word}` is no name; names look like web-1 or store-0a"
                ))
            }
        };
        Ok(match (command, words.as_slice()) {
            ("status", []) => Self::Status { json },
            ("events", []) => Self::Events { follow },
            ("down", []) => Self::Down,
            ("kill" | "hold" | "start" | "pause" | "resume" | "restart" | "drain", [node]) => {
                plain(node)?;
                Self::Order {
                    path: format!("/api/nodes/{node}/{command}"),
                    done: format!("{node}: {command}"),
                }
            }
            ("scale", [role, to]) => {
                plain(role)?;
                plain(to)?;
                Self::Order {
                    path: format!("/api/scale/{role}/{to}"),
                    done: format!("{role}: scale to {to}"),
                }
            }
            ("lag", [ms]) => {
                plain(ms)?;
                Self::Order {
                    path: format!("/api/lag/{ms}"),
                    done: format!("replicas: {ms} ms late"),
                }
            }
            ("rotate-keys", []) => Self::Order {
                path: "/api/keys/rotate".to_owned(),
                done: "session keys: a new one signs soon".to_owned(),
            },
            ("status" | "events" | "down" | "rotate-keys", _) => {
                return Err(format!("`{command}` takes no further words"));
            }
            ("kill" | "hold" | "start" | "pause" | "resume" | "restart" | "drain", _) => {
                return Err(format!(
                    "write `stackbeam {command} NODE`; `stackbeam status` lists the nodes"
                ));
            }
            ("scale", _) => return Err("write `stackbeam scale web|worker N`".to_owned()),
            ("lag", _) => return Err("write `stackbeam lag MILLISECONDS`".to_owned()),
            _ => {
                return Err(format!(
                    "there is no command `{command}`; `stackbeam --help` lists them"
                ));
            }
        })
    }

    /// Carries it out on the run whose page is at `port`, or on the only one.
    pub(crate) async fn carry_out(self, port: Option<u16>) -> Result<(), ControlError> {
        let run = RunFile::find(port)?;
        let control = ControlClient::new(run.clone());
        match self {
            Self::Status { json: false } => print(&up::table(&control.status().await?)),
            Self::Status { json: true } => print_json(&control.status().await?)?,
            Self::Events { follow } => events(&control, &run, follow).await?,
            Self::Order { path, done } => {
                control.order(&path).await?;
                print(&format!("{done}\n"));
            }
            Self::Down => {
                control.order("/api/down").await?;
                let over = async {
                    while run.is_alive() && run.path().exists() {
                        tokio::time::sleep(ASK_EVERY).await;
                    }
                };
                tokio::time::timeout(DOWN_PATIENCE, over)
                    .await
                    .map_err(|_| ControlError::Refused(format!("{} still ends", run.pid)))?;
                print("stopped; nothing is left running\n");
            }
        }
        Ok(())
    }
}

fn print_json(snapshot: &Snapshot) -> Result<(), ControlError> {
    let text = serde_json::to_string(snapshot)
        .map_err(|error| ControlError::Refused(error.to_string()))?;
    print(&format!("{text}\n"));
    Ok(())
}

/// Prints what happened; with `follow` until the run is over, which is no error then.
async fn events(control: &ControlClient, run: &RunFile, follow: bool) -> Result<(), ControlError> {
    let mut seen = 0;
    loop {
        match control.events(seen).await {
            Ok(events) => {
                for event in events {
                    seen = event.seq;
                    print(&up::event_line(&event));
                }
            }
            Err(ControlError::Unreachable { .. }) if follow && !run.is_alive() => return Ok(()),
            Err(error) => return Err(error),
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let mut words = line.split(' ').map(str::to_owned);
        let command = words.next().unwrap();
        Command::parse(&command, &words.collect::<Vec<_>>(), false, false)
    }

    #[test]
    fn what_is_typed_becomes_a_path_of_the_api() {
        let path = |line| match parse(line) {
            Ok(Command::Order { path, .. }) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path("kill web-1"), "/api/nodes/web-1/kill");
        assert_eq!(path("scale worker 3"), "/api/scale/worker/3");
        assert_eq!(path("lag 300"), "/api/lag/300");
        assert_eq!(path("rotate-keys"), "/api/keys/rotate");
        assert_eq!(parse("down"), Ok(Command::Down));
    }

    #[test]
    fn what_makes_no_sense_is_answered_with_how_it_is_written() {
        for (line, help) in [
            ("kill", "kill NODE"),
            ("kill web-1 web-2", "kill NODE"),
            ("kill ../down", "names look like"),
            ("scale web", "scale web|worker N"),
            ("lag", "lag MILLISECONDS"),
            ("down now", "no further words"),
            ("rotate-keys web-1", "no further words"),
            ("explode", "--help"),
        ] {
            let refusal = parse(line).unwrap_err();
            assert!(refusal.contains(help), "{line}: {refusal}");
        }
    }
}
