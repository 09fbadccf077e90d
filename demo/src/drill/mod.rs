//! `stackbeam verify`: breaks a real run on purpose, under load, and judges what users got.
//!
//! Each drill starts a run of its own, lets synthetic users work on it, does the damage, and reads
//! everything back that was acknowledged. A negative control takes one safety device out and must turn
//! a named check of its drill red; else that check proves nothing.

mod faults;
mod input;
mod stage;

use std::fmt;

use serde::Serialize;

use crate::node::config::Without;
use crate::print;

/// What `verify` takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifyOptions {
    /// Names of drills; none means all.
    pub(crate) drills: Vec<String>,
    /// Runs the negative controls instead: each must turn its check red.
    pub(crate) controls: bool,
    /// Safety devices that are taken out of every drill.
    pub(crate) without: Without,
    /// One JSON line a check instead of the table.
    pub(crate) json: bool,
    /// Seed for everything random.
    pub(crate) seed: u64,
}

/// Why a drill could not be carried out. That is no verdict, and no success either.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DrillError(String);

fn trouble(what: &str) -> impl Fn(&dyn fmt::Display) -> DrillError {
    move |why| DrillError(format!("{what}: {why}"))
}

/// One thing that has to hold.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) drill: &'static str,
    pub(crate) what: &'static str,
    pub(crate) measured: String,
    pub(crate) budget: String,
    pub(crate) holds: bool,
    /// What is behind a breach, as far as it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) why: Vec<String>,
}

/// Names of checks that a negative control must turn red.
mod what {
    pub(super) const FAILED_GETS: &str = "failed GETs";
    pub(super) const LOST: &str = "acknowledged writes lost, doubled or changed";
    pub(super) const ONE_PRIMARY: &str = "primaries at one time, 2 s after the return";
    pub(super) const LOGGED_OUT: &str = "requests refused while keys rotate";
    pub(super) const OWN_WRITES: &str = "own writes not seen by their writer";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drill {
    Steady,
    WebKill,
    PrimaryKill,
    WorkerKill,
    KillAll,
    Lag,
    PausedPrimary,
    KeyRotation,
    BadInput,
}

impl Drill {
    const ALL: [Self; 9] = [
        Self::Steady,
        Self::WebKill,
        Self::PrimaryKill,
        Self::WorkerKill,
        Self::KillAll,
        Self::Lag,
        Self::PausedPrimary,
        Self::KeyRotation,
        Self::BadInput,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::WebKill => "web-kill",
            Self::PrimaryKill => "primary-kill",
            Self::WorkerKill => "worker-kill",
            Self::KillAll => "kill-all",
            Self::Lag => "lag",
            Self::PausedPrimary => "paused-primary",
            Self::KeyRotation => "key-rotation",
            Self::BadInput => "bad-input",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Steady => "nothing is broken",
            Self::WebKill => "kill -9 of one of two web servers, then of the other one",
            Self::PrimaryKill => "kill -9 of a shard's primary while its replicas are behind",
            Self::WorkerKill => "kill -9 of the photo worker in the middle of jobs",
            Self::KillAll => "kill -9 of every process at once, and a start on the same data",
            Self::Lag => "replicas that apply 300 ms late",
            Self::PausedPrimary => "a primary that is stopped, replaced, and wakes up again",
            Self::KeyRotation => "session keys rotated under load, and kill -9 of a web server",
            Self::BadInput => "garbage, bombs, forged and expired tokens, 100 MB bodies",
        }
    }

    async fn run(self, without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
        match self {
            Self::Steady => faults::steady(without, seed).await,
            Self::WebKill => faults::web_kill(without, seed).await,
            Self::PrimaryKill => faults::primary_kill(without, seed).await,
            Self::WorkerKill => faults::worker_kill(without, seed).await,
            Self::KillAll => faults::kill_all(without, seed).await,
            Self::Lag => faults::lag(without, seed).await,
            Self::PausedPrimary => faults::paused_primary(without, seed).await,
            Self::KeyRotation => faults::key_rotation(without, seed).await,
            Self::BadInput => input::bad_input(without, seed).await,
        }
    }
}

/// A safety device, the drill that needs it, and the check that must go red without it.
const CONTROLS: [(&str, Drill, &str); 5] = [
    ("retries", Drill::WebKill, what::FAILED_GETS),
    ("fencing", Drill::PausedPrimary, what::LOST),
    ("semi-sync", Drill::PrimaryKill, what::LOST),
    ("lsn-routing", Drill::Lag, what::OWN_WRITES),
    ("grace", Drill::KeyRotation, what::LOGGED_OUT),
];

/// Runs what is asked for. True if every check held, and of the controls if every one turned red.
pub(crate) async fn verify(options: &VerifyOptions) -> Result<bool, DrillError> {
    let drills = chosen(&options.drills)?;
    let mut checks = Vec::new();
    if options.controls {
        for (device, drill, named) in CONTROLS {
            if drills.contains(&drill) {
                checks.push(control(options, device, drill, named).await?);
            }
        }
    } else {
        for drill in drills {
            say(
                options,
                &format!("{:<15} {}\n", drill.name(), drill.about()),
            );
            checks.extend(drill.run(options.without, options.seed).await?);
        }
    }
    if options.json {
        for check in &checks {
            print(&format!(
                "{}\n",
                serde_json::to_string(check).unwrap_or_default()
            ));
        }
    } else {
        print(&table(&checks));
    }
    Ok(checks.iter().all(|check| check.holds))
}

fn chosen(names: &[String]) -> Result<Vec<Drill>, DrillError> {
    if names.is_empty() {
        return Ok(Drill::ALL.to_vec());
    }
    names
        .iter()
        .map(|name| {
            let known = Drill::ALL.into_iter().find(|drill| drill.name() == name);
            known.ok_or_else(|| {
                let all = Drill::ALL.map(Drill::name).join(", ");
                DrillError(format!("there is no drill `{name}`; there are {all}"))
            })
        })
        .collect()
}

async fn control(
    options: &VerifyOptions,
    device: &str,
    drill: Drill,
    named: &'static str,
) -> Result<Check, DrillError> {
    let mut without = options.without;
    without
        .take_out(device)
        .map_err(|why| DrillError(why.to_owned()))?;
    say(
        options,
        &format!("{:<15} without {device}: must breach\n", drill.name()),
    );
    let checks = drill.run(without, options.seed).await?;
    let red = checks
        .iter()
        .find(|check| check.what == named)
        .ok_or_else(|| DrillError(format!("{} has no check `{named}`", drill.name())))?;
    Ok(Check {
        measured: format!("{} without {device}", red.measured),
        budget: "must breach".to_owned(),
        holds: !red.holds,
        ..red.clone()
    })
}

fn say(options: &VerifyOptions, line: &str) {
    if !options.json {
        print(line);
    }
}

fn table(checks: &[Check]) -> String {
    let mut text = format!(
        "\n{:<15} {:<46} {:<26} {:<16} verdict\n",
        "drill", "what", "measured", "budget"
    );
    for check in checks {
        let verdict = if check.holds { "ok" } else { "BREACH" };
        text.push_str(&format!(
            "{:<15} {:<46} {:<26} {:<16} {verdict}\n",
            check.drill, check.what, check.measured, check.budget
        ));
        if !check.holds {
            for why in check.why.iter().take(WHY_SHOWN) {
                text.push_str(&format!("                  {why}\n"));
            }
        }
    }
    text
}

/// Reasons of one breach that the table shows.
const WHY_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_drill_is_refused_with_the_names_that_there_are() {
        let error = chosen(&["nonsense".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("web-kill"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), Drill::ALL.len());
    }

    #[test]
    fn each_safety_device_has_a_control() {
        for (device, ..) in CONTROLS {
            let mut without = Without::default();
            without.take_out(device).unwrap();
            assert_ne!(without, Without::default(), "{device}");
        }
    }
}
