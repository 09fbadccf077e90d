//! One ordered page of many ordered lists.

use std::cmp::Ordering;

/// A page that cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The page is too deep: every shard would have to send `offset + limit` rows.
    #[error("offset {offset} + limit {limit} is above {max}; narrow the query or use a cursor")]
    #[non_exhaustive]
    TooDeep {
        /// Rows to skip.
        offset: usize,
        /// Rows to return.
        limit: usize,
        /// The bound on their sum.
        max: usize,
    },
    /// A list is not in the order that `compare` says.
    #[error("list {list} is out of order at {position}; every shard must sort alike")]
    #[non_exhaustive]
    Unordered {
        /// Index of the list.
        list: usize,
        /// Index of the row that comes too late.
        position: usize,
    },
}

/// Rows `offset..offset + limit` of all lists together, in the order of `compare`.
///
/// Each list must be sorted by `compare` and hold its first `offset + limit` rows, or all it has: that
/// is what to ask each shard for. `depth_max` bounds that number. Equal rows keep the order of the
/// lists, so pages do not overlap as long as nothing changes in between.
///
/// # Errors
///
/// [`PageError::TooDeep`] above the bound; [`PageError::Unordered`] if a list is not sorted, as far as
/// it was looked at.
pub fn merge_page<T>(
    lists: impl IntoIterator<Item = Vec<T>>,
    offset: usize,
    limit: usize,
    depth_max: usize,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) -> Result<Vec<T>, PageError> {
    let depth = offset
        .checked_add(limit)
        .filter(|depth| *depth <= depth_max)
        .ok_or(PageError::TooDeep {
            offset,
            limit,
            max: depth_max,
        })?;
    let mut lists: Vec<_> = lists
        .into_iter()
        .map(|list| list.into_iter().enumerate().peekable())
        .collect();
    let mut page = Vec::new();
    for row in 0..depth {
        // Shards are few; a scan of their heads beats a heap.
        let mut best: Option<(usize, &T)> = None;
        for (index, list) in lists.iter_mut().enumerate() {
            if let Some((_, head)) = list.peek()
                && best.is_none_or(|(_, least)| compare(head, least) == Ordering::Less)
            {
                best = Some((index, head));
            }
        }
        let Some((index, _)) = best else { break };
        let Some(list) = lists.get_mut(index) else {
            break;
        };
        let Some((_, taken)) = list.next() else { break };
        if let Some((position, next)) = list.peek()
            && compare(next, &taken) == Ordering::Less
        {
            return Err(PageError::Unordered {
                list: index,
                position: *position,
            });
        }
        if row >= offset {
            page.push(taken);
        }
    }
    Ok(page)
}
