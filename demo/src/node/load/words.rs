//! What synthetic users write: a function of a key, so that a checker knows what must be there.

use serde_json::{Value, json};

/// The password of every synthetic user.
pub(crate) const PASSWORD: &str = "a synthetic password";

const NAMES: [&str; 12] = [
    "ada", "ben", "chloe", "dan", "emil", "fay", "gus", "hana", "ivo", "june", "kofi", "lea",
];
const TOPICS: [&str; 8] = [
    "Harbour",
    "Mountains",
    "Market",
    "Bridge",
    "Library",
    "Garden",
    "Station",
    "Lighthouse",
];
const TAGS: [&str; 6] = ["travel", "morning", "city", "quiet", "people", "light"];
const SENTENCES: [&str; 4] = [
    "The light was flat and the water had not made up its mind.",
    "Nobody was about but a man with two dogs and no hurry.",
    "I took the long way round and was glad of it.",
    "By noon the colours had gone and so had everybody else.",
];
/// Sentences of one article: about 700 characters.
const LENGTH: u64 = 12;

/// The name of the user with this number.
pub(crate) fn username(tag: &str, n: u64) -> String {
    format!("{}-{tag}-{n}", choose(&NAMES, n))
}

pub(crate) fn email(username: &str) -> String {
    format!("{username}@example.org")
}

/// What nothing else in the service is called.
pub(crate) fn key(tag: &str, n: u64) -> String {
    format!("{tag}-{n}")
}

/// An article as it is sent and as it has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) body: String,
    pub(crate) tags: [&'static str; 2],
}

impl Draft {
    pub(crate) fn new(tag: &str, n: u64) -> Self {
        let key = key(tag, n);
        let topic = choose(&TOPICS, n);
        let sentences: Vec<&str> = (0..LENGTH)
            .map(|place| choose(&SENTENCES, n.wrapping_add(place.wrapping_mul(n | 1))))
            .collect();
        Self {
            title: format!("{topic}, seen as {key}"),
            description: format!("Number {n} of a series about the {}", topic.to_lowercase()),
            body: format!("{}\n\n{key}", sentences.join(" ")),
            tags: [choose(&TAGS, n), choose(&TAGS, n + 1)],
        }
    }

    /// The body of the request that creates it.
    pub(crate) fn request(&self) -> Value {
        json!({ "article": {
            "title": self.title, "description": self.description, "body": self.body,
            "tagList": self.tags,
        }})
    }

    /// Whether this is the article, and if not, what differs.
    pub(crate) fn compare(&self, article: &Value) -> Result<(), String> {
        let texts = [
            ("title", self.title.as_str()),
            ("description", self.description.as_str()),
            ("body", self.body.as_str()),
        ];
        for (field, wanted) in texts {
            if article[field].as_str() != Some(wanted) {
                return Err(format!("its {field} is {}", article[field]));
            }
        }
        if article["tagList"] == json!(self.tags) {
            Ok(())
        } else {
            Err(format!("its tags are {}", article["tagList"]))
        }
    }
}

/// A comment's text.
pub(crate) fn comment(tag: &str, n: u64) -> String {
    format!("{} {}", choose(&SENTENCES, n), key(tag, n))
}

fn choose(from: &[&'static str], n: u64) -> &'static str {
    let place = n % (from.len() as u64);
    from[usize::try_from(place).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_knows_itself_again_and_nothing_else() {
        let draft = Draft::new("k3f9", 17);
        let mut article = draft.request()["article"].clone();
        assert_eq!(draft.compare(&article), Ok(()));
        assert!(Draft::new("k3f9", 18).compare(&article).is_err());
        article["body"] = "other".into();
        assert_eq!(
            draft.compare(&article),
            Err("its body is \"other\"".to_owned())
        );
        assert_ne!(draft.tags[0], draft.tags[1]);
    }
}
