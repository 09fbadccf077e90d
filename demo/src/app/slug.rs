//! What an article is called in an address: words of its title, then its id.

use super::id::Id;

/// Characters of the title that the slug keeps.
const WORDS_CHARS_MAX: usize = 80;

/// The slug of an article. Two articles never share one, whatever their titles.
pub(crate) fn slug(title: &str, id: Id) -> String {
    let mut words = String::new();
    let mut count = 0;
    for char in title.chars().flat_map(char::to_lowercase) {
        if count == WORDS_CHARS_MAX {
            break;
        }
        if char.is_alphanumeric() {
            words.push(char);
            count += 1;
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
            count += 1;
        }
    }
    let words = words.trim_end_matches('-');
    if words.is_empty() {
        id.text()
    } else {
        format!("{words}-{}", id.text())
    }
}

/// The id that a slug names. The words before it do not matter, so old addresses outlive a new title.
pub(crate) fn parse(slug: &str) -> Option<Id> {
    Id::parse(slug.rsplit('-').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_leads_back_to_its_article() {
        let id = Id(123_456_789);
        assert!(slug("Hello,  World!", id).starts_with("hello-world-"));
        for title in ["Hello,  World!", "", "---", "ÄÖ 東京", &"x".repeat(500)] {
            assert_eq!(parse(&slug(title, id)), Some(id), "{title}");
        }
        assert_eq!(parse("unknown-slug-17"), None);
        assert_eq!(parse(""), None);
    }
}
