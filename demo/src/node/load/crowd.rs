//! The synthetic users and what they know: each other, recent articles, who likes what.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Articles that users still read and write about; older ones are left alone.
const ARTICLES_MAX: usize = 512;

/// Users at most; then nobody registers any more.
pub(crate) const PEOPLE_MAX: usize = 200;

/// How often a pair is drawn in search of one that can be switched.
const DRAWS: usize = 8;

/// One synthetic user, with a browser: a token and the `position` cookie of the last answer.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) since: Instant,
    token: Mutex<String>,
    cookie: Mutex<Option<String>>,
    /// Where the user's rows live; shown by the address of the first article.
    shard: OnceLock<u16>,
}

impl Person {
    pub(crate) fn new(name: String, token: String, since: Instant) -> Self {
        Self {
            name,
            since,
            token: Mutex::new(token),
            cookie: Mutex::default(),
            shard: OnceLock::new(),
        }
    }

    pub(crate) fn token(&self) -> Option<String> {
        Some(self.token.lock().clone())
    }

    pub(crate) fn renew(&self, token: String) {
        *self.token.lock() = token;
    }

    pub(crate) fn cookie(&self) -> Option<String> {
        self.cookie.lock().clone()
    }

    /// The answer's cookie replaces the one before, as in a browser.
    pub(crate) fn keep(&self, cookie: Option<&String>) {
        if let Some(cookie) = cookie {
            *self.cookie.lock() = Some(cookie.clone());
        }
    }

    pub(crate) fn shard(&self) -> Option<u16> {
        self.shard.get().copied()
    }

    pub(crate) fn lives_on(&self, shard: u16) {
        self.shard.get_or_init(|| shard);
    }
}

/// An article that was acknowledged.
#[derive(Debug)]
pub(crate) struct Article {
    pub(crate) n: u64,
    pub(crate) slug: String,
    pub(crate) by: Arc<Person>,
    pub(crate) since: Instant,
    fans: Mutex<Ties>,
}

impl Article {
    pub(crate) fn new(n: u64, slug: String, by: Arc<Person>, since: Instant) -> Self {
        Self {
            n,
            slug,
            by,
            since,
            fans: Mutex::default(),
        }
    }

    pub(crate) fn settle(&self, fan: &str, to: Settled) {
        self.fans.lock().settle(fan, to);
    }
}

/// How an order to switch a tie ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    On,
    Off,
    /// No answer. The order may be carried out at any time, so the tie is left alone for ever.
    Doubtful,
}

/// Things that are on or off, each in the hands of one order at a time: two at once would leave
/// nobody knowing which came last.
#[derive(Debug, Default)]
struct Ties(HashMap<String, Option<Settled>>);

impl Ties {
    /// Takes a tie for an order and says what the order is: on if it is off, and off if it is on.
    fn take(&mut self, of: &str) -> Option<bool> {
        let on = match self.0.get(of) {
            None | Some(Some(Settled::Off)) => true,
            Some(Some(Settled::On)) => false,
            Some(None | Some(Settled::Doubtful)) => return None,
        };
        self.0.insert(of.to_owned(), None);
        Some(on)
    }

    fn settle(&mut self, of: &str, to: Settled) {
        self.0.insert(of.to_owned(), Some(to));
    }
}

/// Everybody.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    people: Vec<Arc<Person>>,
    articles: VecDeque<Arc<Article>>,
    follows: HashMap<String, Ties>,
}

impl Crowd {
    pub(crate) fn len(&self) -> usize {
        self.people.len()
    }

    pub(crate) fn join(&mut self, person: Arc<Person>) {
        self.people.push(person);
    }

    pub(crate) fn publish(&mut self, article: Arc<Article>) {
        if self.articles.len() == ARTICLES_MAX {
            self.articles.pop_front();
        }
        self.articles.push_back(article);
    }

    pub(crate) fn person(&self, chance: &mut Rng) -> Option<Arc<Person>> {
        chance.choice(&self.people).cloned()
    }

    /// Somebody whose rows live on `shard`.
    pub(crate) fn neighbour(&self, shard: u16, chance: &mut Rng) -> Option<Arc<Person>> {
        let there: Vec<_> = self
            .people
            .iter()
            .filter(|person| person.shard() == Some(shard))
            .collect();
        chance.choice(there).cloned()
    }

    #[cfg(test)]
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Person>> {
        self.people
            .iter()
            .find(|person| person.name == name)
            .cloned()
    }

    pub(crate) fn everybody(&self) -> &[Arc<Person>] {
        &self.people
    }

    pub(crate) fn article(&self, chance: &mut Rng) -> Option<Arc<Article>> {
        let place = chance.usize(0..self.articles.len().max(1));
        self.articles.get(place).cloned()
    }

    /// An article that `fan` may switch the liking of, and to what. It has to be settled afterwards.
    pub(crate) fn take_favorite(
        &self,
        fan: &str,
        chance: &mut Rng,
    ) -> Option<(Arc<Article>, bool)> {
        (0..DRAWS).find_map(|_| {
            let article = self.article(chance)?;
            let on = article.fans.lock().take(fan)?;
            Some((article, on))
        })
    }

    /// Somebody else that `follower` may switch the following of, and to what. It has to be settled
    /// afterwards.
    pub(crate) fn take_follow(
        &mut self,
        follower: &str,
        chance: &mut Rng,
    ) -> Option<(Arc<Person>, bool)> {
        let ties = self.follows.entry(follower.to_owned()).or_default();
        (0..DRAWS).find_map(|_| {
            let whom = chance.choice(&self.people)?;
            if whom.name == follower {
                return None;
            }
            let on = ties.take(&whom.name)?;
            Some((Arc::clone(whom), on))
        })
    }

    pub(crate) fn settle_follow(&mut self, follower: &str, whom: &str, to: Settled) {
        let ties = self.follows.entry(follower.to_owned()).or_default();
        ties.settle(whom, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_is_in_one_hand_at_a_time_and_a_doubtful_one_in_none() {
        let mut ties = Ties::default();
        assert_eq!(ties.take("a"), Some(true));
        assert_eq!(ties.take("a"), None);
        ties.settle("a", Settled::On);
        assert_eq!(ties.take("a"), Some(false));
        ties.settle("a", Settled::Doubtful);
        assert_eq!(ties.take("a"), None);
    }

    #[test]
    fn the_oldest_articles_are_left_alone() {
        let now = Instant::now();
        let person = Arc::new(Person::new("ada".to_owned(), String::new(), now));
        let mut crowd = Crowd::default();
        for n in 0..600 {
            let article = Article::new(n, n.to_string(), Arc::clone(&person), now);
            crowd.publish(Arc::new(article));
        }
        assert_eq!(crowd.articles.len(), ARTICLES_MAX);
        assert_eq!(crowd.articles[0].n, 88);
    }
}
