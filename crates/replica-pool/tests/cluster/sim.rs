//! Copies that live in memory: what is durable survives a crash, an acknowledged record is remembered.

use std::collections::BTreeMap;

use stackbeam_replica_pool::{Action, Evidence, Failure, MemberId, Role};

/// One copy: what is durable survives a crash, the rest does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    // Durable.
    pub(crate) promised: u64,
    pub(crate) claimant: u64,
    pub(crate) log: Vec<(u64, u64)>,
    pub(crate) voter: bool,
    // Lost in a crash.
    pub(crate) up: bool,
    pub(crate) reign: Option<(u64, usize)>,
    pub(crate) following: Option<MemberId>,
    pub(crate) receipts: BTreeMap<MemberId, usize>,
}

pub(crate) struct World {
    pub(crate) copies: Vec<Copy>,
    pub(crate) fencing: bool,
    /// The coordinator cannot reach these, the other copies can.
    pub(crate) cut: [bool; 3],
    pub(crate) acknowledged: Vec<(u64, u64)>,
    pub(crate) reigned: BTreeMap<u64, MemberId>,
    pub(crate) next_value: u64,
}

impl World {
    /// Three blank copies.
    pub(crate) fn new(fencing: bool) -> Self {
        let copy = Copy {
            up: true,
            ..Copy::default()
        };
        Self {
            copies: vec![copy; 3],
            fencing,
            cut: [false; 3],
            acknowledged: Vec::new(),
            reigned: BTreeMap::new(),
            next_value: 0,
        }
    }

    /// A crash: only what is durable is left.
    pub(crate) fn crash(&mut self, id: usize) {
        let copy = &mut self.copies[id];
        copy.up = false;
        (copy.reign, copy.following) = (None, None);
        copy.receipts.clear();
    }

    pub(crate) fn evidence(&self, id: MemberId) -> Evidence {
        let copy = &self.copies[usize::from(id)];
        let role = if copy.reign.is_some() {
            Role::Primary
        } else {
            Role::Replica
        };
        let mut evidence = Evidence::new(role, copy.promised);
        evidence.claimant = copy.claimant;
        evidence.last_epoch = copy.log.last().map_or(0, |record| record.0);
        evidence.received = copy.log.len() as u64;
        evidence.applied = evidence.received;
        evidence.following = copy.following;
        evidence.voter = copy.voter;
        evidence
    }

    pub(crate) fn perform(&mut self, action: &Action) -> Result<Evidence, Failure> {
        let id = action.member();
        let fencing = self.fencing;
        let copy = &mut self.copies[usize::from(id)];
        if !copy.up {
            return Err(Failure::Refused);
        }
        match *action {
            Action::Fence {
                epoch, claimant, ..
            } => {
                if fencing && epoch > copy.promised {
                    (copy.promised, copy.claimant) = (epoch, claimant);
                    (copy.reign, copy.following) = (None, None);
                }
            }
            Action::Promote {
                epoch, claimant, ..
            } => {
                let mine = (copy.promised, copy.claimant) == (epoch, claimant);
                if (mine && copy.reign.is_none()) || (!fencing && copy.reign.is_none()) {
                    copy.promised = epoch;
                    copy.log.push((epoch, 0));
                    copy.reign = Some((epoch, copy.log.len()));
                    copy.receipts.clear();
                    copy.voter = true;
                    if fencing {
                        let before = self.reigned.insert(epoch, id);
                        assert!(
                            before.is_none_or(|before| before == id),
                            "two primaries in epoch {epoch}"
                        );
                        self.has_everything(id);
                    }
                }
            }
            Action::Follow { epoch, primary, .. } => {
                if epoch >= copy.promised || !fencing {
                    if epoch > copy.promised {
                        (copy.promised, copy.claimant) = (epoch, 0);
                    }
                    // A reigning primary is never turned round within its own epoch.
                    if copy.reign.is_none_or(|(reign, _)| reign < epoch) {
                        (copy.reign, copy.following) = (None, Some(primary));
                    }
                }
            }
            _ => {}
        }
        Ok(self.evidence(id))
    }

    /// The law: whoever is promoted has every acknowledged record. Acknowledged records are a prefix.
    pub(crate) fn has_everything(&self, id: MemberId) {
        let log = &self.copies[usize::from(id)].log;
        assert!(
            log.starts_with(&self.acknowledged),
            "{id} lacks an acknowledged record"
        );
    }

    pub(crate) fn write(&mut self, id: usize) {
        if let Some((epoch, _)) = self.copies[id].reign.filter(|_| self.copies[id].up) {
            self.next_value += 1;
            let value = self.next_value;
            self.copies[id].log.push((epoch, value));
        }
    }

    /// One pull by a replica. `keep` is false when the answer is lost on the way.
    pub(crate) fn pull(&mut self, id: usize, keep: bool) {
        let Some(primary) = self.copies[id].following.map(usize::from) else {
            return;
        };
        if !self.copies[id].up || !self.copies[primary].up || id == primary {
            return;
        }
        let me = MemberId::try_from(id).expect("three copies");
        let mine = self.copies[id].log.clone();
        let promised = self.copies[id].promised;
        let chief = &mut self.copies[primary];
        let Some((epoch, begin)) = chief.reign else {
            return;
        };
        if self.fencing && promised > epoch {
            // It meets a higher epoch and steps down.
            chief.reign = None;
            return;
        }
        let common = mine
            .iter()
            .zip(&chief.log)
            .take_while(|(mine, theirs)| mine == theirs)
            .count();
        if common == mine.len() {
            chief.receipts.insert(me, common);
            let committed = chief.receipts.values().copied().max().unwrap_or(0);
            if committed >= begin || !self.fencing {
                let known = self.acknowledged.len().min(committed);
                assert_eq!(
                    self.acknowledged[..known],
                    chief.log[..known],
                    "history was rewritten"
                );
                self.acknowledged
                    .extend_from_slice(&chief.log[known..committed]);
            }
        }
        if keep && (!self.fencing || promised <= epoch) {
            let log = chief.log.clone();
            let copy = &mut self.copies[id];
            copy.promised = copy.promised.max(epoch);
            copy.log.truncate(common);
            // A few records at a time, so that replicas differ.
            copy.log.extend(log.iter().skip(common).take(3));
            copy.voter |= copy.log.len() >= begin;
        }
    }
}
