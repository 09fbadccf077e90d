//! One copy: a log of commands, and the state that the committed ones made.

mod snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction};

use self::snapshot::empty;
use super::log::Log;
use super::message::{Entry, Pull, Shipment};
use crate::evidence::{Epoch, Evidence, Lsn, MemberId, Role};
use crate::failover::Action;

/// The application: what a command does to the state.
///
/// Implementors keep this true: the same command on the same state has the same effect and the same
/// answer in every process and at every time. So no clock, chance or connection may be consulted;
/// what depends on them belongs into the command.
pub trait Apply: Send + 'static {
    /// What a command answers.
    type Answer: Send + 'static;

    /// Creates the tables. Called at every open and after a snapshot; must do nothing the second time.
    ///
    /// # Errors
    /// What SQLite says; the copy then does not open.
    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()>;

    /// Applies one command. A command that is refused is an answer and not an error.
    ///
    /// # Errors
    /// Only when the database itself fails: the copy then serves nothing more.
    fn apply(
        &mut self,
        tx: &Transaction<'_>,
        lsn: Lsn,
        command: &[u8],
    ) -> rusqlite::Result<Self::Answer>;
}

/// How a [`struct@Copy`] is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..CopyOptions::new()`"
)]
pub struct CopyOptions {
    /// Which of the copies this is.
    pub me: MemberId,
    /// How many copies there are; a majority of them makes a record committed.
    pub copies: usize,
    /// How many applied records are kept for replicas that come back. One that is further behind gets
    /// a snapshot. Defaults to 20 000.
    pub kept: u64,
    /// Whether epochs count. Off is only to show what they are there for. Defaults to on.
    pub fencing: bool,
    /// Whether a record needs a majority to be committed. Off commits what the primary alone has,
    /// and loses it with the primary. Defaults to on.
    pub majority: bool,
}

impl CopyOptions {
    /// The defaults for copy `me` of `copies`.
    #[must_use]
    pub const fn new(me: MemberId, copies: usize) -> Self {
        Self {
            me,
            copies,
            kept: 20_000,
            fencing: true,
            majority: true,
        }
    }
}

/// Why a copy did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Ask the primary instead.
    #[error("this copy is not the primary")]
    NotPrimary {
        /// Whom it follows.
        primary: Option<MemberId>,
    },
    /// The disk is full; nothing was written. Make room and try again.
    #[error("{what}: the disk is full; make room and try again")]
    Full {
        /// What was to be written.
        what: &'static str,
    },
    /// SQLite failed. What is on disk is not known any more: the copy serves nothing until it is
    /// opened again.
    #[error("{what}: {source}; open the copy again")]
    Broken {
        /// What was being done.
        what: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// An earlier failure has made this copy unusable.
    #[error("this copy failed earlier; open it again")]
    Unusable,
    /// A folder or a snapshot file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What a replica should do after a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// Ask for more.
    Pull,
    /// Fetch a snapshot from the primary.
    Snapshot,
    /// Wait a little: whoever answered is no primary for this copy.
    Wait,
}

/// The part that this copy plays in this life. A restart makes it a replica without a primary.
#[derive(Debug)]
enum Part {
    Primary {
        epoch: Epoch,
        /// The record that opened the reign: nothing is committed in it before this one is.
        begin: Lsn,
        receipts: BTreeMap<MemberId, Lsn>,
    },
    Replica {
        following: Option<MemberId>,
    },
}

/// One copy of a replicated SQLite database.
///
/// Commands enter the log at the primary, travel to replicas as they are, and change the state once a
/// majority has them on disk (Raft's log replication, Ongaro and Ousterhout 2014, section 5.3, with the
/// election left to [`Failover`](crate::Failover)). The log is the outbox: it is written before anything
/// depends on it, and followers read from it.
///
/// All methods block on the disk. Nothing here knows a clock or a network.
#[derive(Debug)]
pub struct Copy<A> {
    options: CopyOptions,
    dir: PathBuf,
    log: Log,
    state: Connection,
    app: A,
    part: Part,
    applied: Lsn,
    committed: Lsn,
    trimmed: Lsn,
    usable: bool,
}

type Result<T> = std::result::Result<T, CopyError>;

/// Records that are applied in one transaction, at most.
const APPLY_MAX: usize = 512;

fn broken(what: &'static str) -> impl FnOnce(rusqlite::Error) -> CopyError {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => CopyError::Full { what },
        _ => CopyError::Broken { what, source },
    }
}

impl<A: Apply> Copy<A> {
    /// Opens the copy in `dir`, which is made if it is not there. A state that does not fit its log, as
    /// after a crash in the middle of installing a snapshot, starts blank and without a vote.
    ///
    /// # Errors
    /// [`CopyError::File`] or [`CopyError::Broken`] when the files cannot be used.
    pub fn open(dir: &Path, options: CopyOptions, mut app: A) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| CopyError::File {
            path: dir.to_owned(),
            source,
        })?;
        let mut log = Log::open(&dir.join("log.db")).map_err(broken("opening the log"))?;
        let opening = || broken("opening the state");
        let mut state = open_state(dir).map_err(opening())?;
        let mut applied = applied(&state).map_err(opening())?;
        if applied < log.head().base.0 || applied > log.head().last.0 {
            empty(&mut state).map_err(opening())?;
            applied = 0;
            log.restart_at((0, 0), |head| head.voter = false)
                .map_err(broken("starting the log anew"))?;
        }
        app.migrate(&state).map_err(opening())?;
        Ok(Self {
            options,
            dir: dir.to_owned(),
            trimmed: log.head().base.0,
            log,
            state,
            app,
            part: Part::Replica { following: None },
            applied,
            // A record counts as applied only once it was committed.
            committed: applied,
            usable: true,
        })
    }

    /// What the copy says about itself. `age` is left at zero: it is the shell's to know.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let head = self.log.head();
        let (role, following) = match &self.part {
            Part::Primary { .. } => (Role::Primary, None),
            Part::Replica { following } => (Role::Replica, *following),
        };
        let mut evidence =
            Evidence::new(role, head.promised).with_positions(head.last.0, self.applied);
        evidence.claimant = head.claimant;
        evidence.last_epoch = head.last.1;
        evidence.committed = self.committed;
        evidence.following = following;
        evidence.voter = head.voter;
        evidence
    }

    /// Whether it takes writes.
    #[must_use]
    pub const fn is_primary(&self) -> bool {
        matches!(self.part, Part::Primary { .. })
    }

    /// The last record that the state contains.
    #[must_use]
    pub const fn applied(&self) -> Lsn {
        self.applied
    }

    /// The last record that is known to be on a majority.
    #[must_use]
    pub const fn committed(&self) -> Lsn {
        self.committed
    }

    /// Carries out an order of a coordinator. Promises are durable on return; an order that comes too
    /// late changes nothing, which the evidence shows.
    ///
    /// # Errors
    /// [`CopyError::Broken`], [`CopyError::Full`] and [`CopyError::Unusable`].
    pub fn perform(&mut self, action: &Action) -> Result<Evidence> {
        match *action {
            Action::Probe { .. } => {}
            Action::Fence {
                epoch, claimant, ..
            } => self.promise(epoch, claimant)?,
            Action::Promote {
                epoch, claimant, ..
            } => self.promote(epoch, claimant)?,
            Action::Follow { epoch, primary, .. } => self.follow(epoch, primary)?,
        }
        Ok(self.evidence())
    }

    fn promise(&mut self, epoch: Epoch, claimant: u64) -> Result<()> {
        if self.options.fencing && epoch > self.log.head().promised {
            self.change("promising an epoch", |log| {
                log.set(|head| (head.promised, head.claimant) = (epoch, claimant))
            })?;
            self.part = Part::Replica { following: None };
        }
        Ok(())
    }

    fn promote(&mut self, epoch: Epoch, claimant: u64) -> Result<()> {
        let head = *self.log.head();
        let promised = (head.promised, head.claimant) == (epoch, claimant);
        if self.is_primary() || (self.options.fencing && !promised) {
            return Ok(());
        }
        let begin = head.last.0 + 1;
        let opening = Entry {
            lsn: begin,
            epoch,
            body: None,
        };
        self.change("opening a reign", |log| {
            log.append(&[opening], |head| {
                head.promised = epoch;
                head.voter = true;
            })
        })?;
        self.part = Part::Primary {
            epoch,
            begin,
            receipts: BTreeMap::new(),
        };
        self.count();
        Ok(())
    }

    fn follow(&mut self, epoch: Epoch, primary: MemberId) -> Result<()> {
        let promised = self.log.head().promised;
        if self.options.fencing && epoch < promised {
            return Ok(());
        }
        if epoch > promised {
            self.change("promising an epoch", |log| {
                log.set(|head| (head.promised, head.claimant) = (epoch, 0))
            })?;
        }
        // A reigning primary is never turned round within its own epoch.
        let reigns = self.options.fencing
            && matches!(&self.part, Part::Primary { epoch: mine, .. } if *mine >= epoch);
        if !reigns && primary != self.options.me {
            self.part = Part::Replica {
                following: Some(primary),
            };
        }
        Ok(())
    }

    /// As the primary: puts commands into the log, with one sync for all, and returns the number of the
    /// first. They are on this disk then, and committed when [`committed`](Self::committed) says so.
    ///
    /// # Errors
    /// [`CopyError::NotPrimary`]; [`CopyError::Full`] with nothing written; [`CopyError::Broken`].
    pub fn append(&mut self, commands: Vec<Vec<u8>>) -> Result<Lsn> {
        let epoch = match &self.part {
            Part::Primary { epoch, .. } => *epoch,
            Part::Replica { following } => {
                return Err(CopyError::NotPrimary {
                    primary: *following,
                });
            }
        };
        let first = self.log.head().last.0 + 1;
        let entries: Vec<Entry> = (first..)
            .zip(commands)
            .map(|(lsn, body)| Entry {
                lsn,
                epoch,
                body: Some(body),
            })
            .collect();
        self.change("writing commands", |log| log.append(&entries, |_| {}))?;
        self.count();
        Ok(first)
    }

    /// What to ask the primary next, and whom. `None` while there is nobody to follow.
    #[must_use]
    pub fn pull(&self) -> Option<(MemberId, Pull)> {
        let Part::Replica {
            following: Some(primary),
        } = self.part
        else {
            return None;
        };
        let head = self.log.head();
        Some((
            primary,
            Pull {
                from: self.options.me,
                promised: head.promised,
                last: head.last.0,
                last_epoch: head.last.1,
                committed: self.committed,
            },
        ))
    }

    /// Answers a replica, whose question says what it has on disk: that may commit records.
    ///
    /// # Errors
    /// [`CopyError::Broken`] and [`CopyError::Unusable`].
    pub fn ship(&mut self, pull: &Pull) -> Result<Shipment> {
        self.check()?;
        let head = *self.log.head();
        let fencing = self.options.fencing;
        let Part::Primary {
            epoch, receipts, ..
        } = &mut self.part
        else {
            return Ok(Shipment::NotPrimary);
        };
        let epoch = *epoch;
        if fencing && pull.promised > epoch {
            // Somebody reigns, or is about to, in a later epoch.
            self.part = Part::Replica { following: None };
            return Ok(Shipment::NotPrimary);
        }
        let reading = || broken("reading the log");
        let asked = pull.last;
        if asked < head.base.0 {
            return Ok(Shipment::TooOld { epoch, asked });
        }
        let mine = if asked <= head.last.0 {
            self.log.epoch_of(asked).map_err(reading())?
        } else {
            None
        };
        if mine != Some(pull.last_epoch) {
            let keep = self
                .log
                .last_within(asked.saturating_sub(1), pull.last_epoch)
                .map_err(reading())?;
            let shipment = if keep >= asked {
                Shipment::TooOld { epoch, asked }
            } else {
                Shipment::Diverged { epoch, asked, keep }
            };
            return Ok(shipment);
        }
        // A receipt counts only from a copy that can no longer promise an epoch before this one.
        if !fencing || pull.promised == epoch {
            receipts.insert(pull.from, asked);
            self.count();
        }
        let entries = self.log.after(asked, head.last.0).map_err(reading())?;
        Ok(Shipment::Entries {
            epoch,
            after: asked,
            entries,
            end: head.last.0,
            committed: self.committed,
        })
    }

    /// Takes what the primary answered to `pull`. What it brought is on disk on return.
    ///
    /// # Errors
    /// [`CopyError::Full`], [`CopyError::Broken`] and [`CopyError::Unusable`].
    pub fn receive(&mut self, pull: &Pull, shipment: Shipment) -> Result<Next> {
        let head = *self.log.head();
        let epoch = match &shipment {
            Shipment::Entries { epoch, .. }
            | Shipment::Diverged { epoch, .. }
            | Shipment::TooOld { epoch, .. } => *epoch,
            Shipment::NotPrimary => return Ok(Next::Wait),
        };
        // An answer to a question that this copy would no longer ask says nothing.
        let current = self.is_following() && (pull.last, pull.last_epoch) == head.last;
        if !current || (self.options.fencing && epoch < head.promised) {
            return Ok(Next::Wait);
        }
        if epoch > head.promised {
            self.change("promising an epoch", |log| {
                log.set(|head| (head.promised, head.claimant) = (epoch, 0))
            })?;
        }
        match shipment {
            Shipment::Entries {
                after,
                entries,
                end,
                committed,
                ..
            } => {
                let follows = after == head.last.0
                    && entries
                        .iter()
                        .zip(after + 1..)
                        .all(|(entry, lsn)| entry.lsn == lsn);
                if !follows {
                    return Ok(Next::Wait);
                }
                let last = entries.last().map_or(after, |entry| entry.lsn);
                // Whatever this copy may have acknowledged to this primary before it lost its disk is
                // not beyond the primary's end.
                let caught_up = last >= end;
                if !entries.is_empty() || (caught_up && !head.voter) {
                    self.change("storing records", |log| {
                        log.append(&entries, |head| head.voter |= caught_up)
                    })?;
                }
                self.committed = self.committed.max(committed.min(last));
                Ok(Next::Pull)
            }
            Shipment::Diverged { asked, keep, .. } if asked == head.last.0 && keep < asked => {
                if keep < self.applied || keep < head.base.0 {
                    // The state has what the primary never had: it cannot be undone, only replaced.
                    return Ok(Next::Snapshot);
                }
                self.change("cutting off records", |log| log.cut(keep))?;
                self.committed = self.committed.min(keep);
                Ok(Next::Pull)
            }
            Shipment::TooOld { asked, .. } if asked == head.last.0 => Ok(Next::Snapshot),
            _ => Ok(Next::Wait),
        }
    }

    /// Applies committed records up to `until`, in one transaction, and returns their answers. Call it
    /// until it returns nothing.
    ///
    /// # Errors
    /// [`CopyError::Full`], [`CopyError::Broken`] and [`CopyError::Unusable`].
    pub fn apply(&mut self, until: Lsn) -> Result<Vec<(Lsn, A::Answer)>> {
        self.check()?;
        let until = until.min(self.committed);
        if until <= self.applied {
            return Ok(Vec::new());
        }
        let applying = || broken("applying records");
        let mut entries = self
            .log
            .after(self.applied, until)
            .map_err(broken("reading the log"))?;
        entries.truncate(APPLY_MAX);
        let done = (|| {
            let tx = self.state.transaction()?;
            let mut answers = Vec::with_capacity(entries.len());
            for entry in &entries {
                if let Some(body) = &entry.body {
                    answers.push((entry.lsn, self.app.apply(&tx, entry.lsn, body)?));
                }
            }
            let last = entries.last().map_or(self.applied, |entry| entry.lsn);
            tx.prepare_cached("UPDATE stackbeam_copy SET applied = ?")?
                .execute([last])?;
            tx.commit()?;
            Ok((last, answers))
        })();
        let (last, answers) = match done {
            Ok(done) => done,
            Err(error) => return Err(self.failed(applying()(error))),
        };
        self.applied = last;
        self.trim()?;
        // A batch without commands has no answers, but there may be more behind it.
        if answers.is_empty() && self.applied < until {
            return self.apply(until);
        }
        Ok(answers)
    }

    /// Which of the copies this is.
    #[must_use]
    pub const fn me(&self) -> MemberId {
        self.options.me
    }

    /// False after a failure of the disk: the copy must be opened again.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.usable
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn is_following(&self) -> bool {
        matches!(self.part, Part::Replica { following: Some(_) })
    }

    /// Counts receipts: what a majority has is committed, if it belongs to this reign.
    fn count(&mut self) {
        let Part::Primary {
            begin, receipts, ..
        } = &self.part
        else {
            return;
        };
        let last = self.log.head().last.0;
        let mut have: Vec<Lsn> = receipts.values().copied().chain([last]).collect();
        have.sort_unstable_by(|left, right| right.cmp(left));
        let needed = if self.options.majority {
            self.options.copies / 2
        } else {
            0
        };
        if let Some(on_majority) = have.get(needed)
            && on_majority >= begin
        {
            self.committed = self.committed.max(*on_majority);
        }
    }

    /// Forgets records that are long applied, once the state has them on disk.
    fn trim(&mut self) -> Result<()> {
        let kept = self.options.kept;
        if self.applied < self.trimmed.saturating_add(2 * kept) {
            return Ok(());
        }
        // Syncs the state: what is trimmed must not come back by a power cut.
        let trimming = || broken("trimming the log");
        let busy: i64 = self
            .state
            .query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get(0))
            .map_err(trimming())?;
        if busy == 0 {
            let lsn = self.applied - kept;
            self.change("trimming the log", |log| log.trim(lsn))?;
            self.trimmed = lsn;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.usable {
            Ok(())
        } else {
            Err(CopyError::Unusable)
        }
    }

    /// Changes the log. After a failed write nobody knows what is on disk, so the copy gives up.
    fn change(
        &mut self,
        what: &'static str,
        run: impl FnOnce(&mut Log) -> rusqlite::Result<()>,
    ) -> Result<()> {
        self.check()?;
        run(&mut self.log).map_err(|error| self.failed(broken(what)(error)))
    }

    fn failed(&mut self, error: CopyError) -> CopyError {
        if !matches!(error, CopyError::Full { .. }) {
            self.usable = false;
            self.part = Part::Replica { following: None };
        }
        error
    }
}

pub(super) fn state_path(dir: &Path) -> PathBuf {
    dir.join("state.db")
}

fn open_state(dir: &Path) -> rusqlite::Result<Connection> {
    let state = Connection::open(state_path(dir))?;
    // NORMAL: a power cut may take the newest transactions, which the log then brings back.
    state.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
    prepare(&state)?;
    Ok(state)
}

fn prepare(state: &Connection) -> rusqlite::Result<()> {
    state.execute_batch(
        "CREATE TABLE IF NOT EXISTS stackbeam_copy (
           only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), applied INTEGER NOT NULL);
         INSERT INTO stackbeam_copy VALUES (1, 0) ON CONFLICT DO NOTHING;",
    )
}

/// The last record that a state contains, as it says itself.
pub(super) fn applied(state: &Connection) -> rusqlite::Result<Lsn> {
    state
        .prepare_cached("SELECT applied FROM stackbeam_copy")?
        .query_row([], |row| row.get(0))
}
