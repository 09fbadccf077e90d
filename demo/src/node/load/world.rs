//! Carrying out what synthetic users do, and checking what they get.
//!
//! After each write its writer reads it back with the cookie that came with the acknowledgement, and
//! has to see it. What somebody else wrote may stay invisible for a while: it is promised to its
//! writer alone.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stackbeam_shard_router::ShardMap;
use tokio::time::Instant;

use super::audit::{Fact, Facts};
use super::client::{Answer, Ask, Class, Client, Failure, Payload};
use super::crowd::{Article, Crowd, PEOPLE_MAX, Person, Settled};
use super::ledger::{Deed, Expected, ExpectedArticle, Known, Ledger, LedgerError, Line};
use super::mix::Journey;
use super::picture::{self, Format};
use super::record::{Outcome, Recorder, Sample};
use super::words::{self, Draft, PASSWORD};
use crate::app::slug;
use crate::node::shards;

/// After this long everybody has to see a write. Above the longest lag that can be injected.
pub(super) const VISIBLE_AFTER: Duration = Duration::from_secs(12);

/// Registrations under way at the start; each costs a password hash.
const REGISTER_AT_ONCE: usize = 4;

/// How long the first users may take to register before the load gives up.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// The wait before a user who could not register tries again under another name.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);

/// Sizes of uploaded photos, in pixels.
const SIZES: [(u32, u32); 3] = [(320, 240), (480, 360), (200, 320)];

/// The names of what a request was for, as samples and failures show them.
pub(crate) mod what {
    pub(crate) const PULSE: &str = "pulse";
    pub(crate) const UPLOAD: &str = "upload";
}

/// Everything that the users of one generator share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) ledger: Ledger,
    pub(crate) recorder: Recorder,
    pub(crate) crowd: Mutex<Crowd>,
    /// A sample of what was acknowledged.
    pub(crate) facts: Arc<Mutex<Facts>>,
    shards: ShardMap,
}

/// What a request is for, and when it was meant to start.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: &'static str,
    shard: Option<u16>,
    intended: Instant,
}

/// What it means when a read finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// It was written by somebody else a moment ago.
    Stale,
    /// It was written long ago.
    Refused,
    /// The reader itself wrote it.
    Wrong,
}

impl Missing {
    fn since(then: Instant) -> Self {
        if then.elapsed() < VISIBLE_AFTER {
            Self::Stale
        } else {
            Self::Refused
        }
    }
}

/// How a write ended.
enum End {
    Acked(Acked),
    /// It has not happened and will not.
    Refused,
    /// Nobody said.
    Unknown,
}

/// A write that was acknowledged.
struct Acked {
    n: u64,
    id: String,
    answer: Answer,
}

impl End {
    fn acked(self) -> Option<Acked> {
        match self {
            Self::Acked(acked) => Some(acked),
            Self::Refused | Self::Unknown => None,
        }
    }

    /// What became of a tie that was to be switched.
    const fn settled(&self, on: bool) -> Settled {
        match (self, on) {
            (Self::Unknown, _) => Settled::Doubtful,
            (Self::Acked(_), true) | (Self::Refused, false) => Settled::On,
            (Self::Acked(_), false) | (Self::Refused, true) => Settled::Off,
        }
    }
}

impl World {
    /// Users of the service behind `client`, which has so many shards.
    pub(crate) fn new(
        client: Client,
        ledger: Ledger,
        recorder: Recorder,
        shards: u16,
        seed: u64,
    ) -> Self {
        Self {
            client,
            ledger,
            recorder,
            crowd: Mutex::default(),
            facts: Arc::new(Mutex::new(Facts::new(seed))),
            shards: shards::placed(shards).expect("so few shards can be placed"),
        }
    }

    /// Brings the number of users to `count`, each with an article, so that there is something to read.
    /// Users that the ledger knows log in again; new ones register.
    ///
    /// # Errors
    ///
    /// When the service does not let that many in, with what it said last, or the ledger fails.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        known: &[Line],
        count: usize,
    ) -> Result<(), SettleError> {
        let before = Expected::of(known);
        self.facts.lock().offer_all(Instant::now(), &before);
        let mut old: Vec<String> = before
            .users
            .into_iter()
            .filter(|(_, known)| *known == Known::Acked)
            .map(|(name, _)| name)
            .take(count)
            .collect();
        let mut users = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (world, old) = (Arc::clone(self), old.pop());
            users.spawn(async move {
                loop {
                    let person = match &old {
                        Some(name) => world.return_of(name).await,
                        None => world.register(Instant::now()).await?,
                    };
                    if let Some(person) = person {
                        while world.post(Instant::now(), &person).await?.is_none() {
                            tokio::time::sleep(REGISTER_AGAIN).await;
                        }
                        return Ok::<_, LedgerError>(());
                    }
                    tokio::time::sleep(REGISTER_AGAIN).await;
                }
            });
            while users.len() >= REGISTER_AT_ONCE {
                self.next_settled(&mut users).await?;
            }
        }
        while !users.is_empty() {
            self.next_settled(&mut users).await?;
        }
        Ok(())
    }

    async fn next_settled(
        &self,
        users: &mut tokio::task::JoinSet<Result<(), LedgerError>>,
    ) -> Result<(), SettleError> {
        match tokio::time::timeout(SETTLE_MAX, users.join_next()).await {
            Ok(Some(Ok(done))) => Ok(done?),
            Ok(None) => Ok(()),
            // A task that panicked, or none that got in.
            Ok(Some(Err(_))) | Err(_) => Err(SettleError::Refused {
                there: self.crowd.lock().len(),
                last: self.recorder.reasons().pop().unwrap_or_default(),
            }),
        }
    }

    /// Does one thing, as if by a person who meant to do it at `intended`.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be written. What the service does wrong is recorded instead.
    pub(crate) async fn carry_out(
        &self,
        journey: Journey,
        intended: Instant,
        mut chance: Rng,
    ) -> Result<(), LedgerError> {
        let chance = &mut chance;
        let (person, article) = {
            let crowd = self.crowd.lock();
            (crowd.person(chance), crowd.article(chance))
        };
        let (Some(person), Some(article)) = (person, article) else {
            return Ok(());
        };
        let step = |what| Step {
            what,
            shard: None,
            intended,
        };
        match journey {
            Journey::ReadArticle => {
                let reader = chance.u8(0..5) > 0;
                let mut ask = Ask::get(format!("/api/articles/{}", article.slug));
                if reader {
                    ask = as_user(ask, &person);
                }
                let missing = Missing::since(article.since);
                self.read(step("article"), ask, missing, |json| {
                    self.is_article(&article, &json["article"])
                })
                .await;
            }
            Journey::GlobalList => {
                let query = match chance.u8(0..8) {
                    0 => "&offset=20".to_owned(),
                    1 => "&tag=city".to_owned(),
                    2 => format!("&author={}", article.by.name),
                    _ => String::new(),
                };
                let ask = Ask::get(format!("/api/articles?limit=20{query}"));
                self.read(
                    step("list"),
                    as_user(ask, &person),
                    Missing::Refused,
                    is_list,
                )
                .await;
            }
            Journey::Feed => {
                let ask = Ask::get("/api/articles/feed?limit=20");
                self.read(
                    step("feed"),
                    as_user(ask, &person),
                    Missing::Refused,
                    is_list,
                )
                .await;
            }
            Journey::Tags => {
                self.read(
                    step("tags"),
                    Ask::get("/api/tags"),
                    Missing::Refused,
                    |json| require(json["tags"].is_array(), "no list of tags", json),
                )
                .await;
            }
            Journey::Profile => {
                let whom = &article.by;
                let ask = Ask::get(format!("/api/profiles/{}", whom.name));
                let missing = Missing::since(whom.since);
                self.read(step("profile"), as_user(ask, &person), missing, |json| {
                    let name = &json["profile"]["username"];
                    require(*name == whom.name.as_str(), "another profile", json)
                })
                .await;
            }
            Journey::Comments => {
                let ask = Ask::get(format!("/api/articles/{}/comments", article.slug));
                let missing = Missing::since(article.since);
                self.read(step("comments"), as_user(ask, &person), missing, |json| {
                    require(json["comments"].is_array(), "no list of comments", json)
                })
                .await;
            }
            Journey::Me => {
                let missing = Missing::since(person.since);
                let ask = as_user(Ask::get("/api/user"), &person);
                self.read(step("user"), ask, missing, |json| {
                    is_user(&person.name, json)
                })
                .await;
            }
            Journey::Login => {
                self.log_in(intended, &person).await;
            }
            Journey::Register => {
                if self.crowd.lock().len() < PEOPLE_MAX {
                    self.register(intended).await?;
                }
            }
            Journey::Post => {
                if let Some((article, answer)) = self.post(intended, &person).await? {
                    let ask = Ask::get(format!("/api/articles/{}", article.slug));
                    self.read_own("own article", &person, &answer, ask, |json| {
                        self.is_article(&article, &json["article"])
                    })
                    .await;
                }
            }
            Journey::Comment => self.comment(intended, &person, &article).await?,
            Journey::Favorite => self.favorite(intended, &person, chance).await?,
            Journey::Follow => self.follow(intended, &person, chance).await?,
            Journey::Upload => {
                let (width, height) = *chance.choice(&SIZES).unwrap_or(&SIZES[0]);
                let format = if chance.bool() {
                    Format::Jpeg
                } else {
                    Format::Png
                };
                let seed = chance.u64(..);
                self.upload(intended, &person, seed, (width, height), format)
                    .await?;
            }
        }
        Ok(())
    }

    /// A small write that concerns one shard alone. Nothing if nobody of that shard is known.
    pub(crate) async fn pulse(
        &self,
        shard: u16,
        intended: Instant,
        mut chance: Rng,
    ) -> Result<(), LedgerError> {
        let person = self.crowd.lock().neighbour(shard, &mut chance);
        if let Some(person) = person {
            self.publish(what::PULSE, intended, &person).await?;
        }
        Ok(())
    }

    async fn post(
        &self,
        intended: Instant,
        person: &Arc<Person>,
    ) -> Result<Option<(Arc<Article>, Answer)>, LedgerError> {
        self.publish("post", intended, person).await
    }

    async fn publish(
        &self,
        what: &'static str,
        intended: Instant,
        person: &Arc<Person>,
    ) -> Result<Option<(Arc<Article>, Answer)>, LedgerError> {
        let step = Step {
            what,
            shard: person.shard(),
            intended,
        };
        let end = self
            .write(
                step,
                Missing::Refused,
                |_| Deed::Article {
                    by: person.name.clone(),
                },
                |n| {
                    let draft = Draft::new(self.ledger.tag(), n);
                    as_user(
                        Ask::post("/api/articles", Payload::Json(draft.request())),
                        person,
                    )
                },
                |json| Some(json["article"]["slug"].as_str()?.to_owned()),
            )
            .await?;
        let Some(Acked { n, id, answer }) = end.acked() else {
            return Ok(None);
        };
        person.keep(answer.cookie.as_ref());
        let Some(shard) = self.shard_of(&id) else {
            return Ok(None);
        };
        person.lives_on(shard);
        self.fact(Fact::Article(ExpectedArticle {
            n,
            by: person.name.clone(),
            known: Known::Acked,
            slug: id.clone(),
        }));
        let article = Article::new(n, id, Arc::clone(person), Instant::now());
        let article = Arc::new(article);
        self.crowd.lock().publish(Arc::clone(&article));
        Ok(Some((article, answer)))
    }

    async fn comment(
        &self,
        intended: Instant,
        person: &Person,
        article: &Article,
    ) -> Result<(), LedgerError> {
        let path = format!("/api/articles/{}/comments", article.slug);
        let step = Step {
            what: "comment",
            shard: None,
            intended,
        };
        let end = self
            .write(
                step,
                Missing::Refused,
                |_| Deed::Comment {
                    by: person.name.clone(),
                    slug: article.slug.clone(),
                },
                |n| {
                    let body = words::comment(self.ledger.tag(), n);
                    let payload = Payload::Json(json!({ "comment": { "body": body } }));
                    as_user(Ask::post(path.clone(), payload), person)
                },
                |json| Some(json["comment"]["id"].as_u64()?.to_string()),
            )
            .await?;
        if let Some(Acked { n, answer, .. }) = end.acked() {
            person.keep(answer.cookie.as_ref());
            let body = words::comment(self.ledger.tag(), n);
            let (by, slug) = (person.name.clone(), article.slug.clone());
            self.fact(Fact::Comment { n, by, slug });
            self.read_own("own comment", person, &answer, Ask::get(path), |json| {
                let there = json["comments"].as_array().is_some_and(|comments| {
                    comments
                        .iter()
                        .any(|comment| comment["body"] == body.as_str())
                });
                require(there, "the comment is not in the list", json)
            })
            .await;
        }
        Ok(())
    }

    async fn favorite(
        &self,
        intended: Instant,
        person: &Person,
        chance: &mut Rng,
    ) -> Result<(), LedgerError> {
        let taken = self.crowd.lock().take_favorite(&person.name, chance);
        let Some((article, on)) = taken else {
            return Ok(());
        };
        let step = Step {
            what: if on { "favorite" } else { "unfavorite" },
            shard: None,
            intended,
        };
        let ask = switch(format!("/api/articles/{}/favorite", article.slug), on);
        let deed = Deed::Favorite {
            by: person.name.clone(),
            slug: article.slug.clone(),
            on,
        };
        let ask = as_user(ask, person);
        let end = self.switch(step, Missing::Refused, deed, ask).await?;
        article.settle(&person.name, end.settled(on));
        if let Some(Acked { answer, .. }) = end.acked() {
            person.keep(answer.cookie.as_ref());
            let ask = Ask::get(format!("/api/articles/{}", article.slug));
            self.read_own("own favorite", person, &answer, ask, |json| {
                let shown = &json["article"]["favorited"];
                require(*shown == on, &format!("favorited is not {on}"), json)
            })
            .await;
        }
        Ok(())
    }

    async fn follow(
        &self,
        intended: Instant,
        person: &Person,
        chance: &mut Rng,
    ) -> Result<(), LedgerError> {
        let taken = self.crowd.lock().take_follow(&person.name, chance);
        let Some((whom, on)) = taken else {
            return Ok(());
        };
        let step = Step {
            what: if on { "follow" } else { "unfollow" },
            shard: None,
            intended,
        };
        let ask = switch(format!("/api/profiles/{}/follow", whom.name), on);
        let deed = Deed::Follow {
            by: person.name.clone(),
            whom: whom.name.clone(),
            on,
        };
        // The service looks the name up on any copy.
        let missing = Missing::since(whom.since);
        let ask = as_user(ask, person);
        let end = self.switch(step, missing, deed, ask).await?;
        self.crowd
            .lock()
            .settle_follow(&person.name, &whom.name, end.settled(on));
        if let Some(Acked { answer, .. }) = end.acked() {
            person.keep(answer.cookie.as_ref());
            let ask = Ask::get(format!("/api/profiles/{}", whom.name));
            self.read_own("own follow", person, &answer, ask, |json| {
                let shown = &json["profile"]["following"];
                require(*shown == on, &format!("following is not {on}"), json)
            })
            .await;
        }
        Ok(())
    }

    /// Uploads a drawn photo. Returns its id when the upload was acknowledged.
    pub(crate) async fn upload(
        &self,
        intended: Instant,
        person: &Person,
        seed: u64,
        (width, height): (u32, u32),
        format: Format,
    ) -> Result<Option<String>, LedgerError> {
        let drawn =
            tokio::task::spawn_blocking(move || picture::draw(seed, width, height, format)).await;
        let Ok(Ok(bytes)) = drawn else {
            return Ok(None);
        };
        let step = Step {
            what: what::UPLOAD,
            shard: None,
            intended,
        };
        let payload = Payload::File {
            name: format!("{seed:x}.{}", format.extension()),
            content_type: format.content_type(),
            bytes,
        };
        let end = self
            .write(
                step,
                Missing::Refused,
                |_| Deed::Photo {
                    by: person.name.clone(),
                },
                |_| as_user(Ask::post("/api/photos", payload), person),
                |json| Some(json["photo"]["id"].as_str()?.to_owned()),
            )
            .await?;
        let Some(Acked { id, answer, .. }) = end.acked() else {
            return Ok(None);
        };
        person.keep(answer.cookie.as_ref());
        self.fact(Fact::Photo(id.clone()));
        let ask = Ask::get(format!("/api/photos/{id}"));
        self.read_own("own photo", person, &answer, ask, |json| {
            require(json["photo"]["id"] == id.as_str(), "another photo", json)
        })
        .await;
        Ok(Some(id))
    }

    async fn register(&self, intended: Instant) -> Result<Option<Arc<Person>>, LedgerError> {
        let step = Step {
            what: "register",
            shard: None,
            intended,
        };
        let name = |n| words::username(self.ledger.tag(), n);
        let end = self
            .write(
                step,
                Missing::Refused,
                |n| Deed::User { name: name(n) },
                |n| {
                    let name = name(n);
                    let user = json!({ "user": {
                        "username": name, "email": words::email(&name), "password": PASSWORD,
                    }});
                    Ask::post("/api/users", Payload::Json(user))
                },
                // A token is no id, and the ledger is no place for it.
                |json| json["user"]["token"].as_str().map(|_| String::new()),
            )
            .await?;
        let Some(Acked { n, answer, .. }) = end.acked() else {
            return Ok(None);
        };
        let token = answer.json()["user"]["token"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let person = Arc::new(Person::new(name(n), token, Instant::now()));
        self.fact(Fact::User(name(n)));
        person.keep(answer.cookie.as_ref());
        self.read_own(
            "own user",
            &person,
            &answer,
            Ask::get("/api/user"),
            |json| is_user(&person.name, json),
        )
        .await;
        self.crowd.lock().join(Arc::clone(&person));
        Ok(Some(person))
    }

    /// A user of an earlier life of this generator comes back.
    async fn return_of(&self, name: &str) -> Option<Arc<Person>> {
        let person = Arc::new(Person::new(name.to_owned(), String::new(), Instant::now()));
        if !self.log_in(Instant::now(), &person).await {
            return None;
        }
        self.crowd.lock().join(Arc::clone(&person));
        Some(person)
    }

    async fn log_in(&self, intended: Instant, person: &Person) -> bool {
        let step = Step {
            what: "login",
            shard: None,
            intended,
        };
        let user = json!({ "user": {
            "email": words::email(&person.name), "password": PASSWORD,
        }});
        let ask = Ask::post("/api/users/login", Payload::Json(user)).with_cookie(person.cookie());
        let missing = Missing::since(person.since);
        let answer = self
            .read(step, ask, missing, |json| is_user(&person.name, json))
            .await;
        let token = answer.and_then(|answer| {
            let json = answer.json();
            Some(json["user"]["token"].as_str()?.to_owned())
        });
        match token {
            Some(token) => {
                person.renew(token);
                true
            }
            None => false,
        }
    }

    /// Reads what `person` has just written, with the position that came with the acknowledgement.
    async fn read_own(
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
    async fn read(
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
    async fn write(
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
    async fn switch(
        &self,
        step: Step,
        missing: Missing,
        deed: Deed,
        ask: Ask,
    ) -> Result<End, LedgerError> {
        self.write(step, missing, |_| deed, |_| ask, |_| Some(String::new()))
            .await
    }

    fn fact(&self, fact: Fact) {
        self.facts.lock().offer(Instant::now(), fact);
    }

    fn is_article(&self, article: &Article, json: &Value) -> Result<(), String> {
        Draft::new(self.ledger.tag(), article.n).compare(json)?;
        let author = &json["author"]["username"];
        require(*author == article.by.name.as_str(), "another author", json)
    }

    fn shard_of(&self, address: &str) -> Option<u16> {
        Some(shards::home(&self.shards, slug::parse(address)?.slot()))
    }
}

/// Why the first users could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("only {there} synthetic users could register; the last failure: {last}")]
    Refused { there: usize, last: String },
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

fn as_user(ask: Ask, person: &Person) -> Ask {
    ask.with_token(person.token()).with_cookie(person.cookie())
}

fn switch(path: String, on: bool) -> Ask {
    let method = if on { Method::POST } else { Method::DELETE };
    Ask::post(path, Payload::None).with_method(method)
}

fn require(holds: bool, what: &str, json: &Value) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    let shown: String = json.to_string().chars().take(200).collect();
    Err(format!("{what}: {shown}"))
}

fn is_user(name: &str, json: &Value) -> Result<(), String> {
    require(json["user"]["username"] == name, "another user", json)
}

/// A page of articles: newest first, none twice, no more than were asked for.
fn is_list(json: &Value) -> Result<(), String> {
    let articles = json["articles"].as_array().ok_or("no list of articles")?;
    require(articles.len() <= 20, "more than asked for", json)?;
    let count = json["articlesCount"].as_u64().unwrap_or(0);
    require(count >= articles.len() as u64, "more than there are", json)?;
    let field = |name: &'static str| articles.iter().map(move |article| article[name].as_str());
    require(
        field("createdAt").is_sorted_by(|earlier, later| earlier >= later),
        "not newest first",
        json,
    )?;
    let slugs: std::collections::BTreeSet<_> = field("slug").collect();
    require(slugs.len() == articles.len(), "an article twice", json)
}
