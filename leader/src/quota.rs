//! Quotas: how large the replicated state may become, and how large it is.
//!
//! ```text
//! apply      counts what each batch adds and takes, in the batch itself       usage, on every member
//! admission  the leader judges what a command would add to its state          refused: not applied
//! ```
//!
//! Usage is the bytes of the machine's rows, keys and values as they are stored, and the number of
//! its keys. It is a row of the state: equal on all members at a position, in snapshots and in
//! backups. What is deleted is subtracted at once, so nothing ever has to be compacted before writes
//! go on.
//!
//! A soft limit warns, by an event and in the status. A hard one has the leader refuse what would grow
//! the state over it. **What does not grow the state always passes**: deletes, expiry, overwriting by
//! something smaller. Far below a limit a command is counted by its size; near it, the leader tries
//! the command on its state first, and counts what it really adds. Commands that are under way at the
//! same time are counted with their size, so a limit is kept but for what a few of them multiply
//! together, such as copies.
//!
//! ```text
//! keyspace "leader.usage":  "usage" -> bytes, keys          "quota" -> limits, once they are set
//! ```

mod count;
mod warn;

use std::fmt;

use common::mutate;
use serde::{Deserialize, Serialize};

pub(crate) use count::{Counter, LIMITS, USAGE, count, encode_quota, read_usage};
pub(crate) use warn::warn;

/// How large a state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of the machine's rows: keys and values, as they are stored.
    pub bytes: u64,
    /// How many keys there are, as the machine counts them.
    pub keys: u64,
}

/// Bounds of one measure. Absent: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Above it, the node warns.
    pub soft: Option<u64>,
    /// Growth over it is refused.
    pub hard: Option<u64>,
}

/// How large a state may become. Default: without bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Bytes of the machine's rows.
    pub bytes: Limit,
    /// Keys.
    pub keys: Limit,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Bytes of the machine's rows.
    Bytes,
    /// Keys.
    Keys,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Keys => "keys",
        })
    }
}

/// Why a command was refused: it would grow the state over its hard quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "the state has {used} of {limit} {measure}, and this would be more; not applied; delete keys or \
     raise the quota"
)]
pub struct OverQuota {
    /// Of what.
    pub measure: Measure,
    /// How much there is, with what is under way.
    pub used: u64,
    /// The hard limit.
    pub limit: u64,
}

/// How a state stands to its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// Below all limits.
    #[default]
    Within,
    /// Above a soft limit.
    Warned,
    /// At a hard limit or above it.
    Full,
}

/// What a command adds to a state; negative, if it takes something away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) bytes: i64,
    pub(crate) keys: i64,
}

impl Change {
    /// Both, one after the other.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, keys: self.keys + other.keys }
    }

    /// As usage; what takes something away needs no room.
    pub(crate) fn room(self) -> Usage {
        Usage { bytes: self.bytes.max(0) as u64, keys: self.keys.max(0) as u64 }
    }
}

impl Usage {
    /// With a change. Counts never go below nothing.
    pub(crate) const fn with(self, change: Change) -> Self {
        Self {
            bytes: self.bytes.saturating_add_signed(change.bytes),
            keys: self.keys.saturating_add_signed(change.keys),
        }
    }

    /// Both together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            keys: self.keys.saturating_add(other.keys),
        }
    }
}

impl Quota {
    /// Whether growth is bounded at all.
    pub(crate) const fn is_hard(&self) -> bool {
        self.bytes.hard.is_some() || self.keys.hard.is_some()
    }

    /// How a state of this size stands to it.
    pub fn judge(&self, usage: Usage) -> Fullness {
        let measures = [(self.bytes, usage.bytes), (self.keys, usage.keys)];
        let judged = measures.map(|(limit, used)| {
            if limit.hard.is_some_and(|hard| used >= hard) {
                Fullness::Full
            } else if limit.soft.is_some_and(|soft| used > soft) {
                Fullness::Warned
            } else {
                Fullness::Within
            }
        });
        judged.into_iter().max().unwrap_or_default()
    }

    /// Refuses soft limits over hard ones.
    pub fn validate(&self) -> Result<(), String> {
        for (measure, limit) in [(Measure::Bytes, self.bytes), (Measure::Keys, self.keys)] {
            if let Limit { soft: Some(soft), hard: Some(hard) } = limit
                && soft > hard
            {
                return Err(format!(
                    "the soft limit of {soft} {measure} is over the hard one of {hard}: nobody would \
                     be warned"
                ));
            }
        }
        Ok(())
    }

    /// What refuses a change, for a state of this size. Only what grows is ever refused.
    pub(crate) fn refuses(&self, usage: Usage, change: Change) -> Option<OverQuota> {
        let measures = [
            (Measure::Bytes, self.bytes, usage.bytes, change.bytes),
            (Measure::Keys, self.keys, usage.keys, change.keys),
        ];
        measures.into_iter().find_map(|(measure, limit, used, change)| {
            let limit = limit.hard?;
            let grows = mutate!("quota_refuses_deletes", change > 0, true);
            let over = grows && used.saturating_add_signed(change) > limit;
            over.then_some(OverQuota { measure, used, limit })
        })
    }

    /// Whether a state of this size is so far below the hard limits that what commands really add need
    /// not be known.
    pub(crate) fn is_far(&self, usage: Usage) -> bool {
        /// The most that commands under way multiply, in bytes and in keys.
        const MARGIN: [u64; 2] = [64 << 20, 10_000];
        let far = |limit: Limit, used: u64, margin: u64| {
            limit.hard.is_none_or(|hard| used < hard - margin.min(hard / 8))
        };
        far(self.bytes, usage.bytes, MARGIN[0]) && far(self.keys, usage.keys, MARGIN[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        bytes: Limit { soft: Some(80), hard: Some(100) },
        keys: Limit { soft: None, hard: Some(10) },
    };

    #[test]
    fn only_what_grows_is_refused() {
        let full = Usage { bytes: 120, keys: 10 };
        let refused = |bytes, keys| QUOTA.refuses(full, Change { bytes, keys });
        assert_eq!(refused(1, 0).unwrap().measure, Measure::Bytes);
        assert_eq!(refused(-5, 1).unwrap().measure, Measure::Keys);
        for (bytes, keys) in [(0, 0), (-1, 0), (-1, -1)] {
            assert_eq!(refused(bytes, keys), None, "{bytes} {keys}");
        }
        let room = Usage { bytes: 90, keys: 9 };
        assert_eq!(QUOTA.refuses(room, Change { bytes: 10, keys: 1 }), None);
        assert!(QUOTA.refuses(room, Change { bytes: 11, keys: 0 }).is_some());
    }

    #[test]
    fn a_state_is_warned_of_above_the_soft_limit_and_full_at_the_hard_one() {
        let judged = |bytes, keys| QUOTA.judge(Usage { bytes, keys });
        assert_eq!(judged(80, 0), Fullness::Within);
        assert_eq!(judged(81, 0), Fullness::Warned);
        assert_eq!(judged(100, 0), Fullness::Full);
        assert_eq!(judged(0, 10), Fullness::Full);
        assert_eq!(Quota::default().judge(Usage { bytes: u64::MAX, keys: 1 }), Fullness::Within);
    }

    #[test]
    fn a_soft_limit_over_the_hard_one_is_refused() {
        QUOTA.validate().unwrap();
        let wrong = Quota { keys: Limit { soft: Some(11), hard: Some(10) }, ..QUOTA };
        assert!(wrong.validate().unwrap_err().contains("11 keys"));
    }
}
