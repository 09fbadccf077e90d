//! What the supervisor tells a child process: who it is, where the others are, which faults are on.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The part that a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The balancer: the one public address.
    Edge,
    /// A stateless web server.
    Web,
    /// One copy of one shard's database.
    Store,
    /// Watches the copies and promotes.
    Coord,
    /// The durable queue.
    Queue,
    /// Makes photo variants.
    Worker,
    /// Synthetic users.
    Load,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Web => "web",
            Self::Store => "store",
            Self::Coord => "coord",
            Self::Queue => "queue",
            Self::Worker => "worker",
            Self::Load => "load",
        }
    }
}

/// Safety devices that a person may take out, to see what they are there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Without {
    /// The edge gives up at the first failed attempt.
    pub(crate) retries: bool,
    /// Epochs are not enforced: a deposed primary goes on.
    pub(crate) fencing: bool,
    /// A primary acknowledges before any replica has the write.
    pub(crate) semi_sync: bool,
    /// Reads go to any copy, however far behind.
    pub(crate) lsn_routing: bool,
    /// An old session key goes when a new one comes.
    pub(crate) grace: bool,
}

impl Without {
    /// Every device by the name that the command line knows.
    fn devices(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("retries", &mut self.retries),
            ("fencing", &mut self.fencing),
            ("semi-sync", &mut self.semi_sync),
            ("lsn-routing", &mut self.lsn_routing),
            ("grace", &mut self.grace),
        ]
    }

    /// Takes a device out; the refusal says which there are.
    pub(crate) fn take_out(&mut self, device: &str) -> Result<(), &'static str> {
        for (name, out) in self.devices() {
            if name == device {
                *out = true;
                return Ok(());
            }
        }
        Err("--without knows retries, fencing, semi-sync, lsn-routing and grace")
    }

    /// The names of those that are out.
    pub(crate) fn names(mut self) -> Vec<&'static str> {
        let devices = self.devices();
        let out = devices.into_iter().filter(|(_, out)| **out);
        out.map(|(name, _)| name).collect()
    }
}

/// Keys that all processes of one run share.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// 32 bytes in hex: hides which sessions the feed of ended ones speaks of.
    pub(crate) token_key: String,
    /// What one process shows another; a web page on this machine cannot know it.
    pub(crate) peer: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// The first line that a child reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeConfig {
    /// Unique in the run and stable over restarts, such as `web-1` or `store-0b`.
    pub(crate) id: String,
    /// The part to play.
    pub(crate) role: Role,
    /// Where to listen; the next ports are tried when it is taken.
    pub(crate) listen: SocketAddr,
    /// This node's own folder, kept over restarts.
    pub(crate) dir: PathBuf,
    /// The object store: a folder that web servers and workers share.
    pub(crate) objects: PathBuf,
    /// For a store, the shard that it is a copy of.
    pub(crate) shard: Option<u16>,
    /// Keys of this run.
    pub(crate) secrets: Secrets,
    /// The file of the keys that session tokens are made with.
    pub(crate) session_keys: PathBuf,
    /// Safety devices taken out.
    pub(crate) without: Without,
    /// Milliseconds by which every replica applies late.
    pub(crate) lag_ms: u64,
    /// For the load role: arrivals a second.
    pub(crate) rps: u32,
    /// Seed for everything random.
    pub(crate) seed: u64,
    /// Where everybody is, as of the start.
    pub(crate) topology: Topology,
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Takes work. Whether it is alive is for its callers to find out.
    Live,
    /// Finishes what it has and takes nothing new.
    Draining,
}

/// One process as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) addr: SocketAddr,
    pub(crate) shard: Option<u16>,
    pub(crate) state: NodeState,
}

/// Everybody's address. It says who should be there, not who is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topology {
    /// Grows with every change.
    pub(crate) version: u64,
    pub(crate) nodes: Vec<NodeInfo>,
}

impl Topology {
    /// The nodes of one role, in the order of their ids.
    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// The copies of one shard.
    pub(crate) fn copies(&self, shard: u16) -> impl Iterator<Item = &NodeInfo> {
        self.of(Role::Store)
            .filter(move |node| node.shard == Some(shard))
    }

    /// How many shards there are.
    pub(crate) fn shard_count(&self) -> u16 {
        self.of(Role::Store)
            .filter_map(|node| node.shard)
            .max()
            .map_or(0, |last| last.saturating_add(1))
    }
}

/// A later line that a child reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToNode {
    /// Somebody joined, left, moved or drains.
    Topology(Topology),
    /// Take no new work, finish what there is, stay up.
    Drain,
    /// Finish what there is and exit.
    Stop,
}

/// A line that a child writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromNode {
    /// It listens and can serve.
    Ready { addr: SocketAddr },
    /// Something that a person who watches would want to know.
    Event { text: String },
    /// The load role's figures for one interval.
    Load(serde_json::Value),
}
