//! The client of the store nodes: writes go to the primary, reads to a copy that is far enough.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use parking_lot::Mutex;
use stackbeam_replica_pool::{Evidence, MemberId, Need, Rotate, Route, View, ViewConfig};
use tokio::sync::{Notify, watch};

use super::{Answered, ShardsError};
use crate::app::store::{Read, ReadReply, Write, WriteReply};
use crate::node::NodeContext;
use crate::node::config::{Topology, Without};
use crate::node::peer::{PeerClient, PeerError};
use crate::node::store::state::Command;
use crate::node::store::wire::{
    ReadAnswer, ReadQuestion, Refused, WriteAnswer, addr_of, member_of,
};

/// How long a command or query is tried before the caller hears that the shard does not answer. A
/// failover takes less.
const TRY_MAX: Duration = Duration::from_secs(6);
/// One attempt at a command: longer than a primary waits for its majority.
const WRITE_PATIENCE: Duration = Duration::from_millis(2_500);
/// One attempt at a query, besides the time that the copy may wait for the position.
const READ_PATIENCE: Duration = Duration::from_millis(1_000);
/// How long a copy waits for a position when another one might have it.
const READ_WAIT_MS: u64 = 20;
/// How long the nearest copy waits when no other will do.
const READ_WAIT_LAST_MS: u64 = 1_000;
/// The pause before looking again for somebody who answers.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Time between two rounds of probes; without a primary a round follows at once.
const PROBE_EVERY: Duration = Duration::from_millis(250);
const PROBE_EVERY_HEADLESS: Duration = Duration::from_millis(40);
const PROBE_PATIENCE: Duration = Duration::from_millis(400);

/// All shards of the run.
#[derive(Debug)]
pub(crate) struct Cluster {
    shards: Vec<Shard>,
    peers: PeerClient,
    topology: watch::Receiver<Arc<Topology>>,
    without: Without,
    /// Somebody found out that what is believed is wrong.
    doubt: Notify,
}

#[derive(Debug)]
struct Shard {
    number: u16,
    members: Vec<MemberId>,
    view: Mutex<View>,
    rotate: Mutex<Rotate>,
}

#[expect(clippy::disallowed_methods, reason = "the client is a shell")]
fn now() -> Instant {
    Instant::now()
}

impl Cluster {
    /// A client that keeps asking the copies of `context`'s topology how they are.
    pub(crate) fn start(context: &NodeContext) -> Arc<Self> {
        let topology = context.topology.borrow().clone();
        let without = context.config.without;
        let config = ViewConfig {
            fencing: !without.fencing,
            ..ViewConfig::default()
        };
        let shards = (0..topology.shard_count())
            .map(|number| {
                let members: Vec<_> = topology
                    .copies(number)
                    .filter_map(|node| member_of(&node.id))
                    .collect();
                Shard {
                    number,
                    view: Mutex::new(View::new(config, members.iter().copied())),
                    rotate: Mutex::default(),
                    members,
                }
            })
            .collect();
        let cluster = Arc::new(Self {
            shards,
            peers: context.peers.clone(),
            topology: context.topology.clone(),
            without,
            doubt: Notify::new(),
        });
        tokio::spawn(Arc::clone(&cluster).probe_for_ever());
        cluster
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    async fn probe_for_ever(self: Arc<Self>) {
        loop {
            join_all(self.shards.iter().map(|shard| self.probe(shard))).await;
            let headless = self
                .shards
                .iter()
                .any(|shard| shard.view.lock().primary().is_none());
            let pause = if headless {
                PROBE_EVERY_HEADLESS
            } else {
                PROBE_EVERY
            };
            let _which = tokio::time::timeout(pause, self.doubt.notified()).await;
        }
    }

    async fn probe(&self, shard: &Shard) {
        join_all(shard.members.iter().map(|member| async move {
            let evidence: Option<Evidence> = match self.addr(shard, *member) {
                Some(addr) => self.peers.get(addr, "/evidence", PROBE_PATIENCE).await.ok(),
                None => None,
            };
            let mut view = shard.view.lock();
            match evidence {
                Some(evidence) => view.observe(*member, evidence, now()),
                None => view.fail(*member, now()),
            }
        }))
        .await;
    }

    fn addr(&self, shard: &Shard, member: MemberId) -> Option<SocketAddr> {
        addr_of(&self.topology.borrow(), shard.number, member)
    }

    fn shard(&self, number: u16) -> Result<&Shard, ShardsError> {
        self.shards
            .get(usize::from(number))
            .ok_or_else(|| ShardsError {
                shard: number,
                reason: "there is no such shard".to_owned(),
            })
    }

    /// Writes to the primary, whoever that becomes meanwhile. The id makes a repetition harmless.
    pub(crate) async fn write(&self, shard: u16, id: u128, write: Write) -> Answered<WriteReply> {
        let shard = self.shard(shard)?;
        let command =
            serde_json::to_vec(&Command::new(id, write)).map_err(|error| ShardsError {
                shard: shard.number,
                reason: error.to_string(),
            })?;
        let command = bytes::Bytes::from(command);
        let give_up = now() + TRY_MAX;
        let mut last = "no copy says that it is the primary".to_owned();
        while now() < give_up {
            let primary = shard.view.lock().primary();
            let Some((member, addr)) =
                primary.and_then(|member| Some((member, self.addr(shard, member)?)))
            else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let answer = self
                .peers
                .call(
                    http::Method::POST,
                    addr,
                    "/write",
                    command.clone(),
                    WRITE_PATIENCE,
                )
                .await;
            match answer {
                Ok(body) => match serde_json::from_slice::<WriteAnswer>(&body) {
                    Ok(WriteAnswer { lsn, reply }) => return Ok((lsn, reply)),
                    Err(error) => last = error.to_string(),
                },
                Err(error) => {
                    match &error {
                        PeerError::Status { status, .. }
                            if *status == StatusCode::MISDIRECTED_REQUEST =>
                        {
                            shard.view.lock().deposed(member);
                        }
                        // A full disk is for a person to mend; the client hears of it at once.
                        PeerError::Status { status, .. }
                            if *status == StatusCode::INSUFFICIENT_STORAGE =>
                        {
                            return Err(failed(shard, &error));
                        }
                        PeerError::Status { status, .. }
                            if *status == StatusCode::GATEWAY_TIMEOUT => {}
                        _ => shard.view.lock().fail(member, now()),
                    }
                    self.doubt.notify_one();
                    last = error.to_string();
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
        Err(ShardsError {
            shard: shard.number,
            reason: last,
        })
    }

    /// Reads from a copy that has reached `min_lsn`: a replica if one has, else the primary, else
    /// whoever gets there in time.
    pub(crate) async fn read(&self, shard: u16, query: Read, min_lsn: u64) -> Answered<ReadReply> {
        let shard = self.shard(shard)?;
        let min_lsn = if self.without.lsn_routing { 0 } else { min_lsn };
        let give_up = now() + TRY_MAX;
        let mut need = Need {
            at_least: min_lsn,
            exclude: Vec::new(),
        };
        let mut question = ReadQuestion {
            query,
            min_lsn,
            wait_ms: 0,
        };
        let mut last = "no copy answers".to_owned();
        while now() < give_up {
            let route = {
                let mut rotate = shard.rotate.lock();
                shard.view.lock().read(&need, &mut *rotate, now())
            };
            let (member, wait_ms) = match route {
                Route::Serve(member) => (member, READ_WAIT_MS),
                Route::Wait(member) => (member, READ_WAIT_LAST_MS),
                _ => {
                    need.exclude.clear();
                    self.doubt.notify_one();
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
            };
            let Some(addr) = self.addr(shard, member) else {
                need.exclude.push(member);
                continue;
            };
            question.wait_ms = wait_ms;
            let patience = READ_PATIENCE + Duration::from_millis(wait_ms);
            match self
                .peers
                .post::<_, ReadAnswer>(addr, "/read", &question, patience)
                .await
            {
                Ok(ReadAnswer { lsn, reply }) => {
                    shard.view.lock().reached(member, lsn);
                    return Ok((lsn, reply));
                }
                Err(error) => {
                    match &error {
                        PeerError::Status { status, body, .. }
                            if *status == StatusCode::TOO_EARLY =>
                        {
                            if let Ok(refused) = serde_json::from_slice::<Refused>(body) {
                                shard.view.lock().reached(member, refused.applied);
                            }
                        }
                        _ => {
                            shard.view.lock().fail(member, now());
                            self.doubt.notify_one();
                        }
                    }
                    last = error.to_string();
                    need.exclude.push(member);
                }
            }
        }
        Err(ShardsError {
            shard: shard.number,
            reason: last,
        })
    }
}

fn failed(shard: &Shard, error: &PeerError) -> ShardsError {
    ShardsError {
        shard: shard.number,
        reason: error.to_string(),
    }
}
