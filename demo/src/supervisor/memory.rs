//! What the processes of a run weigh.
//!
//! `rss` counts every resident page in full, so pages that processes share (the program itself, the C
//! library) are counted once a process; `pss` divides each page by how many processes share it, so its
//! sum is what the machine would get back. Both are shown; the budget is about `pss`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The memory of one process or of several, in KiB; 0 where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) rss_kb: u64,
    pub(crate) pss_kb: u64,
}

impl std::iter::Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            rss_kb: sum.rss_kb + part.rss_kb,
            pss_kb: sum.pss_kb + part.pss_kb,
        })
    }
}

/// Weighs each process. Walks page tables: cheap, and not free.
pub(super) fn weigh(pids: &[u32]) -> BTreeMap<u32, Memory> {
    let weigh = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some((*pid, parse(&text)))
    };
    pids.iter().filter_map(weigh).collect()
}

fn parse(rollup: &str) -> Memory {
    let field = |name: &str| {
        rollup
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0)
    };
    Memory {
        rss_kb: field("Rss:"),
        pss_kb: field("Pss:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_gives_both_figures_and_none_of_the_like_named() {
        let rollup = "55e0-7ffd ---p 00000000 00:00 0    [rollup]\n\
            Rss:               10240 kB\n\
            Pss:                6144 kB\n\
            Pss_Dirty:          2048 kB\n";
        let expected = Memory {
            rss_kb: 10_240,
            pss_kb: 6_144,
        };
        assert_eq!(parse(rollup), expected);
        assert_eq!(parse(""), Memory::default());
    }
}
