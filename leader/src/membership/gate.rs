//! When a learner may have a vote: once it follows closely, and not before.
//!
//! A voter that lags counts for every majority from its first moment on. If the others cannot make
//! one without it, all writes wait until it has caught up. So a learner has to show, in three pings
//! in a row, that it lacks at most 1,000 entries and that its state is at most a second old.
//!
//! The age is proven by the leader's clock alone: the leader notes how far the log is committed, asks
//! the learner to say when it has applied that much, and looks how long that took.

use std::time::Duration;

use common::env::Env;
use common::ids::NodeId;

use crate::error::AdminError;
use crate::raft::Consensus;

/// How many entries a learner may lack.
pub(crate) const CLOSE: u64 = 1_000;
/// How old its state may be.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// How many pings in a row must pass.
const PINGS: u32 = 3;
/// How long after a ping the next one begins.
const PAUSE: Duration = Duration::from_millis(100);

/// What one ping has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ping {
    /// How many entries the learner lacks.
    pub(crate) lag: u64,
    /// How old its state is at most; none if it did not show that in time.
    pub(crate) age: Option<Duration>,
}

impl Ping {
    fn passes(self) -> bool {
        self.lag <= CLOSE && self.age.is_some_and(|age| age <= FRESH)
    }
}

/// Counts the pings that passed in a row.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    passed: u32,
}

impl Gate {
    /// Takes a ping; whether the gate is open now.
    pub(crate) fn take(&mut self, ping: Ping) -> bool {
        self.passed = if ping.passes() { self.passed + 1 } else { 0 };
        self.passed >= PINGS
    }
}

/// Returns when a learner has passed. Without `wait` the first ping that fails refuses it; else what
/// it shows when that time is over.
pub(crate) async fn pass(
    env: &Env,
    consensus: &Consensus,
    id: NodeId,
    wait: Option<Duration>,
) -> Result<(), AdminError> {
    let until = env.now() + wait.unwrap_or_default();
    let mut gate = Gate::default();
    loop {
        if consensus.leads().is_none() {
            return Err(AdminError::NotLeader { this: env.node, leader: consensus.leader() });
        }
        let ping = ping(env, consensus, id).await;
        if gate.take(ping) {
            return Ok(());
        }
        if !ping.passes() && env.now() >= until {
            return Err(AdminError::NotCaughtUp { id, lag: ping.lag, age: ping.age });
        }
        env.sleep(PAUSE).await;
    }
}

async fn ping(env: &Env, consensus: &Consensus, id: NodeId) -> Ping {
    let begun = env.now();
    let goal = consensus.view().committed;
    let applied = match goal {
        Some(goal) => consensus.applied_by(id, goal, FRESH).await,
        None => None,
    };
    let reached = applied.is_some_and(|at| goal.is_none_or(|goal| at.index >= goal.index));
    let age = reached.then(|| env.now().since(begun));
    // Its log begins at 0: a learner that holds nothing lacks one more than the last index.
    let last = consensus.view().last_log.map_or(0, |last| last + 1);
    let holds = consensus.matched().get(&id).map_or(0, |at| at.index + 1);
    Ping { lag: last.saturating_sub(holds), age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_good_pings_in_a_row_open_the_gate() {
        let ping = |lag, millis: Option<u64>| Ping { lag, age: millis.map(Duration::from_millis) };
        let good = ping(1_000, Some(1_000));
        for bad in [ping(1_001, Some(0)), ping(0, Some(1_001)), ping(0, None)] {
            let mut gate = Gate::default();
            let taken = [good, good, bad, good, good, good, good].map(|ping| gate.take(ping));
            assert_eq!(taken, [false, false, false, false, false, true, true], "{bad:?}");
        }
    }
}
