//! Which processes a run consists of: a pure function of the options.

use crate::node::config::Role;
use crate::options::UpOptions;

/// How many copies each shard has: a majority of three survives the loss of one.
pub(crate) const COPIES: u16 = 3;

/// A process to be started, before it has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Unique and stable: `web-1`, `store-0b`.
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) shard: Option<u16>,
}

impl Spec {
    pub(crate) fn new(role: Role, number: u16) -> Self {
        Self {
            id: format!("{}-{number}", role.name()),
            role,
            shard: None,
        }
    }

    fn only(role: Role) -> Self {
        Self {
            id: role.name().to_owned(),
            role,
            shard: None,
        }
    }
}

/// The processes of a run, load apart, in the order in which they are started.
pub(crate) fn plan(options: &UpOptions) -> Vec<Spec> {
    let stores = (0..options.shards).flat_map(|shard| {
        ('a'..).take(usize::from(COPIES)).map(move |letter| Spec {
            id: format!("store-{shard}{letter}"),
            role: Role::Store,
            shard: Some(shard),
        })
    });
    stores
        .chain([Spec::only(Role::Coord), Spec::only(Role::Queue)])
        .chain((1..=options.workers).map(|n| Spec::new(Role::Worker, n)))
        .chain((1..=options.web).map(|n| Spec::new(Role::Web, n)))
        .chain([Spec::only(Role::Edge)])
        .collect()
}

/// The synthetic users, started when everything else answers.
pub(crate) fn load() -> Spec {
    Spec::only(Role::Load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shards_have_three_copies_each_and_every_id_is_unique() {
        let specs = plan(&UpOptions::default());
        let stores = specs.iter().filter(|spec| spec.role == Role::Store).count();
        assert_eq!(stores, 6);
        let ids: std::collections::BTreeSet<_> = specs.iter().map(|spec| &spec.id).collect();
        assert_eq!(ids.len(), specs.len());
    }
}
