//! What synthetic users write, each read back by its writer.

use std::sync::Arc;

use fastrand::Rng;
use http::Method;
use serde_json::json;
use tokio::time::Instant;

use super::journeys::is_user;
use super::request::{Acked, Missing, Step, as_user, require};
use super::{World, what};
use crate::node::load::audit::Fact;
use crate::node::load::client::{Answer, Ask, Payload};
use crate::node::load::crowd::{Article, Person};
use crate::node::load::ledger::{Deed, ExpectedArticle, Known, LedgerError};
use crate::node::load::picture::{self, Format};
use crate::node::load::words::{self, Draft, PASSWORD};

impl World {
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

    pub(super) async fn post(
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

    pub(super) async fn comment(
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

    pub(super) async fn favorite(
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

    pub(super) async fn follow(
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

    pub(super) async fn register(
        &self,
        intended: Instant,
    ) -> Result<Option<Arc<Person>>, LedgerError> {
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
    pub(super) async fn return_of(&self, name: &str) -> Option<Arc<Person>> {
        let person = Arc::new(Person::new(name.to_owned(), String::new(), Instant::now()));
        if !self.log_in(Instant::now(), &person).await {
            return None;
        }
        self.crowd.lock().join(Arc::clone(&person));
        Some(person)
    }

    pub(super) async fn log_in(&self, intended: Instant, person: &Person) -> bool {
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
}

fn switch(path: String, on: bool) -> Ask {
    let method = if on { Method::POST } else { Method::DELETE };
    Ask::post(path, Payload::None).with_method(method)
}
