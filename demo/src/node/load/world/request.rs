//! One request of a synthetic user: sent, judged, recorded, and for a write kept in the ledger.
//!
//! After each write its writer reads it back with the cookie that came with the acknowledgement, and
//! has to see it. What somebody else wrote may stay invisible for a while: it is promised to its
//! writer alone.

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::{VISIBLE_AFTER, World};
use crate::node::load::client::{Answer, Ask, Class, Failure};
use crate::node::load::crowd::{Person, Settled};
use crate::node::load::ledger::{Deed, LedgerError};
use crate::node::load::record::{Outcome, Sample};

/// What a request is for, and when it was meant to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) what: &'static str,
    pub(super) shard: Option<u16>,
    pub(super) intended: Instant,
}

/// What it means when a read finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It was written by somebody else a moment ago.
    Stale,
    /// It was written long ago.
    Refused,
    /// The reader itself wrote it.
    Wrong,
}

impl Missing {
    pub(super) fn since(then: Instant) -> Self {
        if then.elapsed() < VISIBLE_AFTER {
            Self::Stale
        } else {
            Self::Refused
        }
    }
}

/// How a write ended.
pub(super) enum End {
    Acked(Acked),
    /// It has not happened and will not.
    Refused,
    /// Nobody said.
    Unknown,
}

/// A write that was acknowledged.
pub(super) struct Acked {
    pub(super) n: u64,
    pub(super) id: String,
    pub(super) answer: Answer,
}

impl End {
    pub(super) fn acked(self) -> Option<Acked> {
        match self {
            Self::Acked(acked) => Some(acked),
            Self::Refused | Self::Unknown => None,
        }
    }

    /// What became of a tie that was to be switched.
    pub(super) const fn settled(&self, on: bool) -> Settled {
        match (self, on) {
            (Self::Unknown, _) => Settled::Doubtful,
            (Self::Acked(_), true) | (Self::Refused, false) => Settled::On,
            (Self::Acked(_), false) | (Self::Refused, true) => Settled::Off,
        }
    }
}

impl World {
    /// Reads what `person` has just written, with the position that came with the acknowledgement.
    pub(super) async fn read_own(
        &self,
        what: &'static str,
        person: &Person,
        acknowledged: &Answer,
        ask: Ask,
        check: impl FnOnce(&Value) -> Result<(), String>,
    ) {
        let step = Step {
            what,
            shard: None,
            intended: Instant::now(),
        };
        let ask = ask
            .with_token(person.token())
            .with_cookie(acknowledged.cookie.clone());
        self.read(step, ask, Missing::Wrong, check).await;
    }

    /// Sends a read, judges the answer and records it. Gives the answer back if it was in order.
    pub(super) async fn read(
        &self,
        step: Step,
        ask: Ask,
        missing: Missing,
        check: impl FnOnce(&Value) -> Result<(), String>,
    ) -> Option<Answer> {
        let get = ask.method == Method::GET;
        let path = ask.path.clone();
        let answer = self.client.send(ask).await;
        let judged = answer.and_then(|answer| {
            let nothing = matches!(
                answer.status,
                StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED
            );
            let failure = |class| Failure {
                class,
                why: format!("{path} answered {}", answer.summary()),
            };
            if answer.status.is_success() {
                check(&answer.json()).map_err(|why| Failure {
                    class: Class::Wrong,
                    why: format!("{path}: {why}"),
                })?;
                return Ok((Outcome::Good, answer));
            }
            match missing {
                Missing::Stale if nothing => Ok((Outcome::Stale, answer)),
                Missing::Wrong if nothing => Err(failure(Class::Wrong)),
                _ => Err(failure(Class::Refused)),
            }
        });
        match judged {
            Ok((outcome, answer)) => {
                self.recorder.good(sample(step, get, outcome));
                (outcome == Outcome::Good).then_some(answer)
            }
            Err(failure) => {
                self.recorder
                    .failed(sample(step, get, Outcome::Failed(failure.class)), &failure);
                None
            }
        }
    }

    /// Sends a write and keeps the ledger: an attempt before it is sent, its end when there is one.
    pub(super) async fn write(
        &self,
        step: Step,
        missing: Missing,
        deed: impl FnOnce(u64) -> Deed,
        ask: impl FnOnce(u64) -> Ask,
        id: impl FnOnce(&Value) -> Option<String>,
    ) -> Result<End, LedgerError> {
        let n = self.ledger.attempt(deed)?;
        let (end, failure) = match self.client.send(ask(n)).await {
            Ok(answer) if answer.status.is_success() => match id(&answer.json()) {
                Some(id) => {
                    self.ledger.acknowledge(n, &id)?;
                    self.recorder.acked();
                    self.recorder.good(sample(step, false, Outcome::Good));
                    return Ok(End::Acked(Acked { n, id, answer }));
                }
                None => {
                    let why = format!("it does not say which: {}", answer.summary());
                    let class = Class::Wrong;
                    (End::Unknown, Failure { class, why })
                }
            },
            Ok(answer) => {
                self.ledger.refuse(n)?;
                if answer.status == StatusCode::NOT_FOUND && missing == Missing::Stale {
                    self.recorder.good(sample(step, false, Outcome::Stale));
                    return Ok(End::Refused);
                }
                let (class, why) = (Class::Refused, answer.summary());
                (End::Refused, Failure { class, why })
            }
            Err(failure) => (End::Unknown, failure),
        };
        if matches!(end, End::Unknown) {
            self.recorder.unknown();
        }
        self.recorder.failed(
            sample(step, false, Outcome::Failed(failure.class)),
            &failure,
        );
        Ok(end)
    }

    /// Sends an order to switch a tie.
    pub(super) async fn switch(
        &self,
        step: Step,
        missing: Missing,
        deed: Deed,
        ask: Ask,
    ) -> Result<End, LedgerError> {
        self.write(step, missing, |_| deed, |_| ask, |_| Some(String::new()))
            .await
    }
}

pub(super) fn as_user(ask: Ask, person: &Person) -> Ask {
    ask.with_token(person.token()).with_cookie(person.cookie())
}

pub(super) fn require(holds: bool, what: &str, json: &Value) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    let shown: String = json.to_string().chars().take(200).collect();
    Err(format!("{what}: {shown}"))
}

fn sample(step: Step, read: bool, outcome: Outcome) -> Sample {
    Sample {
        what: step.what,
        read,
        shard: step.shard,
        intended: step.intended,
        ended: Instant::now(),
        outcome,
    }
}
