//! The checker: reads back through the edge what the ledger says was acknowledged, and says what is
//! lost, what is there twice, and what is otherwise than it was written.
//!
//! The judgements are pure functions of an expectation and an answer; [`check`] asks the questions.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Ask, Client, Payload};
use super::ledger::{Expected, ExpectedArticle, Known, Tie};
use super::words::{self, Draft, PASSWORD};

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// Rows of one page of a list.
const PAGE: usize = 100;

/// Pages of one list at most: the service serves no deeper ones.
const PAGES_MAX: usize = 99;

/// A finding counts if it is still there after so many rounds: replicas may be late, and photos in the
/// making.
const ROUNDS: usize = 6;
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// What a check came to. Each finding says what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Acknowledged things that were looked for.
    pub(crate) checked: u64,
    pub(crate) lost: Vec<String>,
    pub(crate) duplicated: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// What could not be read, so that nothing is known.
    pub(crate) unread: Vec<String>,
}

impl Findings {
    pub(crate) const fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.duplicated.is_empty()
            && self.wrong.is_empty()
            && self.unread.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.lost.extend(other.lost);
        self.duplicated.extend(other.duplicated);
        self.wrong.extend(other.wrong);
        self.unread.extend(other.unread);
    }
}

/// Whether an acknowledged article is there as it was written.
pub(crate) fn judge_article(
    tag: &str,
    article: &ExpectedArticle,
    fans: Option<&BTreeMap<String, Tie>>,
    answer: &Reply,
) -> Findings {
    let mut found = Findings::default();
    let about = format!("article {}", article.slug);
    let Some(json) = found.there(&about, answer) else {
        return found;
    };
    let json = &json["article"];
    if let Err(why) = Draft::new(tag, article.n).compare(json) {
        found.wrong.push(format!("{about}: {why}"));
    }
    let by = &json["author"]["username"];
    if *by != article.by.as_str() {
        found.wrong.push(format!("{about} is by {by}"));
    }
    let count = |wanted: Tie| {
        fans.map_or(0, |fans| {
            fans.values().filter(|tie| **tie == wanted).count()
        }) as u64
    };
    let (least, most) = (count(Tie::On), count(Tie::On) + count(Tie::Unknown));
    match json["favoritesCount"].as_u64() {
        Some(count) if (least..=most).contains(&count) => {}
        count => found.wrong.push(format!(
            "{about} has {count:?} favourites, of {least} to {most}"
        )),
    }
    found
}

/// Whether the list of an author's articles has each acknowledged one once, and each other one that
/// was tried at most once.
pub(crate) fn judge_author(tag: &str, by: &str, expected: &Expected, list: &[Value]) -> Findings {
    let mut found = Findings::default();
    let mut there: HashMap<&str, u64> = HashMap::new();
    for title in list.iter().filter_map(|article| article["title"].as_str()) {
        *there.entry(title).or_default() += 1;
    }
    for article in expected.articles.iter().filter(|article| article.by == by) {
        let title = Draft::new(tag, article.n).title;
        let about = format!("article {} ({title})", article.slug);
        match (there.remove(title.as_str()), article.known) {
            (None, Known::Acked) => {
                found
                    .lost
                    .push(format!("{about} is not in the list of {by}"));
            }
            (Some(count), _) if count > 1 => {
                found
                    .duplicated
                    .push(format!("{about} is there {count} times"));
            }
            _ => {}
        }
    }
    for (title, _) in there {
        found.wrong.push(format!(
            "an article of {by} that was refused or never sent: {title}"
        ));
    }
    found
}

/// Whether the comments of an article have each acknowledged one once, and each other one that was
/// tried at most once.
pub(crate) fn judge_comments(
    tag: &str,
    slug: &str,
    expected: &[(u64, String, Known)],
    answer: &Reply,
) -> Findings {
    let mut found = Findings::default();
    let acked = expected.iter().filter(|(.., known)| *known == Known::Acked);
    let acked = acked.count() as u64;
    let Some(json) = found.there(&format!("the comments of {slug}"), answer) else {
        found.checked = acked;
        return found;
    };
    found.checked = acked;
    let mut there: HashMap<(String, String), u64> = HashMap::new();
    for comment in json["comments"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&comment["body"]), text(&comment["author"]["username"]));
        *there.entry(key).or_default() += 1;
    }
    for (n, by, known) in expected {
        match (there.remove(&(words::comment(tag, *n), by.clone())), known) {
            (None, Known::Acked) => found.lost.push(format!("comment {n} of {by} on {slug}")),
            (Some(count), _) if count > 1 => found.duplicated.push(format!(
                "comment {n} of {by} on {slug} is there {count} times"
            )),
            _ => {}
        }
    }
    for ((body, by), _) in there {
        found.wrong.push(format!(
            "a comment of {by} on {slug} that was refused or never sent: {body}"
        ));
    }
    found
}

/// Whether a tie is as it was left.
pub(crate) fn judge_tie(about: &str, tie: Tie, is: bool) -> Findings {
    let mut found = Findings::default();
    let wanted = match tie {
        Tie::On => true,
        Tie::Off => false,
        Tie::Unknown => return found,
    };
    found.checked = 1;
    match (wanted, is) {
        (true, false) => found.lost.push(about.to_owned()),
        (false, true) => found.lost.push(format!("the end of: {about}")),
        _ => {}
    }
    found
}

/// Whether an uploaded photo has its one result.
pub(crate) fn judge_photo(id: &str, answer: &Reply) -> Findings {
    let mut found = Findings::default();
    let about = format!("photo {id}");
    let Some(json) = found.there(&about, answer) else {
        return found;
    };
    match json["photo"]["status"].as_str() {
        Some("ready") => {}
        Some(status @ ("queued" | "processing")) => {
            found.unread.push(format!("{about} is still {status}"));
        }
        status => found.wrong.push(format!("{about} is {status:?}")),
    }
    found
}

/// An answer, or why there is none.
pub(crate) type Reply = Result<(StatusCode, Value), String>;

impl Findings {
    /// Counts a thing that has to be there, and gives its JSON if it is.
    fn there<'a>(&mut self, about: &str, answer: &'a Reply) -> Option<&'a Value> {
        self.checked += 1;
        match answer {
            Ok((status, json)) if status.is_success() => return Some(json),
            Ok((StatusCode::NOT_FOUND, _)) => self.lost.push(about.to_owned()),
            Ok((status, json)) => self.unread.push(format!("{about}: {status} {json}")),
            Err(why) => self.unread.push(format!("{about}: {why}")),
        }
        None
    }
}

/// One question about the data.
enum Question<'a> {
    User(&'a str),
    Author(&'a str),
    Article(&'a ExpectedArticle),
    Comments(&'a str, &'a [(u64, String, Known)]),
    Favorites(&'a str),
    Follow(&'a str, &'a str, Tie),
    Photo(&'a str),
}

/// Asks everything that the ledger knows about, again and again while something seems amiss, and
/// returns what is amiss in the end.
///
/// # Cancel safety
///
/// It only reads; dropping the future stops the check.
pub(crate) async fn check(client: &Client, expected: &Expected) -> Findings {
    let mut last = Findings::default();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        last = check_once(client, expected).await;
        if last.is_clean() {
            break;
        }
    }
    last
}

pub(super) async fn check_once(client: &Client, expected: &Expected) -> Findings {
    let mut found = Findings::default();
    // By logging in, the password's row is checked too.
    let mut tokens: HashMap<&str, String> = HashMap::new();
    for (name, known) in &expected.users {
        if *known != Known::Acked {
            continue;
        }
        let user = json!({ "user": { "email": words::email(name), "password": PASSWORD } });
        let ask = Ask::post("/api/users/login", Payload::Json(user));
        match reply(client, ask).await {
            Ok((StatusCode::UNAUTHORIZED, _)) => {
                found.lost.push(format!("user {name} cannot log in"));
            }
            Ok((_, json)) => match json["user"]["token"].as_str() {
                Some(token) => {
                    tokens.insert(name, token.to_owned());
                }
                None => found.unread.push(format!("user {name} at log-in: {json}")),
            },
            Err(why) => found.unread.push(format!("user {name} at log-in: {why}")),
        }
    }
    let questions = questions(expected);
    let answers: Vec<Findings> = stream::iter(questions)
        .map(|question| answer(client, expected, &tokens, question))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for answer in answers {
        found.add(answer);
    }
    found
}

fn questions(expected: &Expected) -> Vec<Question<'_>> {
    let acked = |known: &Known| *known == Known::Acked;
    let users = expected.users.iter().filter(|(_, known)| acked(known));
    let fans: std::collections::BTreeSet<&str> = expected
        .favorites
        .values()
        .flat_map(BTreeMap::keys)
        .map(String::as_str)
        .collect();
    let mut questions: Vec<Question<'_>> = Vec::new();
    questions.extend(users.map(|(name, _)| Question::User(name)));
    questions.extend(expected.authors().into_iter().map(Question::Author));
    questions.extend(fans.into_iter().map(Question::Favorites));
    questions.extend(
        expected
            .articles
            .iter()
            .filter(|article| acked(&article.known))
            .map(Question::Article),
    );
    questions.extend(
        expected
            .comments
            .iter()
            .map(|(slug, comments)| Question::Comments(slug, comments)),
    );
    for (by, ties) in &expected.follows {
        for (whom, tie) in ties {
            if *tie != Tie::Unknown {
                questions.push(Question::Follow(by, whom, *tie));
            }
        }
    }
    questions.extend(expected.photos.iter().map(|(id, _)| Question::Photo(id)));
    questions
}

async fn answer(
    client: &Client,
    expected: &Expected,
    tokens: &HashMap<&str, String>,
    question: Question<'_>,
) -> Findings {
    let tag = expected.tag.as_str();
    let get = |path: String| reply(client, Ask::get(path));
    match question {
        Question::User(name) => {
            let mut found = Findings::default();
            let answer = get(format!("/api/profiles/{name}")).await;
            if let Some(json) = found.there(&format!("user {name}"), &answer)
                && json["profile"]["username"] != name
            {
                found.wrong.push(format!("user {name} is {json}"));
            }
            found
        }
        Question::Author(by) => match list(client, &format!("author={by}")).await {
            Ok(list) => judge_author(tag, by, expected, &list),
            Err(why) => unread(format!("the list of {by}: {why}")),
        },
        Question::Article(article) => {
            let answer = get(format!("/api/articles/{}", article.slug)).await;
            judge_article(tag, article, expected.favorites.get(&article.slug), &answer)
        }
        Question::Comments(slug, comments) => {
            let answer = get(format!("/api/articles/{slug}/comments")).await;
            judge_comments(tag, slug, comments, &answer)
        }
        Question::Favorites(fan) => match list(client, &format!("favorited={fan}")).await {
            Ok(list) => {
                let there: std::collections::BTreeSet<&str> = list
                    .iter()
                    .filter_map(|article| article["slug"].as_str())
                    .collect();
                let mut found = Findings::default();
                for (slug, fans) in &expected.favorites {
                    if let Some(tie) = fans.get(fan) {
                        let about = format!("that {fan} likes {slug}");
                        found.add(judge_tie(&about, *tie, there.contains(slug.as_str())));
                    }
                }
                found
            }
            Err(why) => unread(format!("the favourites of {fan}: {why}")),
        },
        Question::Follow(by, whom, tie) => {
            let about = format!("that {by} follows {whom}");
            let token = tokens.get(by).cloned();
            let ask = Ask::get(format!("/api/profiles/{whom}")).with_token(token);
            match reply(client, ask).await {
                Ok((StatusCode::OK, json)) => {
                    judge_tie(&about, tie, json["profile"]["following"] == true)
                }
                other => unread(format!("{about}: {other:?}")),
            }
        }
        Question::Photo(id) => judge_photo(id, &get(format!("/api/photos/{id}")).await),
    }
}

fn unread(about: String) -> Findings {
    Findings {
        unread: vec![about],
        ..Findings::default()
    }
}

/// All pages of a list of articles.
async fn list(client: &Client, filter: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for page in 0..PAGES_MAX {
        let offset = page * PAGE;
        let path = format!("/api/articles?{filter}&limit={PAGE}&offset={offset}");
        let (status, json) = reply(client, Ask::get(path)).await?;
        let Some(articles) = json["articles"].as_array() else {
            return Err(format!("{status} {json}"));
        };
        all.extend(articles.iter().cloned());
        if articles.len() < PAGE {
            return Ok(all);
        }
    }
    Err(format!("more than {} rows", PAGES_MAX * PAGE))
}

async fn reply(client: &Client, ask: Ask) -> Reply {
    match client.send(ask).await {
        Ok(answer) => Ok((answer.status, answer.json())),
        Err(failure) => Err(failure.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "k3f9";

    fn article(n: u64, known: Known) -> ExpectedArticle {
        ExpectedArticle {
            n,
            by: "ada".to_owned(),
            known,
            slug: format!("slug-{n}"),
        }
    }

    fn shown(n: u64, favorites: u64) -> Reply {
        let mut article = Draft::new(TAG, n).request()["article"].clone();
        article["author"] = json!({ "username": "ada" });
        article["favoritesCount"] = favorites.into();
        Ok((StatusCode::OK, json!({ "article": article })))
    }

    #[test]
    fn an_article_that_is_gone_is_lost_and_one_that_cannot_be_read_is_not() {
        let expected = article(1, Known::Acked);
        let judge = |answer| judge_article(TAG, &expected, None, &answer);
        assert!(judge(shown(1, 0)).is_clean());
        assert_eq!(
            judge(Ok((StatusCode::NOT_FOUND, Value::Null))).lost.len(),
            1
        );
        assert_eq!(judge(Err("timeout".to_owned())).unread.len(), 1);
        assert_eq!(judge(shown(2, 0)).wrong.len(), 1);
    }

    #[test]
    fn favourites_are_counted_between_the_certain_and_the_possible() {
        let expected = article(1, Known::Acked);
        let fans = BTreeMap::from([
            ("a".to_owned(), Tie::On),
            ("b".to_owned(), Tie::Unknown),
            ("c".to_owned(), Tie::Off),
        ]);
        for (count, wrong) in [(0, 1), (1, 0), (2, 0), (3, 1)] {
            let found = judge_article(TAG, &expected, Some(&fans), &shown(1, count));
            assert_eq!(found.wrong.len(), wrong, "{count}: {found:?}");
        }
    }

    #[test]
    fn a_list_has_each_acknowledged_article_once_and_no_refused_one() {
        let expected = Expected {
            articles: vec![
                article(1, Known::Acked),
                article(2, Known::Acked),
                article(3, Known::Unknown),
                article(4, Known::Unknown),
            ],
            ..Expected::default()
        };
        let title = |n| json!({ "title": Draft::new(TAG, n).title });
        let good = [title(1), title(2), title(3)];
        assert!(judge_author(TAG, "ada", &expected, &good).is_clean());
        let bad = [title(1), title(3), title(3), title(9)];
        let found = judge_author(TAG, "ada", &expected, &bad);
        assert_eq!(
            (found.lost.len(), found.duplicated.len(), found.wrong.len()),
            (1, 1, 1),
            "{found:?}"
        );
    }

    #[test]
    fn a_comment_that_is_there_twice_is_found_and_so_is_a_missing_one() {
        let expected = [
            (1, "ada".to_owned(), Known::Acked),
            (2, "ben".to_owned(), Known::Acked),
        ];
        let comment =
            |n, by: &str| json!({ "body": words::comment(TAG, n), "author": { "username": by } });
        let judge = |list: Vec<Value>| {
            let answer = Ok((StatusCode::OK, json!({ "comments": list })));
            judge_comments(TAG, "s", &expected, &answer)
        };
        assert!(judge(vec![comment(2, "ben"), comment(1, "ada")]).is_clean());
        let found = judge(vec![comment(1, "ada"), comment(1, "ada")]);
        assert_eq!((found.lost.len(), found.duplicated.len()), (1, 1));
    }

    #[test]
    fn a_tie_is_judged_only_where_its_end_is_known() {
        assert!(judge_tie("t", Tie::On, true).is_clean());
        assert_eq!(judge_tie("t", Tie::On, false).lost.len(), 1);
        assert_eq!(judge_tie("t", Tie::Off, true).lost.len(), 1);
        assert_eq!(judge_tie("t", Tie::Unknown, true), Findings::default());
    }

    #[test]
    fn a_photo_has_one_result() {
        let judge = |status: &str| {
            let json = json!({ "photo": { "status": status } });
            judge_photo("p", &Ok((StatusCode::OK, json)))
        };
        assert!(judge("ready").is_clean());
        assert_eq!(judge("processing").unread.len(), 1);
        assert_eq!(judge("failed").wrong.len(), 1);
    }
}
