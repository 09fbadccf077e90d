//! A set of numbers as runs: neighbours cost nothing, so a queue that is worked off in order is one run.

use std::collections::BTreeMap;

/// Disjoint runs, first to last, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Intervals {
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl Intervals {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.first_key_value().map(|(first, _)| *first)
    }

    pub(crate) fn contains(&self, n: u64) -> bool {
        self.runs
            .range(..=n)
            .next_back()
            .is_some_and(|(_, last)| n <= *last)
    }

    /// Adds a run, none of whose numbers may be in the set.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        self.len += last - first + 1;
        let (mut first, mut last) = (first, last);
        if let Some((before, end)) = self.runs.range(..first).next_back()
            && *end + 1 == first
        {
            first = *before;
        }
        if let Some(end) = last.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            last = end;
        }
        self.runs.insert(first, last);
    }

    /// Adds a run behind all others, as a snapshot lists them; `None` when it stands elsewhere or is too long.
    pub(crate) fn insert_apart(&mut self, first: u64, last: u64) -> Option<()> {
        let behind = |(_, end): (&u64, &u64)| first > *end;
        let fits = last < u64::MAX && self.runs.last_key_value().is_none_or(behind);
        fits.then(|| self.insert(first, last))
    }

    /// Removes a number; false when it was not there.
    pub(crate) fn remove(&mut self, n: u64) -> bool {
        let Some((&first, &last)) = self.runs.range(..=n).next_back() else {
            return false;
        };
        if n > last {
            return false;
        }
        self.len -= 1;
        if first == n {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, n - 1);
        }
        if n < last {
            self.runs.insert(n + 1, last);
        }
        true
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().map(|(first, last)| (*first, *last))
    }

    pub(crate) fn runs_len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs().flat_map(|(first, last)| first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_hold_what_a_plain_set_holds() {
        let mut seed = 7;
        let (mut runs, mut plain) = (Intervals::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let n = crate::sim::splitmix(&mut seed) % 64;
            let len = crate::sim::splitmix(&mut seed) % 4;
            if (n..=n + len).all(|n| !plain.contains(&n)) {
                plain.extend(n..=n + len);
                runs.insert(n, n + len);
            } else {
                assert_eq!(runs.remove(n), plain.remove(&n));
            }
            assert!(runs.iter().eq(plain.iter().copied()));
            assert_eq!(runs.len(), plain.len() as u64);
            assert_eq!(runs.contains(n), plain.contains(&n));
            assert_eq!(runs.first(), plain.first().copied());
            let apart = runs.runs().zip(runs.runs().skip(1));
            assert!(apart.into_iter().all(|((_, a), (b, _))| a + 1 < b));
        }
    }
}
