//! Moving rows to the shards of a new map while they are read and written.
//!
//! [`Reshard`] is the order of the steps and what to do when one fails; a [`Mover`] does them against
//! real shards. [`Memory`] is both shards and mover in memory, to try it and to test with.
//!
//! The steps: empty the places where rows will go, note where each source's log ends, copy, follow the
//! log until little is missing, stop writes of the moving rows, follow to the very end, compare, put the
//! new map in force, remove what has moved. Writes of moving rows stand still only from the fence to the
//! switch, at most [`ReshardConfig::freeze_max`] if a step that hangs is dropped at
//! [`Reshard::next_deadline`]; reads never do. Before the switch every failure leads back to where it
//! began; from the switch on there is only forward.
//!
//! A fence has no end of its own: if the process that moves dies behind it, writes of the moving rows
//! stay refused until somebody calls [`Reshard::recover`] and goes on. Do so where the move was started,
//! or wherever its failure is seen.

mod memory;
mod mover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::key::ShardId;
use crate::map::ShardMap;

pub use memory::{Memory, MemoryError};
pub use mover::{Cursor, Mover, Moving, Tailed};

/// Bounds of a [`Reshard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct ReshardConfig {
    /// Writes stop only once a source has no more than so many changes left to follow. Defaults to 100.
    pub behind_max: u64,
    /// How often a source's log is followed before writes are said to be faster than the move, which
    /// then goes back. Defaults to 1000.
    pub rounds_max: u32,
    /// How long the moving rows may stand still; then the move goes back. Defaults to 2 s.
    pub freeze_max: Duration,
}

impl Default for ReshardConfig {
    fn default() -> Self {
        Self {
            behind_max: 100,
            rounds_max: 1_000,
            freeze_max: Duration::from_secs(2),
        }
    }
}

/// A move that cannot be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The new map is not newer.
    #[error("the new map has version {after}, the one in force {before}: it must be higher")]
    #[non_exhaustive]
    NotNewer {
        /// The version in force.
        before: u64,
        /// The version of the new map.
        after: u64,
    },
}

/// Why a move went back. All is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// A step failed; [`Reshard::step`] has given its error.
    Failed,
    /// The rows differed although nothing was written. The mover, or a shard, has a mistake.
    Differed,
    /// The log of a source grew faster than it was followed.
    TooFast,
    /// Writes would have stood still for too long.
    FrozenTooLong,
    /// It was found half done: see [`Reshard::recover`].
    Recovered,
    /// [`Reshard::abort`] was called.
    Aborted,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// There is more to do.
    Going,
    /// The new map is in force and what has moved is removed.
    Done,
    /// The old map is in force, and nothing is left of the move.
    RolledBack(Why),
}

/// What a move has done. `steps >= copies + tails`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReshardStats {
    /// Steps that succeeded.
    pub steps: u64,
    /// Chunks copied.
    pub copies: u64,
    /// Times that a log was followed.
    pub tails: u64,
    /// How long the moving rows stood still, from the fence to the switch or to the way back.
    pub frozen: Duration,
}

/// A step, and at which source or target it is. In this order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Empty(usize),
    Mark(usize),
    Copy(usize, Option<Cursor>),
    CatchUp(usize, u32),
    Fence(usize),
    Drain(usize),
    Verify(usize),
    Switch,
    Clean(usize),
    Lower(usize),
    Done,
    LowerBack(usize, Why),
    EmptyBack(usize, Why),
    RolledBack(Why),
}

/// A move from the map in force to a newer one, step by step.
///
/// It remembers nothing durably and needs not to: what decides is whether the new map is in force.
/// After a crash, [`Reshard::recover`] goes on from that alone.
#[derive(Debug)]
pub struct Reshard {
    moving: Moving,
    config: ReshardConfig,
    phase: Phase,
    /// Every shard of the old map: rows may leave it.
    sources: Vec<Source>,
    /// Every shard of the new map: rows may come.
    targets: Vec<ShardId>,
    fenced_at: Option<Instant>,
    /// Whether the switch was tried: then it may be in force whatever came back.
    switch_tried: bool,
    stats: ReshardStats,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    shard: ShardId,
    /// Followed up to here.
    position: u64,
    /// The end of its log once it is fenced.
    end: u64,
}

impl Reshard {
    /// A move from `before`, which must be the map in force, to `after`.
    ///
    /// # Errors
    ///
    /// [`PlanError::NotNewer`] unless `after` has the higher version.
    pub fn new(
        before: Arc<ShardMap>,
        after: Arc<ShardMap>,
        config: ReshardConfig,
    ) -> Result<Self, PlanError> {
        if after.version() <= before.version() {
            return Err(PlanError::NotNewer {
                before: before.version(),
                after: after.version(),
            });
        }
        Ok(Self::at(Phase::Empty(0), before, after, config))
    }

    fn at(
        phase: Phase,
        before: Arc<ShardMap>,
        after: Arc<ShardMap>,
        config: ReshardConfig,
    ) -> Self {
        let sources = before.shards().iter().map(|shard| Source {
            shard: *shard,
            position: 0,
            end: 0,
        });
        Self {
            sources: sources.collect(),
            targets: after.shards().to_vec(),
            moving: Moving::new(before, after),
            config,
            phase,
            fenced_at: None,
            switch_tried: false,
            stats: ReshardStats::default(),
        }
    }

    /// A move that was under way when its process died. `switched` says whether `after` is durably in
    /// force: then what is left is finished, else all goes back ([`Why::Recovered`]).
    ///
    /// It must be the last word: if a switch that the dead process has sent can still arrive, the new
    /// map would be in force without its rows. So put a map with a version above that of `after` and
    /// the partition of `before` in force first, and pass that as `before`; or be sure otherwise.
    #[must_use]
    pub fn recover(
        before: Arc<ShardMap>,
        after: Arc<ShardMap>,
        switched: bool,
        config: ReshardConfig,
    ) -> Self {
        let phase = if switched {
            Phase::Clean(0)
        } else {
            Phase::LowerBack(0, Why::Recovered)
        };
        let mut reshard = Self::at(phase, before, after, config);
        reshard.switch_tried = switched;
        reshard
    }

    /// Which rows move.
    #[must_use]
    pub const fn moving(&self) -> &Moving {
        &self.moving
    }

    /// What it has done so far.
    #[must_use]
    pub const fn stats(&self) -> ReshardStats {
        self.stats
    }

    /// When the moving rows will have stood still for as long as they may. A step that is not done by
    /// then is best dropped; the next one goes back.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.fenced_at?.checked_add(self.config.freeze_max)
    }

    /// Goes back, if the switch was not tried yet. True if it does or has done so.
    pub fn abort(&mut self, now: Instant) -> bool {
        self.go_back(Why::Aborted, now)
    }

    /// Does the next step. Call it until it says [`Progress::Done`] or [`Progress::RolledBack`].
    ///
    /// # Errors
    ///
    /// The mover's error. If the switch was not tried yet, the move goes back with the next steps. If
    /// it was, or if the error came on the way back, the same step is tried again with the next call:
    /// the error is for somebody to look at, rows are safe meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the step may have happened or not; it is done again with the next call.
    pub async fn step<M: Mover>(
        &mut self,
        mover: &mut M,
        now: Instant,
    ) -> Result<Progress, M::Error> {
        let late = self.next_deadline().is_some_and(|end| end <= now);
        if late {
            self.go_back(Why::FrozenTooLong, now);
        }
        // Set before the answer is there: it may never come.
        self.switch_tried |= self.phase == Phase::Switch;
        if matches!(self.phase, Phase::Fence(_)) {
            // Before it is up: a fence whose answer was lost stands all the same.
            self.fenced_at.get_or_insert(now);
        }
        match self.act(mover).await {
            Ok(Next::Go(phase)) => {
                self.stats.steps += 1;
                if phase == Phase::Clean(0) {
                    self.thawed(now);
                }
                self.tell(&phase);
                self.phase = phase;
            }
            Ok(Next::Back(why)) => {
                self.go_back(why, now);
            }
            Err(error) => {
                self.go_back(Why::Failed, now);
                return Err(error);
            }
        }
        Ok(match self.phase {
            Phase::Done => Progress::Done,
            Phase::RolledBack(why) => Progress::RolledBack(why),
            _ => Progress::Going,
        })
    }

    fn go_back(&mut self, why: Why, now: Instant) -> bool {
        match self.phase {
            Phase::LowerBack(..) | Phase::EmptyBack(..) | Phase::RolledBack(_) => true,
            _ if self.switch_tried => false,
            _ => {
                self.thawed(now);
                let back = Phase::LowerBack(0, why);
                self.tell(&back);
                self.phase = back;
                true
            }
        }
    }

    /// What an operator would look for in the log, when a phase begins.
    #[cfg_attr(
        not(feature = "tracing"),
        expect(clippy::unused_self, reason = "without events there is nothing to say")
    )]
    fn tell(&self, _next: &Phase) {
        #[cfg(feature = "tracing")]
        {
            let version = self.moving.after().version();
            match _next {
                Phase::Copy(0, None) => tracing::info!(version, "rows are being copied"),
                Phase::Fence(0) => tracing::info!(version, "writes of moving rows stop"),
                Phase::Clean(0) => {
                    let frozen = self.stats.frozen;
                    tracing::info!(version, ?frozen, "the new shard map is in force");
                }
                Phase::LowerBack(0, why) => tracing::warn!(version, ?why, "the move goes back"),
                Phase::Done => tracing::info!(version, "rows have moved"),
                Phase::RolledBack(why) => tracing::warn!(version, ?why, "all is as it was"),
                _ => {}
            }
        }
    }

    fn thawed(&mut self, now: Instant) {
        if let Some(since) = self.fenced_at.take() {
            self.stats.frozen = now.saturating_duration_since(since);
        }
    }

    /// Does what the phase says, and says what comes next.
    async fn act<M: Mover>(&mut self, mover: &mut M) -> Result<Next, M::Error> {
        let moving = &self.moving.clone();
        let next = match self.phase.clone() {
            Phase::Empty(index) => match self.targets.get(index).copied() {
                Some(shard) => {
                    mover.purge(shard, moving.before()).await?;
                    Phase::Empty(index + 1)
                }
                None => Phase::Mark(0),
            },
            Phase::Mark(index) => match self.sources.get(index).copied() {
                Some(source) => {
                    let marked = mover.tail(moving, source.shard, None).await?;
                    self.sources[index].position = marked.position;
                    Phase::Mark(index + 1)
                }
                None => Phase::Copy(0, None),
            },
            Phase::Copy(index, cursor) => match self.sources.get(index).copied() {
                Some(source) => {
                    let next = mover.copy(moving, source.shard, cursor).await?;
                    self.stats.copies += 1;
                    match next {
                        Some(cursor) => Phase::Copy(index, Some(cursor)),
                        None => Phase::Copy(index + 1, None),
                    }
                }
                None => Phase::CatchUp(0, 0),
            },
            Phase::CatchUp(index, rounds) => match self.sources.get(index).copied() {
                Some(source) => {
                    if rounds >= self.config.rounds_max {
                        return Ok(Next::Back(Why::TooFast));
                    }
                    let behind = self.follow(mover, index, source).await?;
                    if behind > self.config.behind_max {
                        Phase::CatchUp(index, rounds + 1)
                    } else {
                        Phase::CatchUp(index + 1, 0)
                    }
                }
                None => Phase::Fence(0),
            },
            Phase::Fence(index) => match self.sources.get(index).copied() {
                Some(source) => {
                    self.sources[index].end = mover.fence(moving, source.shard, true).await?;
                    Phase::Fence(index + 1)
                }
                None => Phase::Drain(0),
            },
            Phase::Drain(index) => match self.sources.get(index).copied() {
                Some(source) if source.position < source.end => {
                    self.follow(mover, index, source).await?;
                    Phase::Drain(index)
                }
                Some(_) => Phase::Drain(index + 1),
                None => Phase::Verify(0),
            },
            Phase::Verify(index) => match self.sources.get(index).copied() {
                Some(source) => {
                    if !mover.verify(moving, source.shard).await? {
                        return Ok(Next::Back(Why::Differed));
                    }
                    Phase::Verify(index + 1)
                }
                None => Phase::Switch,
            },
            Phase::Switch => {
                mover.switch(moving).await?;
                Phase::Clean(0)
            }
            Phase::Clean(index) => match self.sources.get(index).copied() {
                Some(source) => {
                    mover.purge(source.shard, moving.after()).await?;
                    Phase::Clean(index + 1)
                }
                None => Phase::Lower(0),
            },
            Phase::Lower(index) => match self.sources.get(index).copied() {
                Some(source) => {
                    mover.fence(moving, source.shard, false).await?;
                    Phase::Lower(index + 1)
                }
                None => Phase::Done,
            },
            Phase::LowerBack(index, why) => match self.sources.get(index).copied() {
                Some(source) => {
                    mover.fence(moving, source.shard, false).await?;
                    Phase::LowerBack(index + 1, why)
                }
                None => Phase::EmptyBack(0, why),
            },
            Phase::EmptyBack(index, why) => match self.targets.get(index).copied() {
                Some(shard) => {
                    mover.purge(shard, moving.before()).await?;
                    Phase::EmptyBack(index + 1, why)
                }
                None => Phase::RolledBack(why),
            },
            ended @ (Phase::Done | Phase::RolledBack(_)) => ended,
        };
        Ok(Next::Go(next))
    }

    /// Follows a source's log once; how many changes are left.
    async fn follow<M: Mover>(
        &mut self,
        mover: &mut M,
        index: usize,
        source: Source,
    ) -> Result<u64, M::Error> {
        let tailed = mover
            .tail(&self.moving, source.shard, Some(source.position))
            .await?;
        self.stats.tails += 1;
        // Never backwards, whatever a mover says.
        self.sources[index].position = tailed.position.max(source.position);
        Ok(tailed.behind)
    }
}

enum Next {
    Go(Phase),
    Back(Why),
}
