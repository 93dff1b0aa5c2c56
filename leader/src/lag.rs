//! How old this member's state may be, proven by one clock only.
//!
//! A member notes the time `t0` by its own monotonic clock and asks the leader how far the log is
//! committed; the leader answers by its lease, or by a round to a majority begun after the question.
//! Once that much is applied here, the state has every write that was committed before `t0`: from
//! then on its age is at most `now - t0`. No two clocks are ever compared.
//!
//! While somebody reads with a bound, a proof is renewed every [`Config::heartbeat_interval`], so
//! that a read within a bound above that costs no round trip. A member that nobody asks so asks
//! nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::env::{Env, Mono};
use common::{mutate, sometimes};
use tokio::sync::Notify;

use crate::apply::Applier;
use crate::config::Config;
use crate::error::ReadError;
use crate::read::{Groups, wait_applied};

/// How long after a bounded read the proof is still renewed.
const WANTED: Duration = Duration::from_secs(1);

/// What is proven of this member's state.
#[derive(Clone, Debug)]
pub(crate) struct Freshness(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    env: Env,
    lease: Groups,
    applier: Arc<dyn Applier>,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that was committed before this is applied here.
    proven: Option<Mono>,
    /// The last bounded read.
    asked: Option<Mono>,
}

impl Freshness {
    /// Starts without a proof.
    pub(crate) fn start(
        env: &Env,
        config: &Config,
        lease: Groups,
        applier: Arc<dyn Applier>,
    ) -> Self {
        let parts = Parts {
            env: env.clone(),
            lease,
            applier,
            state: Mutex::default(),
            wanted: Notify::new(),
        };
        let freshness = Self(Arc::new(parts));
        env.spawn("proofs of freshness", renew(freshness.clone(), config.heartbeat_interval));
        freshness
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old the state may be, if anything is proven.
    pub(crate) fn age(&self) -> Option<Duration> {
        let proven = self.state().proven?;
        Some(self.0.env.now().since(proven))
    }

    /// Returns when the state has every write that was committed `age` before this was asked.
    pub(crate) async fn within(&self, age: Duration, timeout: Duration) -> Result<(), ReadError> {
        let begun = self.0.env.now();
        let proven = {
            let mut state = self.state();
            state.asked = Some(begun);
            state.proven
        };
        self.0.wanted.notify_one();
        let fresh = proven.is_some_and(|proven| begun.since(proven) <= age);
        if mutate!("bounded_reads_trust_old_proofs", fresh, proven.is_some()) {
            sometimes!("bounded-read-without-a-round");
            return Ok(());
        }
        self.prove(timeout).await
    }

    /// Asks the leader, and waits until what it says is applied.
    async fn prove(&self, timeout: Duration) -> Result<(), ReadError> {
        let Parts { env, lease, applier, .. } = &*self.0;
        let begun = env.now();
        let index = lease.index(timeout).await?;
        let left = timeout.saturating_sub(env.now().since(begun));
        wait_applied(env, &mut applier.watch(), index.at, left).await?;
        let mut state = self.state();
        state.proven = state.proven.max(Some(begun));
        Ok(())
    }
}

/// How fast this member applies entries, by what was seen of late.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    when: Mono,
    applied: u64,
    /// Entries per second, once two looks are far enough apart.
    pace: Option<f64>,
}

impl Pace {
    /// The shortest time that tells something.
    const LEAST: Duration = Duration::from_millis(50);
    /// What is older tells nothing of now.
    const OLDEST: Duration = Duration::from_secs(5);

    /// How long it takes until `wanted` is applied, by the pace of late; none where that is unknown.
    pub(crate) fn wait(&self, now: Mono, applied: u64, wanted: u64) -> Option<Duration> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen.filter(|seen| now.since(seen.when) < Self::OLDEST);
        let pace = match fresh {
            Some(seen) if now.since(seen.when) < Self::LEAST => seen.pace,
            Some(last) => {
                let entries = applied.saturating_sub(last.applied) as f64;
                let pace = Some(entries / now.since(last.when).as_secs_f64());
                *seen = Some(Seen { when: now, applied, pace });
                pace
            }
            None => {
                *seen = Some(Seen { when: now, applied, pace: None });
                None
            }
        };
        let missing = wanted.saturating_sub(applied) as f64;
        if missing == 0.0 {
            return Some(Duration::ZERO);
        }
        Some(Duration::try_from_secs_f64(missing / pace?).unwrap_or(Duration::MAX))
    }
}

/// Renews the proof while bounded reads come.
async fn renew(freshness: Freshness, every: Duration) {
    let env = freshness.0.env.clone();
    loop {
        freshness.0.wanted.notified().await;
        while freshness.state().asked.is_some_and(|at| env.now().since(at) < WANTED) {
            let _ = freshness.prove(every * 10).await;
            env.sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_still_never_catches_up_and_one_that_moves_does() {
        let (pace, at) = (Pace::default(), |millis| Mono(Duration::from_millis(millis)));
        assert_eq!(pace.wait(at(0), 100, 200), None, "nothing is known");
        assert_eq!(pace.wait(at(1_000), 150, 200), Some(Duration::from_secs(1)));
        assert_eq!(pace.wait(at(1_010), 160, 160), Some(Duration::ZERO));
        assert_eq!(pace.wait(at(2_000), 150, 200), Some(Duration::MAX));
        assert_eq!(pace.wait(at(9_000), 150, 200), None, "what was known is too old");
    }
}
