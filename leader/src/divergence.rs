//! Members that should be equal and are not: found, quarantined, repaired.
//!
//! Deterministic machines, one log and atomic batches make all members equal, as long as disks,
//! memory and code do what they should. So that a failure of these is not served for years:
//!
//! ```text
//! check         an entry of the log: every `check_interval`, or when somebody asks
//! cut           each member pins its state at exactly that position, when it applies the entry
//! hash          it reads the cut through in the background, at a limited rate
//! compare       and asks the others for theirs, until all have answered or the next check comes
//! verdict       a hash that more than half of the voters have is right
//! quarantine    who has another one serves no reads, and hands leadership over
//! repair        it asks one who has the right hash for a snapshot, and takes it for its state
//! ```
//!
//! Every member judges itself, so no leader is needed that might be the wrong one. Without a
//! majority there is an alarm and no guess. The quarantine is in a file, so that a restart does not
//! end it; its log stays as it is meanwhile, since the repaired state goes on from there.
//!
//! What it does not do: until a check is done, a member serves what it has. A member that is down is
//! compared at the next check. Damage that no read of the engine shows, such as to an index beside
//! the data, is not found.

mod compare;
mod quarantine;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::env::Env;
use common::ids::{LogPos, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::OpenError;
use crate::state_hash::StateHash;

pub(crate) use compare::{collect, compare, hash_cuts, propose};
pub(crate) use repair::repair;

/// How many results a member remembers, for others that are slower.
const REMEMBERED: usize = 8;

/// Why a member serves no reads: its state differs from that of the majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The position that was compared.
    pub at: LogPos,
    /// This member's state there.
    pub own: StateHash,
    /// The majority's.
    pub majority: StateHash,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its state differs from that of the majority at term {} index {}: {}, not {}",
            self.at.term, self.at.index, self.own, self.majority
        )
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The position at which the states were compared.
    pub at: LogPos,
    /// What each member has; none of those that have not answered in time.
    pub members: BTreeMap<NodeId, Option<StateHash>>,
    /// What more than half of the voters have, if they agree.
    pub majority: Option<StateHash>,
}

impl Checked {
    /// The members that have another state than the majority, and are quarantined.
    pub fn differing(&self) -> Vec<NodeId> {
        let Some(majority) = self.majority else { return Vec::new() };
        let other = |(_, state): &(&NodeId, &Option<StateHash>)| {
            state.is_some_and(|state| state != majority)
        };
        self.members.iter().filter(other).map(|(id, _)| *id).collect()
    }

    /// The members that have not answered.
    pub fn silent(&self) -> Vec<NodeId> {
        self.members.iter().filter(|(_, state)| state.is_none()).map(|(id, _)| *id).collect()
    }
}

/// What more than half of the voters have.
fn majority(voters: &BTreeSet<NodeId>, states: &BTreeMap<NodeId, StateHash>) -> Option<StateHash> {
    let mut counts: BTreeMap<StateHash, usize> = BTreeMap::new();
    for state in voters.iter().filter_map(|voter| states.get(voter)) {
        *counts.entry(*state).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count > voters.len() / 2).map(|(state, _)| state)
}

/// What a member knows of its own state: the results of checks, and whether it is quarantined.
#[derive(Clone, Debug)]
pub(crate) struct Integrity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    results: Mutex<Results>,
    newest: watch::Sender<Option<LogPos>>,
    quarantine: watch::Sender<Option<Quarantined>>,
    /// How often the state was replaced by a repair.
    replaced: AtomicU64,
}

/// What this member has found of its state.
#[derive(Debug, Default)]
struct Results {
    /// At each check, as the state is now: a repair forgets them.
    now: BTreeMap<LogPos, StateHash>,
    /// At each check, what was found first: a repair does not hide that it was needed.
    first: BTreeMap<LogPos, StateHash>,
}

impl Integrity {
    /// As the folder says.
    pub(crate) async fn open(env: &Env) -> Result<Self, OpenError> {
        let known = quarantine::read(&env.disk).await?;
        if let Some(known) = &known {
            tracing::error!("this node is in quarantine: {known}");
        }
        Ok(Self(Arc::new(Inner {
            env: env.clone(),
            results: Mutex::default(),
            newest: watch::Sender::new(None),
            quarantine: watch::Sender::new(known),
            replaced: AtomicU64::new(0),
        })))
    }

    /// The state's hash at a position is known.
    fn note(&self, at: LogPos, state: StateHash) {
        let mut results = self.results();
        results.now.insert(at, state);
        results.first.entry(at).or_insert(state);
        while results.first.len() > REMEMBERED {
            results.first.pop_first();
        }
        while results.now.len() > REMEMBERED {
            results.now.pop_first();
        }
        drop(results);
        self.0.newest.send_replace(Some(at));
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.0.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this member's state is at a check, as far as it is not repaired since.
    pub(crate) fn result(&self, at: LogPos) -> Option<StateHash> {
        self.results().now.get(&at).copied()
    }

    /// What this member has found first at a check.
    pub(crate) fn found(&self, at: LogPos) -> Option<StateHash> {
        self.results().first.get(&at).copied()
    }

    /// Why this member serves no reads, if so.
    pub(crate) fn quarantined(&self) -> Option<Quarantined> {
        *self.0.quarantine.borrow()
    }

    /// From now on this member serves no reads.
    async fn quarantine(&self, why: Quarantined) {
        self.0.quarantine.send_replace(Some(why));
        if let Err(error) = quarantine::write(&self.0.env.disk, &why).await {
            tracing::error!(%error, "the quarantine cannot be saved: a restart would end it");
        }
    }

    /// How often the state was replaced by a repair.
    fn replaced(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }

    /// The state was replaced by a good one. What was found of the former says nothing any more.
    pub(crate) async fn lift(&self) {
        self.0.replaced.fetch_add(1, Ordering::Relaxed);
        self.results().now.clear();
        if let Err(error) = quarantine::remove(&self.0.env.disk).await {
            tracing::error!(%error, "the file of the quarantine cannot be removed");
        }
        self.0.quarantine.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_voters_decide_and_nobody_else() {
        let state = |hash| StateHash { items: 1, hash };
        let voters = |upto| (1..=upto).map(NodeId).collect::<BTreeSet<_>>();
        let states = |all: &[(u64, u64)]| {
            all.iter().map(|(id, hash)| (NodeId(*id), state(*hash))).collect::<BTreeMap<_, _>>()
        };
        for (upto, all, expected) in [
            (3, &[(1, 7), (2, 7)][..], Some(7)),
            (3, &[(1, 7), (2, 8)], None),
            (3, &[(1, 7), (2, 8), (3, 8)], Some(8)),
            (3, &[(1, 7), (2, 8), (3, 9)], None),
            (4, &[(1, 7), (2, 7), (3, 8)], None),
            (2, &[(1, 7), (2, 8)], None),
            (1, &[(1, 7)], Some(7)),
            (3, &[(1, 7), (4, 7), (5, 7)], None),
            (0, &[(4, 7)], None),
        ] {
            let found = majority(&voters(upto), &states(all));
            assert_eq!(found, expected.map(state), "{upto} voters, {all:?}");
        }
    }
}
