//! What synthetic users read, and what has to be true of it; what they write is next door.

use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

use super::World;
use super::request::{Missing, Step, as_user, require};
use crate::node::load::client::Ask;
use crate::node::load::crowd::{Article, PEOPLE_MAX};
use crate::node::load::ledger::LedgerError;
use crate::node::load::mix::Journey;
use crate::node::load::picture::Format;
use crate::node::load::words::Draft;

/// Sizes of uploaded photos, in pixels.
const SIZES: [(u32, u32); 3] = [(320, 240), (480, 360), (200, 320)];

impl World {
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

    fn is_article(&self, article: &Article, json: &Value) -> Result<(), String> {
        Draft::new(self.ledger.tag(), article.n).compare(json)?;
        let author = &json["author"]["username"];
        require(*author == article.by.name.as_str(), "another author", json)
    }
}

pub(super) fn is_user(name: &str, json: &Value) -> Result<(), String> {
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
