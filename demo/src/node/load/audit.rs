//! Continuous read-back: while the load runs, a sample of what was acknowledged is looked for again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::check::{judge_article, judge_comments, judge_photo};
use super::client::{Ask, Client};
use super::ledger::{Expected, ExpectedArticle, Known};
use super::world::VISIBLE_AFTER;

/// Facts in the sample. All that were ever acknowledged have the same chance to be in it.
const FACTS_MAX: usize = 4_096;

/// Time between looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a fact that is not there is looked for again before it counts as lost.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Something acknowledged that nothing undoes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    User(String),
    Article(ExpectedArticle),
    Comment { n: u64, by: String, slug: String },
    Photo(String),
}

impl Fact {
    fn path(&self) -> String {
        match self {
            Self::User(name) => format!("/api/profiles/{name}"),
            Self::Article(article) => format!("/api/articles/{}", article.slug),
            Self::Comment { slug, .. } => format!("/api/articles/{slug}/comments"),
            Self::Photo(id) => format!("/api/photos/{id}"),
        }
    }

    /// Whether the answer lacks it, as far as the answer tells.
    fn is_lost(&self, tag: &str, status: StatusCode, json: Value) -> bool {
        let answer = Ok((status, json));
        let found = match self {
            Self::User(_) => return status == StatusCode::NOT_FOUND,
            // How many like it is not part of the fact.
            Self::Article(article) => {
                let mut found = judge_article(tag, article, None, &answer);
                found.wrong.clear();
                found
            }
            Self::Comment { n, by, slug } => {
                judge_comments(tag, slug, &[(*n, by.clone(), Known::Acked)], &answer)
            }
            Self::Photo(id) => judge_photo(id, &answer),
        };
        !found.lost.is_empty()
    }
}

/// A sample of bounded size in which each of all facts so far is with the same chance.
#[derive(Debug)]
pub(crate) struct Facts {
    chance: Rng,
    seen: usize,
    kept: Vec<(Instant, Fact)>,
}

impl Facts {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            chance: Rng::with_seed(seed),
            seen: 0,
            kept: Vec::new(),
        }
    }

    /// Vitter's algorithm R.
    pub(crate) fn offer(&mut self, now: Instant, fact: Fact) {
        self.seen += 1;
        if self.kept.len() < FACTS_MAX {
            self.kept.push((now, fact));
            return;
        }
        let place = self.chance.usize(0..self.seen);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = (now, fact);
        }
    }

    /// What an earlier life of the load was told.
    pub(crate) fn offer_all(&mut self, now: Instant, expected: &Expected) {
        for (name, known) in &expected.users {
            if *known == Known::Acked {
                self.offer(now, Fact::User(name.clone()));
            }
        }
        for article in &expected.articles {
            if article.known == Known::Acked {
                self.offer(now, Fact::Article(article.clone()));
            }
        }
        for (slug, comments) in &expected.comments {
            for (n, by, known) in comments {
                if *known == Known::Acked {
                    let (n, by, slug) = (*n, by.clone(), slug.clone());
                    self.offer(now, Fact::Comment { n, by, slug });
                }
            }
        }
        for (id, _) in &expected.photos {
            self.offer(now, Fact::Photo(id.clone()));
        }
    }

    /// One of those that everybody has to see by now.
    fn pick(&mut self, now: Instant) -> Option<Fact> {
        let (since, fact) = self.chance.choice(&self.kept)?;
        (now.saturating_duration_since(*since) >= VISIBLE_AFTER).then(|| fact.clone())
    }
}

/// Looks for facts, one after the other.
#[derive(Debug)]
pub(crate) struct Audit {
    tag: String,
    facts: Arc<Mutex<Facts>>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    checked: u64,
    lost: BTreeSet<String>,
}

impl Audit {
    pub(crate) fn new(tag: &str, facts: Arc<Mutex<Facts>>) -> Self {
        Self {
            tag: tag.to_owned(),
            facts,
            counts: Mutex::default(),
        }
    }

    /// How often a fact was looked for with an answer.
    pub(crate) fn checked(&self) -> u64 {
        self.counts.lock().checked
    }

    /// How many were not there; none before anything was looked for.
    pub(crate) fn lost(&self) -> Option<usize> {
        let counts = self.counts.lock();
        (counts.checked > 0).then(|| counts.lost.len())
    }

    /// Looks for one fact after the other, for as long as it is polled. `tell` hears of each loss once.
    pub(crate) async fn keep_looking(&self, client: &Client, tell: impl Fn(String)) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(fact) = self.facts.lock().pick(Instant::now()) else {
                continue;
            };
            let Some(lost) = self.look(client, &fact).await else {
                continue;
            };
            let path = fact.path();
            let mut counts = self.counts.lock();
            counts.checked += 1;
            if lost && counts.lost.insert(format!("{fact:?}")) {
                tell(format!("an acknowledged write is not there: {path}"));
            }
        }
    }

    /// Whether a fact is lost; nothing if there was no answer.
    async fn look(&self, client: &Client, fact: &Fact) -> Option<bool> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let answer = client.send(Ask::get(fact.path())).await.ok()?;
            if !fact.is_lost(&self.tag, answer.status, answer.json()) {
                return Some(false);
            }
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_has_the_same_chance_to_be_in_the_sample() {
        let mut facts = Facts::new(4);
        let now = Instant::now();
        for n in 0..40_960_u64 {
            facts.offer(now, Fact::Photo(n.to_string()));
        }
        assert_eq!(facts.kept.len(), FACTS_MAX);
        let early = facts
            .kept
            .iter()
            .filter(
                |(_, fact)| matches!(fact, Fact::Photo(id) if id.parse::<u64>().unwrap() < 20_480),
            )
            .count();
        // Half of 4,096, give or take four standard deviations.
        assert!((1_920..=2_176).contains(&early), "{early}");
    }

    #[test]
    fn a_fact_is_left_alone_until_everybody_has_to_see_it() {
        let mut facts = Facts::new(4);
        let now = Instant::now();
        facts.offer(now, Fact::Photo("p".to_owned()));
        assert_eq!(facts.pick(now + VISIBLE_AFTER / 2), None);
        assert!(facts.pick(now + VISIBLE_AFTER).is_some());
    }
}
