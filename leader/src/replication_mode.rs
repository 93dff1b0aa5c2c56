//! When a write is acknowledged: what each mode asks for, decided by a pure function.
//!
//! ```text
//! mode              acknowledged when
//! async             the leader has it durably, still leads its term, and its lease is valid
//! semi-sync(k)      the same, and k other voters have it durably; or it is committed and they have
//! quorum            it is committed
//! sync(who, point)  it is committed, and those named have reached the point
//! ```
//!
//! What is decided for a write holds for every earlier one of the same term and mode too: positions
//! of a log are reached in order. So those who wait are told in order, and the first who must go on
//! waiting ends the round.

use std::collections::{BTreeMap, BTreeSet};

pub use common::consistency::{AckPoint, ReplicationMode, Who};
use common::ids::{LogPos, NodeId, Region};
use serde::{Deserialize, Serialize};

/// What a write has achieved, as far as the one who tells knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckReport {
    /// Whether it is committed: then no failover loses it.
    pub committed: bool,
    /// Members known to have it in their synced log. Not asked for, so empty, when a commit alone
    /// was waited for.
    pub durable: BTreeSet<NodeId>,
    /// Members known to have applied it.
    pub applied: BTreeSet<NodeId>,
}

/// What the leader of a term knows at one moment. All positions are of its own log.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The leader.
    pub(crate) leader: NodeId,
    /// The term it leads now, if its lease is valid.
    pub(crate) leads: Option<u64>,
    /// The last entry that is known committed.
    pub(crate) committed: Option<LogPos>,
    /// The last entry that each member has durably, the leader included.
    pub(crate) durable: BTreeMap<NodeId, LogPos>,
    /// The last entry that each member has applied, the leader included.
    pub(crate) applied: BTreeMap<NodeId, LogPos>,
    /// Members that have answered within one lease.
    pub(crate) present: BTreeSet<NodeId>,
}

impl Progress {
    fn reached(&self, member: NodeId, at: LogPos, point: AckPoint) -> bool {
        let positions = match point {
            AckPoint::Durable => &self.durable,
            AckPoint::Applied => &self.applied,
        };
        positions.get(&member).is_some_and(|reached| reached.index >= at.index)
    }

    /// What is known of an entry.
    pub(crate) fn report(&self, at: LogPos) -> AckReport {
        let who = |positions: &BTreeMap<NodeId, LogPos>| {
            positions.iter().filter(|(_, p)| p.index >= at.index).map(|(id, _)| *id).collect()
        };
        AckReport {
            committed: self.is_committed(at),
            durable: who(&self.durable),
            applied: who(&self.applied),
        }
    }

    fn is_committed(&self, at: LogPos) -> bool {
        self.committed.is_some_and(|committed| committed.index >= at.index)
    }
}

/// The members that modes speak of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    /// Those with a vote, of every configuration in force.
    pub(crate) voters: BTreeSet<NodeId>,
    /// Those without.
    pub(crate) learners: BTreeSet<NodeId>,
    /// Where members are, for those who have said so.
    pub(crate) regions: BTreeMap<NodeId, Region>,
}

impl Members {
    fn has(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// Whether a write is acknowledged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is.
    Acknowledge,
    /// Not yet.
    Wait,
    /// It cannot be, while the members are these.
    Impossible,
}

/// Whether a mode can be honoured by these members at all, or why not.
pub(crate) fn check(mode: &ReplicationMode, members: &Members) -> Result<(), String> {
    let names = |n: u8, names: &[NodeId]| {
        let distinct: BTreeSet<NodeId> = names.iter().copied().collect();
        if let Some(unknown) = distinct.iter().find(|id| !members.has(**id)) {
            return Err(format!("node {unknown} is not a member"));
        }
        if n == 0 || usize::from(n) > distinct.len() {
            let of = distinct.len();
            return Err(format!("{n} of {of} nodes were asked for; ask for 1 to {of}"));
        }
        Ok(())
    };
    match mode {
        ReplicationMode::Async
        | ReplicationMode::Quorum
        | ReplicationMode::Sync { who: Who::All, .. } => Ok(()),
        ReplicationMode::SemiSync { followers } => {
            let others = members.voters.len().saturating_sub(1);
            if usize::from(*followers) > others {
                return Err(format!(
                    "{followers} followers were asked for, and there are {others} voters besides \
                     the leader"
                ));
            }
            Ok(())
        }
        ReplicationMode::Sync { who: Who::First(n, of) | Who::Any(n, of), .. } => names(*n, of),
        ReplicationMode::Sync { who: Who::EachDatacenter(regions), .. } => {
            if regions.is_empty() {
                return Err("no region was named".to_owned());
            }
            for (region, n) in regions {
                let there = members.regions.values().filter(|r| *r == region).count();
                if *n == 0 || usize::from(*n) > there {
                    return Err(format!(
                        "{n} members of region {region} were asked for, and it has {there}"
                    ));
                }
            }
            Ok(())
        }
    }
}

/// Whether a mode may acknowledge before the commit, when the reply is known already.
pub(crate) const fn is_early(mode: &ReplicationMode) -> bool {
    matches!(mode, ReplicationMode::Async | ReplicationMode::SemiSync { .. })
}

/// Whether a commit satisfies a mode, so that nothing more needs to be waited for.
pub(crate) fn commit_is_enough(mode: &ReplicationMode, members: &Members) -> bool {
    match mode {
        ReplicationMode::Async | ReplicationMode::Quorum => true,
        // A majority besides the leader, or with it: so many others have it in either case.
        ReplicationMode::SemiSync { followers } => {
            usize::from(*followers) <= members.voters.len() / 2
        }
        ReplicationMode::Sync { .. } => false,
    }
}

/// Whether the write at `at` is acknowledged.
pub(crate) fn decide(
    mode: &ReplicationMode,
    at: LogPos,
    seen: &Progress,
    members: &Members,
) -> Decision {
    use Decision::{Acknowledge, Impossible, Wait};
    let when = |holds: bool| if holds { Acknowledge } else { Wait };
    if check(mode, members).is_err() {
        return Impossible;
    }
    let early = seen.leads == Some(at.term) && seen.reached(seen.leader, at, AckPoint::Durable);
    let committed = seen.is_committed(at);
    match mode {
        ReplicationMode::Async => when(early || committed),
        ReplicationMode::SemiSync { followers } => {
            let others = members.voters.iter().filter(|id| **id != seen.leader);
            let held = others.filter(|id| seen.reached(**id, at, AckPoint::Durable)).count();
            let enough = held >= usize::from(*followers);
            let enough = common::mutate!("semi_sync_degrades_silently", enough, true);
            when((early || committed) && enough)
        }
        ReplicationMode::Quorum => when(committed),
        ReplicationMode::Sync { .. } if !committed => Wait,
        ReplicationMode::Sync { who, point } => when(match who {
            Who::All => members.voters.iter().all(|id| seen.reached(*id, at, *point)),
            Who::Any(n, of) => {
                let of: BTreeSet<NodeId> = of.iter().copied().collect();
                of.iter().filter(|id| seen.reached(**id, at, *point)).count() >= usize::from(*n)
            }
            Who::First(n, of) => {
                let mut named = BTreeSet::new();
                let present = of.iter().filter(|id| named.insert(**id)).filter(|id| {
                    **id == seen.leader
                        || seen.present.contains(id)
                        || seen.reached(**id, at, *point)
                });
                let first: Vec<&NodeId> = present.take(usize::from(*n)).collect();
                first.len() == usize::from(*n)
                    && first.iter().all(|id| seen.reached(**id, at, *point))
            }
            Who::EachDatacenter(regions) => regions.iter().all(|(region, n)| {
                let there = members.regions.iter().filter(|(_, r)| *r == region);
                there.filter(|(id, _)| seen.reached(**id, at, *point)).count() >= usize::from(*n)
            }),
        }),
    }
}

#[cfg(test)]
mod tests;
