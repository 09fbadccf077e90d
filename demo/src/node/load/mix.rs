//! What a synthetic user does next: the mix of a small social network.

use fastrand::Rng;

/// One thing that a person does on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Journey {
    ReadArticle,
    GlobalList,
    Feed,
    Tags,
    Profile,
    Comments,
    Me,
    Post,
    Comment,
    Favorite,
    Follow,
    Login,
    Register,
    Upload,
}

/// How often each is done, in parts of a thousand. Reads, writes and their order of magnitude follow
/// the social network of DeathStarBench (mostly time lines, one action in ten composes); log-ins and
/// uploads are rare because they are dear: a password hash, three resized images.
const SOCIAL: [(Journey, u32); 14] = [
    (Journey::ReadArticle, 300),
    (Journey::GlobalList, 140),
    (Journey::Feed, 140),
    (Journey::Profile, 80),
    (Journey::Comments, 60),
    (Journey::Tags, 40),
    (Journey::Me, 30),
    (Journey::Post, 70),
    (Journey::Favorite, 60),
    (Journey::Comment, 40),
    (Journey::Follow, 25),
    (Journey::Upload, 8),
    (Journey::Login, 5),
    (Journey::Register, 2),
];

impl Journey {
    /// Draws one by the mix.
    pub(crate) fn draw(chance: &mut Rng) -> Self {
        let total: u32 = SOCIAL.iter().map(|(_, parts)| parts).sum();
        let mut place = chance.u32(0..total);
        for (journey, parts) in SOCIAL {
            if place < parts {
                return journey;
            }
            place -= parts;
        }
        Self::ReadArticle
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_mix_is_the_mix() {
        let mut chance = Rng::with_seed(11);
        let mut counts: HashMap<Journey, u32> = HashMap::new();
        for _ in 0..100_000 {
            *counts.entry(Journey::draw(&mut chance)).or_default() += 1;
        }
        assert_eq!(SOCIAL.iter().map(|(_, parts)| parts).sum::<u32>(), 1_000);
        for (journey, parts) in SOCIAL {
            let (is, wanted) = (f64::from(counts[&journey]), f64::from(parts) * 100.0);
            assert!(
                (is - wanted).abs() < 5.0 * wanted.sqrt(),
                "{journey:?} {is}"
            );
        }
    }
}
